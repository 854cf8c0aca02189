"""Head scores find a hand-built induction head; uniform attention scores by the formula."""

import pytest
import torch
from torch import nn

from llm_scratch.interpretability.heads import (
    SCORES,
    head_scores,
    pattern_scores,
    repeated_tokens,
    score_history,
    top_heads,
    uniform_scores,
)
from llm_scratch.interpretability.lenses import direct_logit_attribution
from llm_scratch.interpretability.patching import ablate, head
from llm_scratch.model.attention import MultiHeadAttention

V, T, HALF = 11, 15, 7
START = V - 1


class AttentionBlock(nn.Module):
    def __init__(self, size, layer):
        super().__init__()
        self.att = MultiHeadAttention(size, size, T, 0.0, 1, layer=layer)
        for part in (self.att.W_query, self.att.W_key, self.att.W_value, self.att.out_proj):
            nn.init.zeros_(part.weight)
        nn.init.zeros_(self.att.out_proj.bias)

    def forward(self, x):
        return x + self.att(x)


class InductionModel(nn.Module):
    """Two attention blocks by hand: the first copies the previous token.

    The second finds the current token among those copies.

    The stream holds four one-hot vectors: the token,
    its position, the previous token, and the prediction.
    """

    def __init__(self):
        super().__init__()
        size = V + T + V + V
        token = slice(0, V)
        place = slice(V, V + T)
        previous = slice(V + T, 2 * V + T)
        guess = slice(2 * V + T, size)
        self.tok_emb, self.pos_emb = nn.Embedding(V, size), nn.Embedding(T, size)
        self.trf_blocks = nn.ModuleList(AttentionBlock(size, layer) for layer in range(2))
        self.final_norm, self.out_head = nn.Identity(), nn.Linear(size, V, bias=False)
        first, second = (block.att for block in self.trf_blocks)
        strong = 50 * size**0.5
        for weight in (self.tok_emb.weight, self.pos_emb.weight, self.out_head.weight):
            nn.init.zeros_(weight)
        with torch.no_grad():
            self.tok_emb.weight[:, token] = self.out_head.weight[:, guess] = torch.eye(V)
            self.pos_emb.weight[:, place] = first.W_key.weight[place, place] = torch.eye(T)
            first.W_query.weight[place, place] = strong * torch.eye(T).roll(
                -1, 0
            )  # the query is the previous position
            first.W_value.weight[token, token] = first.out_proj.weight[previous, token] = torch.eye(
                V
            )
            second.W_query.weight[token, token] = strong * torch.eye(V)
            second.W_key.weight[token, previous] = torch.eye(V)
            second.W_value.weight[token, token] = second.out_proj.weight[guess, token] = torch.eye(
                V
            )

    def forward(self, ids):
        x = self.tok_emb(ids) + self.pos_emb.weight[: ids.shape[1]]
        for block in self.trf_blocks:
            x = block(x)
        return self.out_head(self.final_norm(x))


@pytest.fixture
def distinct():
    """A start token, then different tokens, twice each."""
    half = torch.stack(
        [
            torch.randperm(START, generator=torch.Generator().manual_seed(row))[:HALF]
            for row in range(3)
        ]
    )
    return torch.cat([torch.full((3, 1), START), half, half], 1)


def test_hand_built_induction_head_is_found(distinct):
    model = InductionModel().eval()
    scores = head_scores(model, distinct)
    assert scores["previous"][0, 0] > 0.99
    assert scores["induction"][1, 0] > 0.99
    assert scores["induction"][0, 0] < 0.01
    assert scores["previous"][1, 0] < 0.3
    assert torch.equal(
        model(distinct).argmax(-1)[:, HALF + 1 : -1], distinct[:, HALF + 2 :]
    )  # it predicts the second half
    with ablate(model, head(1, 0)):
        assert not model(distinct).any()
    ranked = top_heads(model, repeated=distinct)
    assert (ranked["induction"][0].layer, ranked["induction"][0].head) == (1, 0)
    assert (ranked["previous"][0].layer, ranked["previous"][0].head) == (0, 0)


def test_induction_head_adds_the_full_logit_of_its_prediction(distinct):
    model, targets = InductionModel().eval(), distinct.roll(-1, 1)
    attribution = direct_logit_attribution(model, distinct, targets)
    assert attribution.names == ("embedding", "0.0", "0.bias", "1.0", "1.bias", "bias")
    second_half = attribution.values[:, :, HALF + 1 : -1]
    assert (second_half[3] > 0.99).all()
    assert not second_half[[0, 1, 2, 4, 5]].any()


def test_uniform_attention_scores_the_mean_of_1_over_n(distinct):
    queries = torch.arange(1, T)
    scores = uniform_scores(distinct)
    expected = {
        "previous": (1.0 / (queries + 1)).mean(),
        "first": (1.0 / (queries + 1)).mean(),
        "duplicate": (1.0 / (torch.arange(HALF + 1, T) + 1)).mean(),
        "induction": (1.0 / (torch.arange(HALF + 1, T) + 1)).mean(),
    }
    assert list(scores) == list(SCORES)
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value.item()), name


def test_scores_of_a_pattern_by_hand():
    ids = torch.tensor([[5, 6, 5, 7]])
    pattern = torch.tensor(
        [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.7, 0.1, 0], [0.1, 0.2, 0.3, 0.4]]
    )[None, None]
    scores = {name: value.item() for name, value in pattern_scores(pattern, ids).items()}
    assert scores == pytest.approx(
        {
            "previous": (0.5 + 0.7 + 0.3) / 3,
            "first": (0.5 + 0.2 + 0.1) / 3,
            "duplicate": 0.2,
            "induction": 0.7,
        }
    )


def test_score_without_a_position_is_nan():
    assert torch.isnan(
        pattern_scores(torch.ones(1, 1, 2, 2) / 2, torch.tensor([[1, 2]]))["induction"]
    )


def test_repeated_tokens_repeat_and_depend_on_the_seed_alone(gpt):
    ids = repeated_tokens(gpt, 6, 4)
    assert ids.shape == (4, 12)
    assert torch.equal(ids[:, :6], ids[:, 6:])
    assert torch.equal(ids, repeated_tokens(gpt, 6, 4))
    assert not torch.equal(ids, repeated_tokens(gpt, 6, 4, seed=1))


def test_head_history_shows_the_step_of_its_appearance(distinct):
    untrained, trained = InductionModel(), InductionModel()
    nn.init.zeros_(untrained.trf_blocks[1].att.W_query.weight)
    history = score_history([(0, untrained), (10, trained)], distinct)["induction"]
    assert list(history) == [0, 10]
    assert history[0][1, 0] < 0.2
    assert history[10][1, 0] > 0.99
