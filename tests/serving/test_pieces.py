"""Pieces and merges equal those of the tokenizer."""

from llm_scratch.serving.pieces import MAX_BYTES, MAX_STEPS, compare_tokenizers, merge_steps, pieces
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.chars import CharTokenizer

TEXT = "the hen saw the fox, the hen ran\n  and ran – 12 é"


def tokenizer():
    return ByteBPE.train(["the hen saw the fox and the hen ran and ran and the fox ran " * 20], 270)


def test_last_step_of_every_piece_is_its_tokens():
    bpe = tokenizer()
    found = pieces(bpe, TEXT)["pieces"]
    assert "".join(piece["text"] for piece in found) == TEXT
    assert [token for piece in found for token in piece["ids"]] == bpe.encode(TEXT)
    for piece in found:
        assert len(piece["steps"][-1]) == len(piece["ids"])
        assert len(piece["steps"]) == len(piece["merges"]) + 1
        assert len(piece["steps"][0]) == piece["bytes"]


def test_parts_of_a_character_are_shown_as_bytes():
    assert pieces(tokenizer(), "é")["pieces"][0]["steps"][0] == ["\\xc3", "\\xa9"]


def test_tokenizers_are_compared_on_the_same_text(gpt2):
    bpe = tokenizer()
    own, other, characters = compare_tokenizers(bpe, TEXT)
    assert [row["name"] for row in (own, other, characters)] == [
        "this model",
        "GPT-2",
        "characters",
    ]
    assert len(own["tokens"]) == len(bpe.encode(TEXT))
    assert [len(other["tokens"]), other["n_vocab"]] == [len(gpt2.encode(TEXT)), 50257]
    assert "".join(other["tokens"]) == TEXT
    assert characters["tokens"] == list(TEXT)
    assert characters["n_vocab"] == len(set(TEXT))


def test_gpt2_is_not_downloaded_for_a_comparison(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    _, other, _ = compare_tokenizers(tokenizer(), TEXT)
    assert other["tokens"] is None
    assert not list(tmp_path.iterdir())


def test_characters_have_one_step():
    found = pieces(CharTokenizer.train(["abc"]), "cab")["pieces"]
    assert found == [{"text": "cab", "bytes": 3, "steps": [["c", "a", "b"]], "ids": [2, 0, 1]}]


def test_long_piece_has_only_its_last_step():
    data = bytes(range(33, 127))
    ranks = {(data[:n], data[n : n + 1]): n for n in range(1, MAX_STEPS + 10)}
    steps, merged = merge_steps(data[: MAX_STEPS + 10], ranks)
    assert steps == [[data[: MAX_STEPS + 10]]]
    assert merged == []


def test_last_step_covers_normalizing_and_whole_piece_tokenizers():
    word = {b"fowl": 260}
    bpe = ByteBPE([(b"f", b"o")], unmerged=word, whole_pieces=True, nfc=True)
    fowl, accent = pieces(bpe, "fowl e\u0301")["pieces"]
    assert (fowl["steps"], fowl["merges"], fowl["ids"]) == ([["fowl"]], [], [260])
    assert accent["text"] == " é"
    assert accent["ids"] == bpe.encode(" é")
    assert accent["steps"] == [[" ", "\\xc3", "\\xa9"]]


def test_merges_of_a_very_long_piece_are_not_searched(monkeypatch):
    """A pasted line without spaces is one piece; the search would take minutes."""
    searched = []

    def search(data, ranks):
        searched.append(len(data))
        return merge_steps(data, ranks)

    monkeypatch.setattr("llm_scratch.serving.pieces.merge_steps", search)
    bpe, text = tokenizer(), "the" * 1000
    (piece,) = pieces(bpe, text)["pieces"]
    assert sum(searched) <= MAX_BYTES
    assert piece["ids"] == bpe.encode(text)
    assert "".join(piece["steps"][0]) == text
    assert (len(piece["steps"]), piece["merges"]) == (1, [])
