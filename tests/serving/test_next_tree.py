"""The tree of next tokens equals beam search and the samplers."""

import json

import pytest
import torch
from playground_server import TEXT, hand_built

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.generation.beam import beam_search
from llm_scratch.generation.sampling import next_token
from llm_scratch.model import build
from llm_scratch.serving.model_library import ModelLibrary, NamedModel
from llm_scratch.serving.next_tree import BEAMS, SAMPLES, STEPS
from llm_scratch.serving.playground import Playground

LETTERS = "abcdefghijk"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=11, context_length=24, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.0
    )
    made = build(config)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


@pytest.fixture(scope="module")
def ask(model):
    playground = Playground(
        ModelLibrary({"gpt": NamedModel(model, hand_built().tokenizer)}), [TEXT]
    )
    return lambda **body: json.loads(playground.routes["/api/tree"]({"text": TEXT, **body}))


def ids_of(text):
    return torch.tensor([[LETTERS.index(letter) for letter in text]])


def paths(node, before=""):
    """Every text of the tree that ends at a leaf."""
    here = before + node["text"]
    if not node["children"]:
        return [here]
    return [path for child in node["children"] for path in paths(child, here)]


def best_path(node):
    found = [best_path(child) for child in node["children"] if child["best"]]
    assert len(found) <= 1
    return node["text"] + "".join(found)


@pytest.mark.parametrize("position", [3, 9])
def test_best_path_of_the_tree_equals_beam_search(ask, model, position):
    tree = ask(position=position, kind="beam")
    (found,) = beam_search(
        model,
        ids_of(TEXT[: position + 1]),
        max_new_tokens=STEPS,
        beams=BEAMS,
        length_penalty=0.0,
    )
    assert best_path(tree) == "".join(LETTERS[token] for token in found.ids)
    level = [tree]
    for _ in range(STEPS):
        level = [child for node in level if node["kept"] for child in node["children"]]
        assert sum(node["kept"] for node in level) == BEAMS
    assert not [node for node in level if node["children"]]


def test_tree_probabilities_equal_those_of_the_model(ask, model):
    tree = ask(position=9, kind="beam")
    first = max(tree["children"], key=lambda node: node["probability"])
    with torch.no_grad():
        shares = model(ids_of(TEXT))[0, -1].softmax(-1)
    assert first["text"] == LETTERS[int(shares.argmax())]
    assert first["probability"] == pytest.approx(float(shares.max()), abs=1e-4)


def test_tree_samples_equal_those_of_the_sampler(ask, model):
    tree = ask(position=9, kind="sample", seed=5, temperature=1.5, top_k=4)
    generator, rows = torch.Generator().manual_seed(5), ids_of(TEXT).repeat(SAMPLES, 1)
    with torch.no_grad():
        for _ in range(STEPS):
            new = next_token(model(rows)[:, -1], generator, rows, temperature=1.5, top_k=4)
            rows = torch.cat([rows, new], 1)
    drawn = ["".join(LETTERS[token] for token in row[10:].tolist()) for row in rows]
    assert sorted(set(drawn)) == sorted(paths(tree))
    for child in tree["children"]:
        assert child["count"] == sum(text.startswith(child["text"]) for text in drawn)


def test_tree_of_a_full_context_slides(ask):
    tree = ask(text="abcdefgh" * 3, position=23, kind="beam")
    assert len(best_path(tree)) == STEPS


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"kind": "greedy"}, "kind: 'greedy' is unknown; use beam or sample"),
        ({"kind": "sample", "top_p": 7}, "top_p"),
    ],
)
def test_unknown_kinds_and_settings_are_errors(ask, body, problem):
    with pytest.raises(UserError, match=problem):
        ask(position=9, **body)
