"""Text generation: from logits to tokens to text. Reading order:

`sampling` and `penalties` choose a token from the logits; `cached_model` computes the logits of new
tokens; `steps` repeats both for a fixed batch of ids. `config` has the settings of a text, `row`
its state, `detokenizer` turns its tokens into text; `row_batch` and `engine` generate many texts
that join and leave. `decode` is the interface: `generate` and `stream`. The decoding strategies
`beam`, `contrastive` and `speculative` yield the same steps (`strategies` has their names);
`mirostat` and `constrain` are logits processors with state. `chat` makes a prompt of the turns of a
conversation. `dtype` and `inference` prepare a model to run fast. See docs/decoding.md.
"""
