"""Change modules on import, without importing them early."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_import = builtins.__import__
_after: dict[str, list[Callable[[Any], None]]] = {}
_for_our_code: dict[str, ModuleType | None] = {}


class Altered(ModuleType):
    """A module that lacks some names of another one, or has other values under them."""

    def __init__(self, real: ModuleType, absent: str = "", **values: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(values, _real=real, _absent=absent.split())

    def __getattr__(self, name: str) -> Any:
        if name in self._absent:
            raise AttributeError(
                f"module {self.__name__!r} has no attribute {name!r} on this machine"
            )
        return getattr(self._real, name)


def after_import(name: str, change: Callable[[Any], None]) -> None:
    """Call `change(module)` when the module is imported."""
    _after.setdefault(name, []).append(change)


def for_our_code(name: str, module: ModuleType | None) -> None:
    """Let `import name` in llm_scratch give `module`, or fail if that is None.

    Other packages get the real one: their code for another system does not run here.
    """
    _for_our_code[name] = module


def _import_altered(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> Any:
    importer = (globals or {}).get("__name__") or ""
    if importer.partition(".")[0] == "llm_scratch" and name in _for_our_code:
        module = _for_our_code[name]
        if module is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return module
    result = _import(name, globals, locals, fromlist, level)
    package = name.partition(".")[0]
    if package in _after and not getattr(sys.modules[package].__spec__, "_initializing", False):
        for change in _after.pop(package):
            change(sys.modules[package])
    return result


builtins.__import__ = _import_altered
