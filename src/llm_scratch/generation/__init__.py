"""From scores to text. Read them in this order:

`sampling` and `penalties` choose one token from the model's scores; `reader` asks the model and remembers what it read; `steps` repeats
the two; `pieces` turns tokens into text while they come; `decode` is the door: `generate`, `stream`. Other ways of writing give the same
steps: `beam`, `contrastive`, `speculative`; `mirostat` and `constrain` bend the scores with a memory. All of them: docs/decoding.md.
"""
