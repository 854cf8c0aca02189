"""Parts of a GPT and of its training, written by hand from the lessons' formulas.

    llm-scratch learn parts docs/own_parts_example.py
    llm-scratch train quickstart --parts docs/own_parts_example.py

All are equal to the package's, and slower. Try yours first: `llm-scratch learn template`.
Tests: tests/own_parts/test_checks.py.
"""

import math
from collections import Counter

import torch
from torch import nn

from llm_scratch.training.optim import orthogonalize


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 for each token, then scale and shift. [..., C] -> [..., C]."""

    def __init__(self, emb_dim):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):
        """Compute it from the formula."""
        mean = x.mean(-1, keepdim=True)
        var = x.var(-1, keepdim=True, unbiased=False)
        return self.scale * (x - mean) / torch.sqrt(var + 1e-5) + self.shift


class GELU(nn.Module):
    """GPT-2's activation. Any shape -> the same shape."""

    def forward(self, x):
        """Compute it from the formula."""
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class FeedForward(nn.Module):
    """Widen four times, activate, narrow again. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg):
        super().__init__()
        C = cfg["emb_dim"]
        self.layers = nn.Sequential(nn.Linear(C, 4 * C), GELU(), nn.Linear(4 * C, C))

    def forward(self, x):
        """Compute it from the formula."""
        return self.layers(x)


class MultiHeadAttention(nn.Module):
    """Causal attention with several heads. [B, T, d_in] -> [B, T, d_out]."""

    def __init__(self, d_in, d_out, context_length, dropout, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=False)
        self.W_key = nn.Linear(d_in, d_out, bias=False)
        self.W_value = nn.Linear(d_in, d_out, bias=False)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.ones(context_length, context_length).triu(1).bool())

    def forward(self, x):
        """Compute it from the formula."""
        B, T, _ = x.shape
        q, k, v = (
            W(x).view(B, T, self.num_heads, -1).transpose(1, 2)
            for W in (self.W_query, self.W_key, self.W_value)
        )
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(self.mask[:T, :T], -torch.inf).softmax(-1)
        mixed = self.dropout(weights) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(B, T, -1))


def join(word, pair, new):
    """Every `pair` in a word becomes the one token `new`, from left to right."""
    joined, i = [], 0
    while i < len(word):
        found = word[i : i + 2] == pair
        joined.append(new if found else word[i])
        i += 2 if found else 1
    return tuple(joined)


def learn_merges(words, n_merges):
    """The pairs to merge, the most frequent first."""
    merges = []
    for new in range(256, 256 + n_merges):
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {join(word, best, new): n for word, n in words.items()}
    return merges


def encode_word(word, merges):
    """Repeat the merges in the order in which they were learned."""
    rank = {pair: n for n, pair in enumerate(merges)}
    while pairs := [pair for pair in zip(word, word[1:]) if pair in rank]:
        first = min(pairs, key=rank.get)
        word = join(word, first, 256 + rank[first])
    return list(word)


def adamw(weight, gradient, memory, rate, keep, keep_square, decay):
    """Move by the average gradient, divided by its typical size."""
    n = memory["n"] = memory.get("n", 0) + 1
    memory["mean"] = keep * memory.get("mean", 0) + (1 - keep) * gradient
    memory["square"] = keep_square * memory.get("square", 0) + (1 - keep_square) * gradient**2
    mean = memory["mean"] / (1 - keep**n)
    square = memory["square"] / (1 - keep_square**n)
    weight *= 1 - rate * decay
    weight -= rate * mean / (square.sqrt() + 1e-8)


def muon(weight, gradient, memory, rate, keep, decay):
    """Move all directions of a matrix equally far."""
    memory["average"] = keep * memory.get("average", 0) + (1 - keep) * gradient
    ahead = keep * memory["average"] + (1 - keep) * gradient
    factor = max(1, weight.shape[0] / weight.shape[1]) ** 0.5
    weight *= 1 - rate * decay
    weight -= rate * factor * orthogonalize(ahead)


def learning_rate(step, total, peak, warmup):
    """Rise evenly, then fall in a line."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 - (step - warmup) / (total - warmup))


def temperature(logits, t):
    """Make the differences of logits larger (t below 1) or smaller."""
    return logits / t


def top_k(logits, k):
    """Keep the k most likely tokens of each row."""
    worst = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < worst, -torch.inf)


def top_p(logits, p):
    """Keep the most likely tokens of each row until their probabilities reach p."""
    ordered, order = logits.sort(descending=True, stable=True)
    share = ordered.softmax(-1)
    drop = share.cumsum(-1) - share >= p
    return logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)
