"""The fingerprint of rounding repeats, and differs if something rounds differently."""

import torch

from llm_scratch.hardware.rounding import rounding_fingerprint

CPU = torch.device("cpu")


def test_fingerprint_repeats_and_draws_nothing():
    seed, n_threads = torch.get_rng_state(), torch.get_num_threads()
    first = rounding_fingerprint.__wrapped__(CPU, "MKL")
    assert first == rounding_fingerprint.__wrapped__(CPU, "MKL")
    assert torch.equal(torch.get_rng_state(), seed)
    assert torch.get_num_threads() == n_threads


def test_fingerprint_sees_the_last_bit_of_one_value(monkeypatch):
    before = rounding_fingerprint.__wrapped__(CPU, "MKL")
    real = torch.Tensor.softmax

    def one_bit_off(x, dim):
        y = real(x, dim)
        y[0, 0] = torch.nextafter(y[0, 0], torch.ones(()))
        return y

    monkeypatch.setattr(torch.Tensor, "softmax", one_bit_off)
    assert rounding_fingerprint.__wrapped__(CPU, "MKL") != before
