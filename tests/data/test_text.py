"""Windows and batches of a text: the notebooks' printed values, then properties for any text."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import text_data
from llm_scratch.data.text import GPTDatasetV1, create_dataloader_V1, split_text
from llm_scratch.errors import DATA, UserError


class Letters:
    """A tokenizer whose ids are code points."""

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        assert disallowed_special == ()
        return [ord(c) for c in text]


# Step 1 of the notebooks, by cell.


def test_verdict_has_the_notebooks_characters_and_tokens(verdict, gpt2):
    assert len(verdict) == 20_479
    ids = gpt2.encode(verdict)
    assert len(ids) == 5145  # cell 35
    assert (ids[50:54], ids[51:55]) == ([290, 4920, 2241, 287], [4920, 2241, 287, 257])  # cell 38
    assert (
        f"{gpt2.decode(ids[50:51])} ----> {gpt2.decode(ids[51:52])}" == " and ---->  established"
    )  # cell 39


def test_dataloader_yields_the_notebooks_first_two_pairs(verdict, gpt2):
    batches = iter(
        create_dataloader_V1(
            verdict, batch_size=1, max_length=4, stride=4, shuffle=False, tokenizer=gpt2
        )
    )
    first, second = next(batches), next(batches)
    assert [t.tolist() for t in first] == [
        [[40, 367, 2885, 1464]],
        [[367, 2885, 1464, 1807]],
    ]  # cell 43
    assert [t.tolist() for t in second] == [
        [[1807, 3619, 402, 271]],
        [[3619, 402, 271, 10899]],
    ]  # cell 44


def test_dataloader_equals_the_notebooks_batch_of_eight(verdict, gpt2):
    inputs, targets = next(
        iter(create_dataloader_V1(verdict, 8, 4, 4, shuffle=False, tokenizer=gpt2))
    )
    assert inputs.shape == targets.shape == (8, 4)
    assert inputs[:, 0].tolist() == [40, 1807, 10899, 15632, 922, 568, 1049, 284]  # cell 45
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.flatten()[1:].equal(targets.flatten()[:-1])


def test_embedded_batch_has_the_notebooks_shape(verdict, gpt2):
    torch.manual_seed(124)
    weight = torch.nn.Embedding(50257, 10).weight.detach()
    row = [
        -0.7559,
        -0.3033,
        -1.3482,
        0.7074,
        -0.8038,
        -0.2067,
        0.3137,
        1.7624,
        -0.2038,
        -0.3140,
    ]  # cells 48 to 51
    torch.testing.assert_close(weight[3], torch.tensor(row), rtol=0, atol=5e-5)
    torch.testing.assert_close(
        weight[0, [0, 1, 2, 7, 8, 9]],
        torch.tensor([-0.5728, 0.2498, 1.21, -1.0395, 0.0552, 1.3901]),
        rtol=0,
        atol=5e-5,
    )
    inputs, _ = next(iter(create_dataloader_V1(verdict, 8, 50, 50, shuffle=False, tokenizer=gpt2)))
    tokens = torch.nn.Embedding(50257, 256)(inputs)
    places = torch.nn.Embedding(50, 256)(torch.arange(50))
    assert inputs.shape == (8, 50)  # cell 55
    assert tokens.shape == (tokens + places).shape == (8, 50, 256)  # cells 56, 60
    assert places.shape == (50, 256)  # cell 58


# Step 4: the split and its loaders.


def test_split_equals_that_of_step_4(verdict, gpt2):
    train, val = split_text(verdict, 0.8)
    assert (len(train), train + val) == (16_383, verdict)
    shapes = {}
    for name, text in (("train", train), ("val", val)):
        loader = create_dataloader_V1(
            text, 2, 256, 256, shuffle=name == "train", drop_last=name == "train", tokenizer=gpt2
        )
        shapes[name] = [tuple(inputs.shape) for inputs, _ in loader]
    assert shapes == {"train": [(2, 256)] * 8, "val": [(2, 256)] * 2}  # cells 20, 21


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_split_rejects_a_share_outside_0_to_1(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_text("abc", share)


# Properties for any text.


@given(n=st.integers(2, 80), max_length=st.integers(1, 30), stride=st.integers(1, 40))
def test_windows_are_those_of_the_notebooks_loop(n, max_length, stride):
    text = "".join(chr(40 + i) for i in range(n))
    ids = Letters().encode(text)
    starts = range(0, len(ids) - max_length, stride)
    if not starts:
        with pytest.raises(UserError):
            GPTDatasetV1(text, Letters(), max_length, stride)
        return
    dataset = GPTDatasetV1(text, Letters(), max_length, stride)
    assert len(dataset) == len(dataset.input_ids) == len(dataset.target_ids) == len(starts)
    assert dataset.input_ids.tolist() == [ids[i : i + max_length] for i in starts]
    assert dataset.target_ids.tolist() == [ids[i + 1 : i + max_length + 1] for i in starts]
    x, y = dataset[len(dataset) - 1]
    assert x[1:].equal(y[:-1])


def test_dataloader_order_equals_a_plain_dataloader():
    text = "".join(map(chr, range(300, 400)))
    pairs = [
        (
            torch.tensor([ord(c) for c in text[i : i + 8]]),
            torch.tensor([ord(c) for c in text[i + 1 : i + 9]]),
        )
        for i in range(0, 92, 3)
    ]
    torch.manual_seed(123)
    plain = [
        x.tolist()
        for _ in range(2)
        for x, _ in DataLoader(pairs, batch_size=4, shuffle=True, drop_last=True)
    ]
    torch.manual_seed(123)
    loader = create_dataloader_V1(text, 4, 8, 3, tokenizer=Letters())
    assert [x.tolist() for _ in range(2) for x, _ in loader] == plain
    assert len(plain) == 2 * (31 // 4)


def test_overlap_costs_no_memory():
    dataset = GPTDatasetV1("x" * 10_000, Letters(), 1000, 1)
    assert dataset.input_ids.untyped_storage().nbytes() == 8 * 10_000
    assert (
        dataset.target_ids.untyped_storage().data_ptr()
        == dataset.input_ids.untyped_storage().data_ptr()
    )


def test_dataset_is_picklable():
    dataset = GPTDatasetV1("abcdefghij", Letters(), 3, 2)
    assert pickle.loads(pickle.dumps(dataset)).target_ids.equal(dataset.target_ids)


def test_workers_and_batch_size_reach_the_loader():
    loader = create_dataloader_V1("x" * 99, 5, 8, 8, num_workers=2, tokenizer=Letters())
    assert (loader.num_workers, loader.batch_size, loader.drop_last) == (2, 5, True)


def test_dataloader_uses_gpt2s_tokenizer_by_default(verdict, gpt2, monkeypatch):
    import llm_scratch.tokenizers

    monkeypatch.setattr(
        llm_scratch.tokenizers,
        "TOKENIZERS",
        {"gpt2": lambda texts, vocab_size: gpt2},
        raising=False,
    )
    inputs, _ = next(iter(create_dataloader_V1(verdict, shuffle=False)))
    assert inputs.shape == (4, 256)
    assert inputs[1, 0] == gpt2.encode(verdict)[128]


def test_special_token_in_the_text_is_encoded_as_text(gpt2):
    text = "one<|endoftext|>two"
    assert gpt2.eot_token not in GPTDatasetV1(text, gpt2, 1, 1).target_ids
    assert (
        gpt2.eot_token
        in GPTDatasetV1(text, gpt2, 1, 1, allowed_special={"<|endoftext|>"}).target_ids
    )


# Errors.


@pytest.mark.parametrize("text", ["", "x", "x" * 8])
def test_dataset_rejects_a_text_shorter_than_one_window(text):
    with pytest.raises(
        UserError, match=f"the text has {len(text)} tokens, one example of max_length=8 needs 9"
    ) as error:
        create_dataloader_V1(text, 1, 8, 8, tokenizer=Letters())
    assert error.value.code == DATA


def test_dataloader_rejects_a_text_shorter_than_one_batch():
    with pytest.raises(
        UserError, match="2 examples of 8 tokens, less than one batch of 4; .* drop_last=False"
    ) as error:
        create_dataloader_V1("x" * 17, 4, 8, 8, tokenizer=Letters())
    assert error.value.code == DATA
    assert len(create_dataloader_V1("x" * 17, 4, 8, 8, drop_last=False, tokenizer=Letters())) == 1


@pytest.mark.parametrize(("max_length", "stride"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_dataset_rejects_invalid_lengths(max_length, stride):
    with pytest.raises(ValueError, match=f"max_length={max_length} and stride={stride}"):
        GPTDatasetV1("abc", Letters(), max_length, stride)


def test_notebooks_module_reexports_text(capsys):
    assert text_data.create_dataloader_V1 is create_dataloader_V1
    assert text_data.GPTDatasetV1 is GPTDatasetV1
    assert capsys.readouterr().out == ""
