"""The notebooks' folder stands on the path, as it does for a notebook, and values are compared to the precision they were printed with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "notebook"))


@pytest.fixture(scope="session")
def assert_prints():
    """`assert_prints(tensor, [0.1234, ...])`: the tensor, printed with four digits, reads like that."""

    def check(tensor, printed, digits=4):
        want = torch.tensor(printed)
        torch.testing.assert_close(tensor.detach().reshape(want.shape), want, rtol=0, atol=0.51 * 10.0**-digits)

    return check
