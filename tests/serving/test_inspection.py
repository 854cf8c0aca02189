"""The values of the views equal those of the tools, called directly."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from playground_server import TEXT, hand_built
from torch.distributions import Categorical

from llm_scratch.config import GPTConfig
from llm_scratch.data.stories import HELD_OUT, generate_story
from llm_scratch.errors import UserError
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.jacobian_lens import fit_jacobian_lens
from llm_scratch.interpretability.lenses import logit_lens
from llm_scratch.interpretability.patching import ablate, feed_forward, head, replace_parts
from llm_scratch.model import build
from llm_scratch.serving.model_library import ModelLibrary, NamedModel
from llm_scratch.serving.playground import Playground
from llm_scratch.tokenizers.chars import CharTokenizer

LETTERS = "abcdefghijk"


@pytest.fixture(scope="module")
def model():
    """A small GPT with random weights and the tokenizer of the hand-built one."""
    torch.manual_seed(0)
    made = build(
        GPTConfig(
            vocab_size=11, context_length=24, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.0
        )
    )
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


@pytest.fixture(scope="module")
def ask(model):
    texts = [LETTERS * 2] * 3
    playground = Playground(ModelLibrary({"gpt": NamedModel(model, hand_built().tokenizer)}), texts)

    def call(name, **body):

        return json.loads(playground.routes[f"/api/{name}"]({"text": TEXT, **body}))

    return call


@pytest.fixture(scope="module")
def ids():
    return torch.tensor([[LETTERS.index(letter) for letter in TEXT]])


def values(answer):
    """The values of an array, as the page reads them."""
    return np.frombuffer(base64.b64decode(answer["data"]), answer["dtype"]).reshape(answer["shape"])


def test_logits_are_the_models_in_float16(ask, model, ids):
    with torch.no_grad():
        logits = model(ids)[0]
    assert np.allclose(values(ask("inspect")["logits"]), logits[-1], rtol=2**-10, atol=1e-4)
    for position in (0, 4):
        assert np.allclose(
            values(ask("logits", position=position)["logits"]),
            logits[position],
            rtol=2**-10,
            atol=1e-4,
        )


def test_surprise_is_minus_log2_of_the_probability(ask, model, ids):
    with torch.no_grad():
        bits = -model(ids)[0].log_softmax(-1) / np.log(2)
    shown = [token["bits"] for token in ask("inspect")["tokens"]]
    assert shown[0] is None
    assert shown[1:] == pytest.approx(
        [float(bits[i, ids[0, i + 1]]) for i in range(len(TEXT) - 1)], abs=1e-3
    )


def test_entropy_is_that_of_the_prediction_after_the_token(ask, model, ids):
    with torch.no_grad():
        entropy = Categorical(logits=model(ids)[0]).entropy() / np.log(2)
    shown = [token["entropy"] for token in ask("inspect")["tokens"]]
    assert shown == pytest.approx(entropy.tolist(), abs=1e-3)


def test_attention_is_the_pattern_to_half_a_step(ask, model, ids):
    with torch.no_grad(), capture(model, "blocks.1.attn.hook_pattern") as acts:
        model(ids)
    answer = ask("attention", layer=1)
    shown = values(answer["pattern"]) / 255
    assert np.allclose(answer["sums"], 1, atol=1e-4)
    assert np.abs(shown - acts["blocks.1.attn.hook_pattern"][0].numpy()).max() <= 1 / 510 + 1e-6


def test_values_of_an_attention_cell_multiply_to_its_score(ask):
    dot = ask("dot", layer=1, head=2, query=6, key=3)
    assert dot["dot"] == pytest.approx(sum(q * k for q, k in zip(dot["q"], dot["k"])), abs=2e-3)
    assert dot["score"] == pytest.approx(dot["dot"] * dot["scale"], abs=1e-3)
    exponentials = np.exp(dot["scores"])
    assert dot["weights"] == pytest.approx(exponentials / exponentials.sum(), abs=1e-4)
    assert len(dot["weights"]) == 7


@pytest.mark.parametrize("kind", ["norm", "raw", "jacobian"])
def test_lens_view_equals_the_lens_tool(ask, model, ids, kind):
    jacobian = fit_jacobian_lens(model, [[*range(11)] * 2] * 3, skip=6)
    with torch.no_grad():
        logits = (
            jacobian(model, ids)
            if kind == "jacobian"
            else logit_lens(model, ids, normalize=kind == "norm")
        )[:, 0]
    shown = ask("lens", kind=kind)
    assert shown["token"] == logits.argmax(-1).tolist()
    assert np.allclose(shown["probability"], logits.softmax(-1).amax(-1), atol=1e-4)
    assert shown["kl_bits"][-1] == [0] * len(TEXT)
    top = ask("lens-cell", kind=kind, layer=1, position=4)["top"]
    assert [row["id"] for row in top] == logits[1, 4].argsort(descending=True).tolist()


def test_flow_view_sums_to_the_logit(ask, model, ids):
    flow = ask("flow", position=5, candidate=7)
    with torch.no_grad():
        assert flow["logit"] == pytest.approx(float(model(ids)[0, 5, 7]), abs=1e-3)
    assert sum(row[5] for row in flow["values"]) == pytest.approx(flow["logit"], abs=0.01)


def test_ablation_equals_the_tool_and_reaches_every_view(ask, model, ids):
    with torch.no_grad(), ablate(model, head(0, 1)):
        expected = model(ids)[0]
    rows = {row["part"]: row for row in ask("ablate", position=9, candidate=3)["parts"]}
    assert rows["0.1"]["probability"] == pytest.approx(float(expected[9].softmax(-1)[3]), abs=1e-5)
    assert rows.keys() == {
        *(f"{layer}.{number}" for layer in range(2) for number in range(3)),
        "0.mlp",
        "1.mlp",
    }
    assert np.allclose(
        values(ask("inspect", without=["0.1"])["logits"]), expected[-1], rtol=2**-10, atol=1e-4
    )
    whole = ask("inspect")
    assert not np.allclose(
        values(whole["logits"]), expected[-1], rtol=2**-10, atol=1e-4
    )  # the model itself is unchanged


def test_component_is_ablated_equally_alone_and_in_all_views():
    """A model of the stories: both take the part's mean over stories."""
    texts = [generate_story(HELD_OUT + number).text for number in range(3)]
    letters = CharTokenizer.train([generate_story(HELD_OUT + number).text for number in range(40)])
    torch.manual_seed(0)
    made = build(
        GPTConfig(
            vocab_size=letters.n_vocab,
            context_length=1500,
            emb_dim=12,
            n_heads=3,
            n_layers=1,
            drop_rate=0.0,
        )
    ).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    routes = Playground(ModelLibrary({"gpt": NamedModel(made, letters)}), texts).routes
    body = {"text": texts[0][:30], "position": 20, "candidate": 3}
    alone = {
        row["part"]: row["probability"] for row in json.loads(routes["/api/ablate"](body))["parts"]
    }
    for part in ("0.1", "0.mlp"):
        together = json.loads(routes["/api/ablate"]({**body, "without": [part]}))
        assert together["probability"] == alone[part]
        zero = together["probability"] - ablated_by_zero(made, letters, body, part)
        assert abs(zero) > 1e-5


def ablated_by_zero(model, letters, body, part):
    """The same probability with zero in place of the part."""
    known = {"0.1": head(0, 1), "0.mlp": feed_forward(0)}
    with torch.no_grad(), ablate(model, known[part]):
        logits = model(torch.tensor([letters.encode(body["text"])]))
    return float(logits[0, body["position"]].softmax(-1)[body["candidate"]])


def test_swapped_token_is_read_instead(ask):
    assert (
        ask("inspect", swap=[[2, 10]])["logits"]
        == ask("inspect", text=TEXT[:2] + "k" + TEXT[3:])["logits"]
    )


def test_continuation_is_greedy(ask, model, ids):
    text = ask("continue", tokens=5)["text"]
    row = ids
    with torch.no_grad():
        for _ in range(5):
            row = torch.cat([row, model(row)[:, -1:].argmax(-1)], 1)
    assert text == "".join(LETTERS[token] for token in row[0, len(TEXT) :])


def test_patching_equals_a_run_with_the_value_of_the_other_text(ask, model, ids):
    other = ids.clone()
    other[0, 3] = 10
    with torch.no_grad(), capture(model, "*") as acts:
        there = model(other)[0, 9]
    candidate = int(there.argmin())
    answer = ask("patch", other="abckefgabc", position=9, candidate=candidate)
    best = int(there.argmax())
    assert answer["answer"] == LETTERS[best]
    assert answer["after"] == pytest.approx(float(there[best] - there[candidate]), abs=1e-3)
    with torch.no_grad():
        here = model(ids)[0, 9]
    before = float(here[best] - here[candidate])
    assert answer["before"] == pytest.approx(before, abs=1e-3)
    parts = {"0.1": head(0, 1), "1.mlp": feed_forward(1)}
    for name, part in parts.items():
        value = part.read(acts[part.name])
        with torch.no_grad(), replace_parts(model, [part], lambda part, x, value=value: value):
            patched = model(ids)[0, 9]
        row = next(row for row in answer["parts"] if row["part"] == name)
        change = float(patched[best] - patched[candidate]) - before
        assert row["change"] == pytest.approx(change, abs=1e-3)
        assert row["share"] == pytest.approx(change / (answer["after"] - before), abs=1e-3)


def test_patching_finds_the_head_that_carries_the_answer():
    playground = Playground(ModelLibrary({"by hand": hand_built()}), [TEXT])
    body = {"text": TEXT, "other": "abckefgabc", "position": 9, "candidate": 3}
    answer = json.loads(playground.routes["/api/patch"](body))
    shares = {row["part"]: row["share"] for row in answer["parts"]}
    assert answer["answer"] == "k"
    assert shares["1.0"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ("abcd", "other: has 4 tokens and the text has 10"),
        (TEXT, "other: the model continues it with 'd', too"),
    ],
)
def test_patching_needs_texts_of_one_length_and_two_answers(other, problem):
    playground = Playground(ModelLibrary({"by hand": hand_built()}), [TEXT])
    with pytest.raises(UserError, match=problem):
        playground.routes["/api/patch"](
            {"text": TEXT, "other": other, "position": 9, "candidate": 3}
        )


@pytest.mark.parametrize(("other", "position"), [(TEXT, 9), ("abcdefgabk", 8)])
def test_patching_needs_a_difference_at_the_selected_token(other, position):
    """Without one, a share would be 0 / 0."""
    playground = Playground(ModelLibrary({"by hand": hand_built()}), [TEXT])
    body = {"text": TEXT, "other": other, "position": position, "candidate": 0}
    with pytest.raises(UserError, match="other: changes nothing at the selected token"):
        playground.routes["/api/patch"](body)


def test_film_shows_a_snapshot_that_diverged_as_missing(tmp_path):
    from llm_scratch.storage.snapshots import save_snapshot

    named = hand_built()
    weights = {name: weight * torch.nan for name, weight in named.model.state_dict().items()}
    save_snapshot(tmp_path, 0, named.model.state_dict())
    save_snapshot(tmp_path, 10, weights)
    playground = Playground(ModelLibrary({"by hand": named}, tmp_path), [TEXT])
    answer = playground.routes["/api/film"]({"text": TEXT, "position": 9, "candidate": 3})
    whole, diverged = json.loads(answer)["rows"]
    assert whole["probability"] > 0
    assert (diverged["probability"], diverged["bits"]) == (None, None)


def test_film_shows_when_the_head_appeared(tmp_path):

    from playground_server import untaught

    from llm_scratch.storage.snapshots import save_snapshot

    named = hand_built()
    save_snapshot(tmp_path, 0, untaught(named.model))
    save_snapshot(tmp_path, 10, named.model.state_dict())
    playground = Playground(ModelLibrary({"by hand": named}, tmp_path), [TEXT])
    film = json.loads(
        playground.routes["/api/film"](
            {"text": TEXT, "position": 9, "candidate": 3, "layer": 1, "head": 0}
        )
    )
    before, after = film["rows"]
    assert film["key"] == 3
    assert (before["step"], after["step"]) == (0, 10)
    assert before["probability"] < 0.2 < 0.99 < after["probability"]
    assert after["scores"]["look"][1][0] > 0.99


def start_of(texts):
    playground = Playground(ModelLibrary({"by hand": hand_built()}), texts)
    return json.loads(playground.routes["/api/start"]({}))


def test_first_screen_shows_the_head_that_writes_the_answer():
    first = start_of([TEXT + "d"])["first"]
    assert (first["layer"], first["head"], first["answer"], first["key"]) == (1, 0, "d", 3)


def test_tokens_are_counted_in_the_texts_of_the_run():
    assert start_of(["aab", "abk"])["counts"] == {"0": 3, "1": 2, "10": 1}


def test_concurrent_requests_get_the_same_answers_as_alone(model):
    """Ablations change the model while it computes; threads must not see each other's."""
    bodies = [
        {"text": TEXT[:length], "without": parts}
        for length in (4, 6, 8)
        for parts in ([], ["0.0"], ["0.mlp", "1.2"], ["1.1"])
    ]
    named = NamedModel(model, hand_built().tokenizer)
    routes = Playground(ModelLibrary({"gpt": named}), [LETTERS * 2]).routes
    alone = [routes["/api/inspect"](body) for body in bodies]
    assert len(set(alone)) == len(bodies)
    together = Playground(ModelLibrary({"gpt": named}), [LETTERS * 2]).routes
    with ThreadPoolExecutor(8) as pool:
        lenses = [
            pool.submit(together["/api/lens"], {"text": TEXT, "kind": "jacobian"}) for _ in range(3)
        ]
        answers = list(pool.map(together["/api/inspect"], bodies))
    assert answers == alone
    assert len({lens.result() for lens in lenses}) == 1
