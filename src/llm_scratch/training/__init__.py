"""Training: `loop` runs it, `trainer` holds its state, `step` is one optimizer step.

`recovery` skips bad steps, `checkpoint_writer` saves, `callbacks` reports; `simple` is the loop of
lesson 4.
"""
