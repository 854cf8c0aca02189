"""The table of matrix products in `doctor` agrees with the kernels that the code chooses."""

import pytest
import torch

from llm_scratch.cli.capabilities import capabilities
from llm_scratch.hardware import packed_matmul, trials
from llm_scratch.model.kernel_choice import choose_kernel
from llm_scratch.model.quantized_kernels import KERNELS, usable


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    """Trials of small matrices, measured here."""
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(trials, "_answers", {})
    monkeypatch.setattr(packed_matmul, "MAX_TRIAL_COPIES", 1)


def test_capabilities_have_a_row_for_each_kind_of_product():
    rows = {each.name: each for each in capabilities(128)}
    assert set(rows) >= {
        "float32",
        "float32 packed",
        "bfloat16 packed",
        "compiled steps",
        *(f"{bits} bits, {name}" for name, (bits, _) in KERNELS.items()),
    }
    assert rows["float32"].speed == "1.0"
    for name, (bits, kernel) in KERNELS.items():
        row = rows[f"{bits} bits, {name}"]
        assert (row.works == "yes") == (name in usable(bits))
        assert bool(row.speed) == (name in usable(bits))
        assert row.used.startswith("to generate") == (choose_kernel(bits, 128).kernel is kernel)


def test_capabilities_report_a_dtype_that_cannot_be_packed(monkeypatch):
    monkeypatch.setattr(packed_matmul, "_can_pack", lambda dtype: dtype == torch.float32)
    rows = {each.name: each for each in capabilities(128)}
    assert (
        rows["bfloat16 packed"].works,
        rows["bfloat16 packed"].speed,
        rows["bfloat16 packed"].used,
    ) == ("no", "", "")


def test_capabilities_report_a_dtype_that_cannot_be_multiplied(monkeypatch):
    monkeypatch.setattr(packed_matmul, "can_multiply", lambda dtype, device: dtype == torch.float32)
    rows = {each.name: each for each in capabilities(128)}
    assert (rows["bfloat16"].works, rows["bfloat16"].speed) == ("no", "")
    assert rows["float32"].works == "yes"


def test_capabilities_report_a_missing_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert list(capabilities(128))[-1].works == "no: no-such-compiler is not installed"


def test_doctor_prints_the_table_and_repeats_the_timings_if_requested(llm, monkeypatch):
    result = llm("doctor")
    assert "float32 packed" in result.out, result.err
    forgotten = []
    monkeypatch.setattr(trials, "clear_timings", lambda: forgotten.append(1))
    assert llm("doctor", "--remeasure").code == 0
    assert forgotten
