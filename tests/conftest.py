"""Shared fixtures: real texts and vocabularies, one thread for equal results, signals."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from browser import CHROMIUM, Browser
from ranks import Ranks

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("LLM_SCRATCH_DATA") or ROOT.parent / "shared" / "data")
if (DATA / "tiktoken").is_dir():
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(DATA / "tiktoken"))
os.environ["LLM_SCRATCH_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault(
    "LLM_SCRATCH_CACHE", tempfile.mkdtemp(prefix="llm-scratch-tests-")
)  # trials and programs of tests
os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # before torch: products on a GPU that repeat to the bit
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: models here are tiny, and two threads on a busy machine wait for each other

# By default hypothesis fails a test by its clock: an example of 200 ms, or examples made slowly.
SLOW_IS_FINE = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("no clock", **SLOW_IS_FINE)
hypothesis.settings.load_profile("no clock")

for number in (signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
    if (
        signal.getsignal(number) == signal.SIG_IGN
    ):  # as under `nohup make test &`; processes started by tests would inherit that
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )


TORCH_IS_2_9 = version("torch").startswith("2.9.")
MAX_MEMORY_BYTES = 10 << 30
"""of one test process: a test that runs away ends in a MemoryError,
which names it, before the machine kills processes
"""


SLOWEST_FOLDERS = ("lessons", "reliability")
"""Folders whose files take longest; the others then fill the time until all workers are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first."""
    items.sort(key=lambda item: item.path.parent.name not in SLOWEST_FOLDERS)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of the files, and limit the memory of this process and of its children.

    By default, pytest-xdist puts the files with the fewest tests last, which here are the slowest.
    """
    config.option.loadscopereorder = False
    if sys.platform == "linux" and not os.path.exists(
        "/dev/nvidiactl"
    ):  # CUDA reserves far more than it uses
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or hard > MAX_MEMORY_BYTES:
            resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, hard))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print each failure at once under CI, since a later test may hang before the summary."""
    if report.failed and os.environ.get("CI") and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} failed ({report.when}):\n{report.longreprtext}", flush=True)


@pytest.fixture(autouse=True, scope="session")
def trusted_torch_files() -> Iterator[None]:
    """With torch 2.9, read the .pth files that tests wrote: `check_version` is for untrusted ones.

    tests/interop/test_torch_file.py tests that check with every version.
    """
    with pytest.MonkeyPatch.context() as patch:
        if TORCH_IS_2_9:
            patch.setattr("llm_scratch.interop.torch_file.check_version", lambda *of_file: None)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real texts and of GPT-2's vocabulary.

    It holds the-verdict.txt and tinyshakespeare.txt; set LLM_SCRATCH_DATA to another one.
    """
    if not (DATA / "the-verdict.txt").is_file():
        pytest.skip(
            f"needs the-verdict.txt and tinyshakespeare.txt in {DATA};"
            " set LLM_SCRATCH_DATA to a folder that has them"
        )
    return DATA


@pytest.fixture(scope="session")
def verdict(data_dir: Path) -> str:
    """The notebooks' text, 20,479 characters."""
    return (data_dir / "the-verdict.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def gpt2(data_dir: Path):
    """GPT-2's tokenizer, from tiktoken's cache."""
    if "TIKTOKEN_CACHE_DIR" not in os.environ:
        pytest.skip("needs GPT-2's vocabulary in tiktoken's cache; set TIKTOKEN_CACHE_DIR")
    import tiktoken

    return tiktoken.get_encoding("gpt2")


@pytest.fixture(scope="session")
def device() -> Any:
    """Return the device of tests marked `gpu`.

    LLM_SCRATCH_TEST_DEVICE names another one; `cpu` checks the tests themselves.
    """
    import torch

    name = os.environ.get("LLM_SCRATCH_TEST_DEVICE") or "cuda"
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip(
            "needs a GPU that torch can use; LLM_SCRATCH_TEST_DEVICE=cpu tries the test itself"
        )
    return torch.device(name)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless browser that the tests of a process share."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    with Browser() as browser:
        yield browser


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, str, str], None]:
    """Record a result for docs/reliability.md, beside its target.

    To be called after the last assertion: `measured("R1", "20 of 20", "20 kills")`.
    """

    def record(row: str, result: str, target: str) -> None:
        record_property("measured", (row, result, target))

    return record


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """A server that starts distributed processes for tests (see ranks.py)."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, which Windows does not have")
    with Ranks() as started:
        yield started
