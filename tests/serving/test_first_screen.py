"""The first text and head, for models of the stories and of other texts."""

import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig
from llm_scratch.data.stories import HELD_OUT, begins, generate_story
from llm_scratch.model import build
from llm_scratch.serving.first_screen import FALLBACK_TEXT, first_screen, is_story_model
from llm_scratch.serving.run_texts import MAX_CHARACTERS, validation_texts
from llm_scratch.tokenizers.chars import CharTokenizer


def run_of(source):
    return RunConfig(data=DataConfig(source=source, val_fraction=0.2))


def test_stories_are_distinguished_from_other_texts():
    assert is_story_model([generate_story(HELD_OUT + number).text for number in range(5)])
    assert not is_story_model([])
    for text in ("", "abcdefg", "To be, or not to be, that is the question, whether it is nobler"):
        assert not is_story_model([text])


def test_texts_of_a_run_are_new_stories_or_the_end_of_its_file(tmp_path):
    stories = validation_texts(run_of("stories:100"), 3)
    assert stories == [generate_story(HELD_OUT + number).text for number in range(3)]
    assert all(begins(story) for story in stories)
    file = tmp_path / "play.txt"
    file.write_text("".join(f"{number:06d} " for number in range(5000)), encoding="utf-8")
    texts = validation_texts(run_of(f"file:{file}"), 64)
    assert "".join(texts) == file.read_text(encoding="utf-8")[28_000:]
    assert max(map(len, texts)) <= MAX_CHARACTERS


def test_missing_source_yields_no_texts(tmp_path, caplog):
    assert validation_texts(run_of(f"file:{tmp_path}/gone.txt"), 3) == []
    assert "begins with a default text" in caplog.text


def test_untaught_model_of_stories_begins_with_a_story_and_one_without_texts_with_plain_words():
    texts = [generate_story(HELD_OUT + number).text for number in range(3)]
    letters = CharTokenizer.train(
        [*(generate_story(HELD_OUT + number).text for number in range(80)), FALLBACK_TEXT]
    )
    torch.manual_seed(0)
    model = build(
        GPTConfig(
            vocab_size=letters.n_vocab,
            context_length=128,
            emb_dim=8,
            n_heads=2,
            n_layers=1,
            drop_rate=0.0,
        )
    ).eval()
    assert texts[0].startswith(first_screen(model, letters, texts).text)
    assert first_screen(model, letters, []).text == FALLBACK_TEXT
