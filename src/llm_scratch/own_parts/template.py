"""The code that a learner begins a part with.

Tests: tests/own_parts/test_parts.py.
"""

from __future__ import annotations

STARTS = {
    "LayerNorm": '''
class LayerNorm(nn.Module):
    """Mean 0 and variance 1 for each token, then scale and shift. [..., C] -> [..., C].

    Weights: `scale` and `shift`, both of shape (emb_dim,). Lesson 3.2.
    """

    def __init__(self, emb_dim):
        super().__init__()
        ...  # your code

    def forward(self, x):
        return ...  # your code
''',
    "GELU": '''
class GELU(nn.Module):
    """GPT-2's activation, in its tanh form. Any shape -> the same shape. Lesson 3.3."""

    def forward(self, x):
        return ...  # your code
''',
    "FeedForward": '''
class FeedForward(nn.Module):
    """Widen four times, activate, narrow again. [B, T, C] -> [B, T, C].

    Weights: those of `layers`, an nn.Sequential of Linear, activation, Linear. C is
    `cfg["emb_dim"]`. Lesson 3.4.
    """

    def __init__(self, cfg):
        super().__init__()
        ...  # your code

    def forward(self, x):
        return ...  # your code
''',
    "MultiHeadAttention": '''
class MultiHeadAttention(nn.Module):
    """Causal attention with several heads. [B, T, d_in] -> [B, T, d_out].

    Weights: `W_query`, `W_key` and `W_value`, linear layers from d_in to d_out without bias, and
    `out_proj`, a linear layer from d_out to d_out with bias. T is at most context_length;
    `dropout` is the rate at which weights are dropped in training. Lesson 2.8.
    """

    def __init__(self, d_in, d_out, context_length, dropout, num_heads):
        super().__init__()
        ...  # your code

    def forward(self, x):
        return ...  # your code
''',
    "learn_merges": '''
def learn_merges(words, n_merges):
    """Byte-pair encoding: the pairs to merge, in order. Lesson 1.5.

    `words` is a dictionary: each key is a word as a tuple of token ids, its value says how often
    it comes. Merge number n, counted from 0, makes token 256 + n. Of equally frequent pairs the
    smallest is merged. Fewer merges are returned if no pair is left.
    """
    return ...  # your code: a list of pairs of ids
''',
    "encode_word": '''
def encode_word(word, merges):
    """The token ids of a word, which comes as a tuple of the ids of its bytes. Lesson 1.5.

    `merges` is what `learn_merges` returned: merge number n makes token 256 + n.
    """
    return ...  # your code: a list of ids
''',
    "adamw": '''
def adamw(weight, gradient, memory, rate, keep, keep_square, decay):
    """AdamW: change `weight` in place, by one step. Lesson 0.9.

    `memory` is a dictionary of this weight that lasts from step to step; it is empty at first.
    `decay` shrinks the weight by the share rate * decay. The eps is 1e-8.
    """
    ...  # your code
''',
    "muon": '''
def muon(weight, gradient, memory, rate, keep, decay):
    """Muon, for a matrix: change `weight` in place, by one step. Lessons 0.9 and 6.6.

    `memory` and `decay` are those of `adamw`. Momentum is Nesterov's: keep times the average
    gradient, plus 1 - keep times the gradient. Its directions are made equal by
    `llm_scratch.training.optim.orthogonalize`, and the step is multiplied by the root of
    max(1, rows / columns).
    """
    ...  # your code
''',
    "learning_rate": '''
def learning_rate(step, total, peak, warmup):
    """The learning rate of a step, counted from 0: warm-up, then a fall in a line. Lesson 6.7.

    In the first `warmup` steps the rate rises evenly; step 0 already moves, and step warmup - 1
    has the rate `peak`. From step `warmup` on it falls, and would reach 0 at step `total`.
    """
    return ...  # your code
''',
    "temperature": '''
def temperature(logits, t):
    """Logits that are sampled more boldly (t above 1) or more carefully. Lesson 4.5.

    [B, V] -> [B, V]; softmax comes later.
    """
    return ...  # your code
''',
    "top_k": '''
def top_k(logits, k):
    """Keep the k most likely tokens of each row, and ties with the last of them. Lesson 4.5.

    [B, V] -> [B, V]; the others become minus infinity. k may be larger than V.
    """
    return ...  # your code
''',
    "top_p": '''
def top_p(logits, p):
    """Keep the most likely tokens of each row until their probabilities reach p. Lesson 4.5.

    [B, V] -> [B, V]; the others become minus infinity. The token that reaches p is kept.
    """
    return ...  # your code
''',
}
"""Name of a part -> its signature, with what it has to do."""
