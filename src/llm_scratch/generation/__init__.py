"""Text generation: from logits to tokens to text. Reading order:

`sampling` and `penalties` choose a token from the logits; `cached_model` computes the logits of new
tokens; `steps` repeats both; `detokenizer` turns tokens into text as they arrive; `decode` is the
interface: `generate` and `stream`. The decoding strategies `beam`, `contrastive` and `speculative`
yield the same steps; `mirostat` and `constrain` are logits processors with state. See
docs/decoding.md.
"""
