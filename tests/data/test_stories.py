"""Stories: text and choices correspond one to one, and the entropy is exact.

Every probe has one answer.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections import Counter
from itertools import pairwise

import pytest

from llm_scratch.data.stories import (
    HELD_OUT,
    SHAPES,
    SKILLS,
    begins,
    bits,
    entropy,
    generate_story,
    parse,
    prefix_bits,
)
from llm_scratch.data.story_grammar import ALIAS, HOLE, SKILL, Pick, compile_pattern, inflect, match
from llm_scratch.data.story_sentences import BEATS
from llm_scratch.data.story_shapes import SCENES, STORY_SHAPES
from llm_scratch.data.story_words import NUMBERS, WORDS

GIRLS, BOYS = set(WORDS["girl"]), set(WORDS["boy"])
SENTENCE_END = re.compile(r'[.!?]"?(?= ["A-Z]|$)')


@pytest.fixture(scope="module")
def stories():
    return [generate_story(seed) for seed in range(2000)]


def n_sentences(text: str) -> int:
    """Return the sentences of a text; a quotation and its "said Tom" are one sentence."""
    return len(
        SENTENCE_END.findall(
            re.sub(
                r'"[^"]*"',
                lambda quote: quote[0].replace(".", ",").replace("!", ",").replace("?", ","),
                text,
            )
        )
    )


# text and choices determine each other


def test_parse_recovers_choices(stories):
    for story in stories:
        assert parse(story.text) == story.choices, story.text


def test_prefix_bits_grow_from_zero_to_the_storys_bits(stories):
    for story in stories[:5]:
        grown = [prefix_bits(story.text[:end]) for end in range(0, len(story.text) + 1, 7)]
        assert grown[0] == 0
        assert all(later >= earlier - 1e-9 for earlier, later in pairwise(grown))
        assert prefix_bits(story.text) == pytest.approx(bits(story.text))


def test_prefix_probability_is_the_sum_over_the_next_letter(stories):
    """Include prefixes that end in an article: the next letter decides between "a" and "an"."""
    letters = sorted({letter for story in stories for letter in story.text})
    n_articles = 0
    for story in stories[:5]:
        ends = [article.end() for article in re.finditer(r"\b[Aa]n? ?", story.text)]
        n_articles += sum(story.text[:end].endswith(("an", "an ")) for end in ends[:6])
        for prefix in (story.text[:end] for end in (*ends[:6], len(story.text) // 2)):
            following = [2.0 ** -prefix_bits(prefix + letter) for letter in letters]
            assert sum(following) == pytest.approx(2.0 ** -prefix_bits(prefix)), prefix
    assert n_articles > 0


def test_prefix_probability_equals_the_frequency_among_stories(stories):
    for prefix in (
        "The tale of",
        "The story of Anna",
        "The story of Ben, A",
        "The tale of Tom, Lily and the k",
    ):
        expected = 2.0 ** -prefix_bits(prefix) * len(stories)
        assert abs(
            sum(story.text.startswith(prefix) for story in stories) - expected
        ) <= 4 * math.sqrt(expected)


@pytest.mark.parametrize(
    "text", ["The tall", "the story", "The story of Anna, Anna", "The story of Ben and a apple"]
)
def test_text_that_begins_no_story_has_infinite_bits(text):
    assert prefix_bits(text) == math.inf


@pytest.mark.slow
def test_parse_recovers_choices_of_10_000_stories():
    for seed in range(HELD_OUT, HELD_OUT + 10_000):
        story = generate_story(seed)
        assert parse(story.text) == story.choices, story.text


def test_10_000_stories_are_distinct():
    assert len({generate_story(seed).text for seed in range(10_000)}) == 10_000


def test_stories_equal_the_stored_hash_on_every_machine():
    text = "\n".join(generate_story(seed).text for seed in [*range(50), HELD_OUT, HELD_OUT + 1])
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


def test_story_depends_only_on_its_seed(stories):
    assert generate_story(1234) == stories[1234]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "",
        lambda t: t[:-1],
        lambda t: t + " ",
        lambda t: t.replace(" the ", " teh ", 1),
        str.upper,
    ],
)
def test_parse_rejects_text_that_is_not_a_story(change):
    with pytest.raises(ValueError, match="no parse"):
        parse(change(generate_story(7).text))
    with pytest.raises(ValueError, match="no parse"):
        bits(change(generate_story(7).text))


def test_parse_rejects_a_wrong_remembered_word(stories):
    story = next(story for story in stories if story.shape == "pond")
    other = next(p for p in story.probes if p.skill == "object")
    wrong = other.prompt + other.others[0] + story.text[len(other.prompt) + len(other.answer) :]
    with pytest.raises(ValueError, match="no parse"):
        parse(wrong)


# information content


def test_story_bits_equal_minus_log2_of_the_probability(stories):
    for story in stories:
        assert len(story.probabilities) == len(story.choices)
        assert story.bits == pytest.approx(-sum(map(math.log2, story.probabilities)), abs=1e-9)
    for story in stories[:50]:
        assert bits(story.text) == pytest.approx(story.bits, abs=1e-9)


def test_entropy_is_the_mean_of_bits(stories):
    bits_of_stories = [story.bits for story in stories]
    stderr = statistics.stdev(bits_of_stories) / math.sqrt(len(bits_of_stories))
    assert stderr < 1
    assert statistics.fmean(bits_of_stories) == pytest.approx(entropy(), abs=4 * stderr)


def test_probabilities_of_a_small_grammar_sum_to_one():
    """Sum the probabilities of all texts of one pattern."""
    pattern = compile_pattern("{near} the [old |]{near2} {n:more?}{n}.")
    total, texts = 0.0, Counter()
    for near in WORDS["near"]:
        for other in WORDS["near"]:
            for old in ("old ", ""):
                for n in WORDS["number"]:
                    for more in (f"{inflect(n, 'more')[0]} ", ""):
                        for _ in match(pattern, f"{near} the {old}{other} {more}{n}.", 0, {}):
                            texts[near, old, other, more, n] += 1
                            total += 1 / (4 * 2 * 3 * 2 * 7)
    assert total == pytest.approx(1)
    assert set(texts.values()) == {1}
    assert all(near != other for near, _, other, _, _ in texts)


def test_choices_are_uniform(stories):
    counts = Counter(story.shape for story in stories)
    expected = len(stories) / len(SHAPES)
    chi2 = sum((counts[shape] - expected) ** 2 / expected for shape in SHAPES)
    assert chi2 < 35  # 10 degrees of freedom: one in ten thousand


# number and length of stories


def test_story_grammar_has_enough_stories():
    patterns = {pattern for bank in [*BEATS.values(), *SCENES.values()] for pattern in bank}
    plain = [option for kind in WORDS for option in WORDS[kind] if "{" not in option]
    assert len(patterns) >= 200
    assert len({word for word in plain if word.isalpha()}) >= 300
    assert len(SHAPES) >= 8
    assert tuple(SKILLS) == ("name", "pronoun", "object", "count", "order")


def test_story_length_is_bounded(stories):
    lengths = [len(story.text.split()) for story in stories]
    assert max(lengths) < 170
    assert 70 <= statistics.fmean(lengths) <= 110
    assert all(4 <= n_sentences(story.text) <= 14 for story in stories)


def test_every_beat_occurs_in_the_stories():
    assert {beat.rstrip("?") for plan in STORY_SHAPES.values() for beat in plan.split()} == set(
        BEATS
    ) | set(SCENES)


def test_patterns_leave_an_to_the_grammar():
    patterns = [
        pattern for bank in [*BEATS.values(), *SCENES.values(), *WORDS.values()] for pattern in bank
    ]
    assert not [pattern for pattern in patterns if re.search(r"\b[Aa]n \w", pattern)]


def test_words_of_a_list_differ():
    for kind, words in WORDS.items():
        assert len(set(words)) == len(words), kind


def test_digit_that_distinguishes_twins_keeps_its_position():
    """Otherwise a later sentence would repeat a word unnecessarily."""
    for shape, plan in STORY_SHAPES.items():
        homes = {}
        for beat in plan.replace("?", "").split():
            for hole in (
                hole for pattern in {**BEATS, **SCENES}[beat] for hole in HOLE.finditer(pattern)
            ):
                name, digit = hole[2], hole[3]
                if digit and name.lower() not in SKILL and name not in ALIAS:
                    assert homes.setdefault(name.lower() + digit, beat) == beat, (shape, name, beat)


def test_template_with_an_unknown_slot_is_an_error():
    with pytest.raises(KeyError):
        compile_pattern("A {unicorn}.")


# English


def test_story_text_is_well_formed(stories):
    for text in (story.text for story in stories):
        assert not re.search(r"  |\n|[{}\[\]|]| [.,!?:]|^ | $", text), text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), text
        assert all(
            sentence.lstrip(' "')[:1].isupper() for sentence in SENTENCE_END.split(text) if sentence
        ), text
        assert text.count('"') % 2 == 0
        assert text[-1] in '.!?"'


def test_story_pronouns_agree_with_their_noun(stories):
    """A story of two girls has no "he", and one of two boys no "she"."""
    seen = Counter()
    for story in stories:
        names = {word for word in re.findall(r"\w+", story.text) if word in GIRLS | BOYS}
        words = set(re.findall(r"[a-z]+", story.text.lower()))
        assert len(names) == 2, story.text
        for children, wrong in (
            (GIRLS, {"he", "his", "him", "boy"}),
            (BOYS, {"she", "her", "girl"}),
        ):
            if names <= children:
                seen[len(children)] += 1
                assert not words & wrong, story.text
    assert sum(seen.values()) > 500


def test_story_counts_are_correct(stories):
    n = 0
    for story in stories:
        for count in re.findall(r": (one(?:, \w+)*)\.", story.text):
            counted = count.split(", ")
            assert counted == list(NUMBERS[: len(counted)])
            before = story.text[: story.text.index(f": {count}.")]
            assert counted[-1] in re.findall(r"\w+", before)[-25:], story.text
            n += 1
    assert n > 300


def test_undoing_story_reverses_the_order(stories):
    n = 0
    for story in stories:
        undone = [probe.answer.strip() for probe in story.probes if probe.skill == "order"]
        if not undone:
            continue
        sentences = (re.findall(r"\w+", sentence) for sentence in SENTENCE_END.split(story.text))
        deed = next(words for words in sentences if set(undone) <= set(words))
        places = [deed.index(word) for word in undone]
        assert places == sorted(places, reverse=True), story.text
        n += 1
    assert n > 500


# probes


def test_probes_occur_in_the_story(stories):
    for story in stories:
        for probe in story.probes:
            assert story.text.startswith(probe.prompt + probe.answer)
            assert probe.prompt == probe.prompt.rstrip()
            assert 1 <= len(probe.others) <= 3
            assert probe.answer not in probe.others
            assert len(set(probe.others)) == len(probe.others)
            assert all(
                other.startswith(" ") == probe.answer.startswith(" ") for other in probe.others
            )


def test_every_skill_has_enough_probes(stories):
    skills = Counter(probe.skill for story in stories for probe in story.probes)
    assert set(skills) == set(SKILLS)
    assert min(skills.values()) > len(stories) * 0.75
    assert all({"name", "object"} & {probe.skill for probe in story.probes} for story in stories)


def test_name_probes_offer_the_other_child(stories):
    for story in stories:
        names = {word for word in re.findall(r"\w+", story.text) if word in GIRLS | BOYS}
        for probe in (probe for probe in story.probes if probe.skill == "name"):
            mentioned = {name for name in names if re.search(rf"\b{name}\b", probe.prompt)}
            assert mentioned - {probe.answer.strip()} <= {other.strip() for other in probe.others}


def check_only_the_answer_goes_on(seeds):
    for probe in (probe for seed in seeds for probe in generate_story(seed).probes):
        assert begins(probe.prompt + probe.answer), probe
        for other in probe.others:
            wrong = probe.prompt + other
            assert not begins(wrong) or not any(begins(wrong + end) for end in " ,.!?:"), (
                probe,
                other,
            )


def test_probe_is_determined_by_the_text_before_it():
    """No story of the grammar continues with a wrong answer."""
    check_only_the_answer_goes_on(range(100, 112))


@pytest.mark.slow
def test_probe_is_determined_by_the_text_before_it_in_many_stories():
    check_only_the_answer_goes_on(range(1000, 1200))


def test_begins_accepts_prefixes_of_stories():
    story = generate_story(3)
    assert all(begins(story.text[:end]) for end in range(0, len(story.text) + 1, 29))
    assert not begins("Call me")
    assert not begins(story.text + "x")


# the grammar engine


def test_inflect_returns_forms_split_at_skills():
    assert [inflect("Lily", form) for form in ("", "she", "Her", "girl")] == [
        ("Lily",),
        ("she",),
        ("Her",),
        ("girl",),
    ]
    assert [inflect("Tom", form) for form in ("him", "her", "girl")] == [
        ("him",),
        ("his",),
        ("boy",),
    ]
    assert [inflect("four", form) for form in ("more", "less")] == [("five",), ("three",)]
    assert inflect("three", "count") == ("one, two, ", "three", ".")
    assert inflect("under", "Same") == ("Under",)


def test_both_derivations_of_an_ambiguous_story_are_found():
    pieces = (Pick((("a", "b"), ("ab",))), ".")
    assert sorted(match(pieces, "ab.", 0, {})) == [(0,), (1,)]


GOLDEN = "82b8cd889b962e63619c6462c0fdf559687d3b8e9cacddc9714c54a64ccfd295"
