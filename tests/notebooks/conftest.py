"""Values are compared to the precision that the notebooks printed them with."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def assert_prints():
    """Compare a tensor, printed with four digits: `assert_prints(tensor, [0.1234, ...])`."""

    def check(tensor, printed, digits=4):
        want = torch.tensor(printed)
        torch.testing.assert_close(
            tensor.detach().reshape(want.shape), want, rtol=0, atol=0.51 * 10.0**-digits
        )

    return check
