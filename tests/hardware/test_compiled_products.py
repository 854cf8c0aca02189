"""Options of compiled programs depend on the processor; compiled products are timed once."""

import pytest
import torch

from llm_scratch.hardware import compiled_products, trials
from llm_scratch.hardware.compiled_products import WIDE_COPIES, compile_options, compiled_seconds


@pytest.fixture(autouse=True)
def _new_process():
    """Choose the options again, as in a new process."""
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
def test_wide_copies_are_requested_with_avx2_where_the_compiler_knows_them(
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


@pytest.mark.parametrize("is_broken", [True, False])
def test_nothing_is_stored_if_only_uncompiled_products_work(is_broken, monkeypatch, tmp_path):
    """A compiler that fails today, on a full disk for example, may work at the next start."""
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))

    def candidates(compiled):
        def fail():
            raise RuntimeError("no space left on device")

        return {"compiled": [fail if is_broken else dict], "plain": [dict]}

    started = []
    for _ in range(2):
        monkeypatch.setattr(trials, "_answers", {})  # as in a new process
        seconds = compiled_seconds(
            "a test", ["compiled", "plain"], candidates, [], lambda: started.append(1), ["plain"]
        )
        assert (seconds["compiled"] == float("inf")) == is_broken
        assert seconds["plain"] < float("inf")
    assert len(started) == (2 if is_broken else 1)


def test_every_trial_compiles_however_many_there_were(monkeypatch, tmp_path):
    """By default torch runs a function uncompiled from its ninth kind of inputs on."""
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(trials, "_answers", {})
    compiled_widths, compile_ = set(), torch.compile

    def double(x):
        return 2 * x

    def count(graph, inputs):
        compiled_widths.add(inputs[0].shape[0])
        return graph.forward

    def count_compilations(product, *, options, dynamic):
        return compile_(product, backend=count, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", count_compilations)
    for width in range(2, 14):

        def candidates(compiled, width=width):
            run = compiled(double)
            return {"double": [lambda: run(torch.ones(width))]}

        compiled_seconds("a test", ["double"], candidates, [width], lambda: None)
    assert compiled_widths == set(range(2, 14))
