"""Options of compiled programs depend on the processor; compiled products are timed once."""

import pytest
import torch

from llm_scratch.hardware import compiled_products, trials
from llm_scratch.hardware.compiled_products import WIDE_COPIES, compile_options, compiled_seconds


@pytest.fixture(autouse=True)
def _new_process():
    """Ask for the options again, as in a new process."""
    compile_options.cache_clear()
    yield
    compile_options.cache_clear()


@pytest.mark.parametrize(
    ("capability", "is_known", "flag"),
    [
        ("AVX2", True, f"fast {WIDE_COPIES}"),
        ("AVX2", False, "fast"),  # GCC before 12, or clang
        ("AVX512", True, "fast"),
        ("DEFAULT", True, "fast"),
    ],
)
def test_wide_copies_are_asked_for_with_avx2_where_the_compiler_knows_them(
    capability, is_known, flag, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(compiled_products, "accepts_option", lambda option: is_known)
    assert compile_options() == {"cpp.enable_floating_point_contract_flag": flag}


def test_products_are_compiled_and_timed_once(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(trials, "_answers", {})
    compiled, started = [], []

    def compile_(product, **more):
        compiled.append((product.__name__, more))
        return product

    monkeypatch.setattr(torch, "compile", compile_)

    def candidates(compiled):
        run = compiled(torch.add)
        return {"add": [lambda: run(torch.ones(2), 1)], "negate": [torch.ones(2).neg]}

    for _ in range(2):
        seconds = compiled_seconds(
            "a test", ["add", "negate"], candidates, ["width 2"], lambda: started.append(1)
        )
        assert set(seconds) == {"add", "negate"}
        assert all(0 < s < float("inf") for s in seconds.values())
    assert started == [1]
    options = compile_options() | {"cpp.threads": torch.get_num_threads()}
    assert compiled == [("add", {"options": options, "dynamic": False})]
