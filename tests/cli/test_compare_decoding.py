"""`compare-decoding` shows every decoding strategy with the texts of `generate`.

The page loads no external files.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args, get_type_hints

import pytest

from llm_scratch.cli import main
from llm_scratch.cli.commands.compare_decoding import (
    ABOUT,
    DECODING_PRESETS,
    CompareDecoding,
    flags,
    is_random,
)
from llm_scratch.cli.commands.generate import Generate
from llm_scratch.cli.decoding_flags import DecodingFlags
from llm_scratch.cli.decoding_page import format_number, render_html
from llm_scratch.cli.decoding_sample import DecodingSample, repeated_texts
from llm_scratch.cli.flags import parse
from llm_scratch.errors import UserError
from llm_scratch.evaluation.decoding_metrics import Branch, TextMetrics
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.generation.sampling import SAMPLERS
from llm_scratch.tokenizers import CharTokenizer

SPECIAL = {
    "logit_bias",
    "speculative",
}  # one needs ids of one tokenizer; the other a second model, by --draft


class Reader(HTMLParser):
    """The tags of a page in order, the URLs that they refer to, and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.text = [], set(), [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def shown(trained_once, tmp_path_factory):
    """The output of one call, and its page."""

    out, file = io.StringIO(), tmp_path_factory.mktemp("compare-decoding") / "page.html"
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        words = [
            "compare-decoding",
            str(trained_once),
            "the ",
            "--max-tokens",
            "12",
            "--samples",
            "2",
            "--out",
            str(file),
        ]
        words += ["--draft", str(trained_once)]
        assert main([*words, "--device", "cpu"]) == 0
    return out.getvalue(), file.read_text(encoding="utf-8")


def test_compare_decoding_has_every_sampler_and_decoder():
    ways = get_args(get_type_hints(DecodingFlags)["decoder"])
    used = {name for settings in DECODING_PRESETS.values() for name in settings} | {
        settings.get("decoder", "sample") for settings in DECODING_PRESETS.values()
    }
    assert not {*SAMPLERS, *PENALTIES, "mirostat", *ways} - used - SPECIAL


def refusal(way: DecodingFlags) -> str | None:
    try:
        way.validate(1, None)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", DECODING_PRESETS)
def test_generate_uses_every_flag_of_a_method(name):
    command = parse(Generate, ["run", "prompt", *flags(DECODING_PRESETS[name]).split()], "generate")
    assert {
        setting: getattr(command, setting) for setting in DECODING_PRESETS[name]
    } == DECODING_PRESETS[name]
    assert refusal(command) is None
    elsewhere = (
        "beam" if DECODING_PRESETS[name].get("decoder", "sample") != "beam" else "contrastive"
    )
    assert "has no effect with" in refusal(replace(command, decoder=elsewhere))


def test_compare_decoding_output_fits_80_columns_and_names_every_method(shown):
    out, _ = shown
    lines = out.splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last is the path of the page
    table = lines[next(i for i, line in enumerate(lines) if "perplexity" in line) + 1 :]
    for name in [*DECODING_PRESETS, "speculative", "validation text"]:
        assert sum(line.startswith(f"{name}  ") for line in table) == 1
    assert "--temperature 1.5 --top-k 10" in out


@pytest.mark.parametrize("name", ["greedy", "high temperature", "top-p", "mirostat", "beam"])
def test_text_of_a_method_equals_generate(name, shown, llm, trained):
    """Each text of a method with the seed that it has: 123, 124."""
    block = re.search(rf"^{name}  .*\n((?:.*\n)*?)\n", shown[0], re.M)
    rest = " ".join(block[1].split())
    for seed in [123, 124] if is_random(DECODING_PRESETS[name]) else [123]:
        words = flags(DECODING_PRESETS[name]).split() + ([] if name == "beam" else ["--seed", seed])
        want = " ".join(
            llm(
                "generate", trained, "the ", "--max-tokens", 12, *words, "--device", "cpu"
            ).out.split()
        )
        assert rest.startswith((want, "(the text of")), (
            "printed in order, or named if it was printed before"
        )
        rest = (
            rest.removeprefix(want).strip()
            if rest.startswith(want)
            else rest.partition(")")[2].strip()
        )
    assert rest == ""


def test_each_decoding_method_has_an_explanation(shown):
    assert ABOUT.keys() == {*DECODING_PRESETS, "speculative"}
    text = " ".join(Reader(shown[1]).text.split())
    for about in ABOUT.values():
        assert about in text
        assert about.endswith(".")
        assert len(about) <= 120


def test_decoding_page_has_the_command_that_made_it(shown, trained_once):
    facts = {
        name: html.unescape(value)
        for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", shown[1])
    }
    made = parse(CompareDecoding, shlex.split(facts["command"])[2:], "compare-decoding")
    assert (made.run_, made.prompt, made.max_tokens, made.samples, made.seed) == (
        str(trained_once),
        "the ",
        12,
        2,
        123,
    )
    assert made.draft == str(trained_once)
    assert (facts["model"], facts["step"], facts["tokens"]) == (
        str(trained_once),
        "4 of 4",
        "12 at most",
    )
    assert facts["seed"] == "123 to 124, one for each text"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["date"])


def test_decoding_page_of_a_model_outside_a_run_has_no_step(llm, trained, tmp_path):
    checkpoint = trained / "ckpt" / (trained / "ckpt" / "latest").read_text().strip()
    alone = shutil.copytree(checkpoint, tmp_path / "alone")
    assert (
        llm(
            "compare-decoding",
            alone,
            "the",
            "--max-tokens",
            1,
            "--samples",
            1,
            "--out",
            "p.html",
            "--device",
            "cpu",
        ).code
        == 0
    )
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<dt>step</dt>" not in page
    assert "<dt>seed</dt><dd>123</dd>" in page


def test_random_methods_have_several_texts(shown):
    cards = re.findall(r"<article><h3>(.*?)</h3>(.*?)</article>", shown[1], re.S)
    n_texts = {
        name: card.count('<p class="text">') + card.count('<p class="same">')
        for name, card in cards
    }
    assert n_texts == {
        name: 2 if is_random(settings) else 1 for name, settings in DECODING_PRESETS.items()
    } | {"speculative": 1}


def test_decoding_page_shows_each_text_once(shown):
    texts = re.findall(r'<p class="text">.*?</p>', shown[1], re.S)
    assert len({re.sub("<[^>]*>", "", text) for text in texts}) == len(texts)


def method(name, *texts):
    return DecodingSample(
        name,
        "",
        tuple((TextChunk(text, 0, -0.5),) for text in texts),
        TextMetrics(2.0, (1.0,), None),
        9.0,
    )


def test_decoding_page_refers_to_a_repeated_text():
    found = repeated_texts([method("one", "a"), method("two", "b", "a", "b"), method("three", "b")])
    assert found == {(1, 1): "one", (1, 2): "two, text 1", (2, 0): "two, text 1"}


def test_speculative_greedy_text_equals_greedy(shown):
    for name in ("lookup", "speculative"):
        card = re.search(rf"<h3>{name}</h3>(.*?)</article>", shown[1], re.S)[1]
        assert "The same text as greedy." in card


def test_decoding_page_is_complete_and_self_contained(shown):
    read = Reader(shown[1])
    assert not read.links
    assert not read.tags & {"script", "link", "img", "iframe"}
    assert "url(" not in shown[1]
    assert all(name in read.text for name in [*DECODING_PRESETS, "speculative", "validation text"])
    assert "%" in read.text.partition("Next-token probabilities")[2]


def test_decoding_page_shows_texts_side_by_side_and_names_missing_ones(shown):
    texts = re.search(r'<div class="texts">\n(.*?)</div>', shown[1], re.S)[1]
    assert re.findall(r"<article><h3>(.*?)<", texts) == [*DECODING_PRESETS, "speculative"]
    assert "<article>" not in shown[1].replace(texts, "")
    assert re.search(
        r"\.texts \{ display: grid; grid-template-columns: repeat\(auto-fill, minmax\(min\(100%,"
        r" \d+rem\), 1fr\)\)",
        shown[1],
    )
    assert "Not shown: logit bias" in Reader(shown[1]).text


def test_decoding_page_escapes_generated_text():
    evil = "<script>&\"'</b>"
    tokenizer = CharTokenizer(sorted(set(evil)))
    scores = TextMetrics(2.0, (1.0, float("nan"), 0.5), None)
    pieces = tuple(TextChunk(c, 0, -0.5) for c in evil)
    shown = [DecodingSample(evil, evil, (pieces, pieces), scores, 9.0, evil)]
    branches = [Branch(i, 0.1) for i in range(tokenizer.n_vocab)]
    text = render_html(
        {"model": evil, evil: evil}, evil, shown, {(0, 1): evil}, branches, tokenizer
    )
    read = Reader(text)
    assert "script" not in read.tags
    assert (
        read.text.count(evil) >= 8
    )  # title, prompt, facts, name, about, flags, repeated; the text in parts
    assert "<script" not in text


def test_format_number_has_separators_and_a_dash_for_missing_values():
    assert format_number(1234.567, 1) == "1,234.6"
    assert format_number(None, 0) == format_number(float("nan"), 2) == "–"


def test_model_without_a_training_text_has_no_overlap(llm, trained, tmp_path):
    checkpoint = trained / "ckpt" / (trained / "ckpt" / "latest").read_text().strip()
    alone = shutil.copytree(checkpoint, tmp_path / "alone")
    result = llm("compare-decoding", alone, "the", "--max-tokens", 3, "--device", "cpu")
    assert result.code == 0, result.err
    assert "validation text" not in result.out
    assert re.search(r"^greedy +\S+ +\S+ +\S+ +\S+ +– +\d", result.out, re.M)


def test_compare_decoding_errors_are_one_line(llm, trained):
    result = llm("compare-decoding", trained, "the", "--max-tokens", 0)
    assert (result.code, result.err) == (
        2,
        "llm-scratch: --max-tokens: 0 is out of range; give a whole number from 1 to 2147483647\n",
    )


def test_decoding_page_shows_the_other_strategies_when_one_cannot_continue_the_prompt(
    llm, trained, tmp_path
):
    prompt = "the hen sat on the red mat"
    result = llm("compare-decoding", trained, prompt, "--max-tokens", 3, "--device", "cpu")
    assert result.code == 0, result.err
    assert "beam: left out: the prompt has 26 tokens and the model sees 16" in result.err
    assert (
        f"warning: the prompt has {len(prompt)} tokens and the model sees 16: the first 10 are"
        " dropped" in result.err
    )
    page = (tmp_path / "compare-decoding.html").read_text()
    assert "contrastive" in page
    assert ">beam<" not in page


def test_decoding_page_is_written_when_the_validation_text_is_too_short(llm, trained, tmp_path):
    result = llm("compare-decoding", trained, "the", "--max-tokens", 600, "--device", "cpu")
    assert result.code == 0, result.err
    assert "validation text: left out" in result.err or "validation text" in result.out
    assert (tmp_path / "compare-decoding.html").is_file()
