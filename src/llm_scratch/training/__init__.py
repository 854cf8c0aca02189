"""Training: `loop` runs it, `step` is one optimizer step, `optim` and `schedule` its parts.

`simple` is the loop of lesson 4, `plot` draws loss curves.
"""
