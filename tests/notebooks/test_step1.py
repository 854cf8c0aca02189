"""Step 1, text to tokens to batches: the notebook's printed values.

Its mistakes must not return.
"""

from __future__ import annotations

import pytest
import torch

from llm_scratch.data.sources import read
from llm_scratch.errors import UserError
from llm_scratch.tokenizers.words import (
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    build_vocab,
    split_words,
)
from text_data import GPTDatasetV1, create_dataloader_V1

PAINTED = """"It's the last he painted,you know," Mrs.Gisburn said with pardonable pribe."""
TEA = "Hello, do like tea, is this a test?"
TEA_IDS = [5, 355, 628, 975, 5, 584, 999, 115, 10]


@pytest.fixture(scope="module")
def vocab(verdict):
    return build_vocab(verdict)


@pytest.fixture(scope="module")
def vocab_with_specials(verdict):
    return build_vocab(verdict, ("<|endoftext|>", "<|unk|>"))


def test_cells_4_9_11_the_text_its_words_and_its_vocabulary(verdict, vocab):
    assert len(verdict) == 20479
    assert len(split_words(verdict)) == 4690
    assert len(vocab) == 1130
    assert (vocab["!"], vocab["yourself"]) == (0, 1129)
    assert list(vocab.values()) == list(range(1130))


def test_cells_16_to_18_the_first_tokenizer(vocab):
    tokenizer = SimpleTokenizerV1(vocab, unknown="drop")
    ids = [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 7]
    assert tokenizer.encode(PAINTED) == ids
    assert (
        tokenizer.decode(ids)
        == '" It\' s the last he painted, you know," Mrs. Gisburn said with pardonable.'
    )
    assert (tokenizer.str_to_int, tokenizer.int_to_str[1129]) == (vocab, "yourself")


def test_cells_20_26_27_both_tokenizers_give_equal_ids(vocab, vocab_with_specials):
    for tokenizer in (
        SimpleTokenizerV1(vocab, unknown="drop"),
        SimpleTokenizerV2(vocab_with_specials, unknown="drop"),
    ):
        assert tokenizer.encode(TEA) == TEA_IDS
        assert tokenizer.decode(TEA_IDS) == ", do like tea, is this a?"


def test_cells_22_23_two_more_entries(vocab_with_specials):
    assert len(vocab_with_specials) == 1132
    assert list(vocab_with_specials.items())[-2:] == [("<|endoftext|>", 1130), ("<|unk|>", 1131)]


def test_cells_31_to_33_byte_pairs(gpt2):
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode("Hello,Do you") == [15496, 11, 5211, 345]
    assert gpt2.encode(" in that planet") == [287, 326, 5440]


def test_cells_35_38_39_tokens_and_what_follows(verdict, gpt2):
    ids = gpt2.encode(verdict)
    assert len(ids) == 5145
    sample = ids[50:]
    assert (sample[:4], sample[1:5]) == ([290, 4920, 2241, 287], [4920, 2241, 287, 257])
    assert (
        gpt2.decode(sample[:1]) + " ----> " + gpt2.decode(sample[1:2]) == " and ---->  established"
    )


def test_cells_43_44_pairs_in_order(verdict, gpt2):
    batches = iter(
        create_dataloader_V1(verdict, batch_size=1, max_length=4, stride=4, shuffle=False)
    )
    assert [t.tolist() for t in next(batches)] == [
        [[40, 367, 2885, 1464]],
        [[367, 2885, 1464, 1807]],
    ]
    assert [t.tolist() for t in next(batches)] == [
        [[1807, 3619, 402, 271]],
        [[3619, 402, 271, 10899]],
    ]


def test_cell_45_a_batch(verdict, gpt2):
    inputs, targets = next(
        iter(create_dataloader_V1(verdict, batch_size=8, max_length=4, stride=4, shuffle=False))
    )
    assert inputs.shape == targets.shape == (8, 4)
    assert inputs[:, 0].tolist() == [40, 1807, 10899, 15632, 922, 568, 1049, 284]


def test_dataset_has_the_notebooks_windows(verdict, gpt2):
    ids = gpt2.encode(verdict)
    dataset = GPTDatasetV1(verdict, gpt2, 256, 128)
    starts = range(0, len(ids) - 256, 128)
    assert len(dataset) == len(dataset.input_ids) == len(dataset.target_ids) == len(starts)
    for i, start in enumerate(starts):
        assert dataset[i][0].tolist() == ids[start : start + 256]
        assert dataset[i][1].tolist() == ids[start + 1 : start + 257]


def test_cells_48_to_51_an_embedding(assert_prints):
    torch.manual_seed(124)
    weight = torch.nn.Embedding(50257, 10).weight
    assert_prints(weight[0, [0, 1, 2, 7, 8, 9]], [-0.5728, 0.2498, 1.2100, -1.0395, 0.0552, 1.3901])
    assert_prints(
        weight[3],
        [-0.7559, -0.3033, -1.3482, 0.7074, -0.8038, -0.2067, 0.3137, 1.7624, -0.2038, -0.3140],
    )


def test_cells_55_to_60_shapes(verdict, gpt2):
    inputs, _ = next(
        iter(create_dataloader_V1(verdict, batch_size=8, max_length=50, stride=50, shuffle=False))
    )
    tokens = torch.nn.Embedding(50257, 256)(inputs)
    places = torch.nn.Embedding(50, 256)(torch.arange(50))
    assert (inputs.shape, tokens.shape, places.shape, (tokens + places).shape) == (
        (8, 50),
        (8, 50, 256),
        (50, 256),
        (8, 50, 256),
    )


# What went wrong in the notebook


def test_text_is_found_under_its_right_name_from_any_folder(
    data_dir, verdict, tmp_path, monkeypatch
):
    """The notebook searched for the-verdict.txt, and wrote and read teh-verdict.txt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(data_dir))
    assert "".join(read("verdict")) == verdict
    assert not list(tmp_path.iterdir())


def test_unknown_word_is_never_lost_silently(vocab, vocab_with_specials):
    """V1 dropped unknown words, and V2 did the same after marking them."""
    with pytest.raises(UserError, match="pribe"):
        SimpleTokenizerV1(vocab).encode(PAINTED)
    tokenizer = SimpleTokenizerV2(vocab_with_specials)
    assert tokenizer.encode(TEA) == [1131, *TEA_IDS[:-1], 1131, TEA_IDS[-1]]
    assert tokenizer.decode(tokenizer.encode(TEA)) == "<|unk|>, do like tea, is this a <|unk|>?"


def test_end_of_text_is_spelled_correctly(vocab_with_specials):
    tokenizer = SimpleTokenizerV2(vocab_with_specials)
    assert tokenizer.encode("said<|endoftext|>the", allowed_special={"<|endoftext|>"}) == [
        851,
        1130,
        988,
    ]


def test_every_word_of_the_vocabulary_can_be_encoded(verdict, vocab):
    """The notebook split its vocabulary at "_" but not its text, so "_rs_" had no id."""
    ids = SimpleTokenizerV1(vocab).encode(verdict)
    assert len(ids) == 4690
    assert set(ids) == set(range(1130))
    assert SimpleTokenizerV1(vocab).encode("_rs_") == [vocab["_"], vocab["rs"], vocab["_"]]
