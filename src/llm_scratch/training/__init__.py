"""How weights are found: `loop` for real runs, `simple` for lesson 4, `optim` and `schedule` their parts, `plot` the picture of it."""
