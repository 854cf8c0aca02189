"""Make a move of the budget game, and print its state in plain words.

Tests: tests/cli/test_game.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.folders import RUNS_FOLDER
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines, table
from llm_scratch.formatting import format_count

if TYPE_CHECKING:
    from llm_scratch.experiments.game import Game, Outcome


def play_and_print(
    base: str,
    out: str,
    device: str,
    as_json: bool,
    run: tuple[int, int] | None,
    guess: tuple[float, int | None] | None,
) -> None:
    """Make a move, and print the state of the game.

    Args:
        base: a preset or a run directory.
        out: the folder of the game, or "".
        device: "auto", "cpu", "cuda" or "mps".
        as_json: print the state as JSON.
        run: width and tokens of a run to buy.
        guess: the predicted loss, and the width that may be better.
    """
    from llm_scratch.cli.experiment_progress import running
    from llm_scratch.experiments.game import Game, Guess
    from llm_scratch.hardware.device import choose_device

    folder = Path(out) if out else RUNS_FOLDER / "budget-game"
    with running(folder) as progress:
        game = Game(folder, base, choose_device(device).name, progress)
        if run is not None:
            game.buy(*run)
        if guess is not None:
            game.predict(Guess(*guess))
        outcome = game.outcome()
    if as_json:
        print_json(game_json(game, outcome))
    else:
        _print_state(game, outcome)


def _print_state(game: Game, outcome: Outcome | None) -> None:
    """The runs that were bought, then the result, or what can be done next."""
    screen = console()
    runs = game.runs()
    if runs:
        grid = table("width", "parameters", "tokens", "FLOPs", "bits per byte")
        for run in runs:
            loss = "diverged" if run.loss is None else f"{run.loss:.4f}"
            counts = (format_count(n) for n in (run.parameters, run.positions, run.flops))
            grid.add_row(f"{run.width}", *counts, loss)
        screen.print(grid)
        screen.print()
    for line in rules(game) if outcome is None else result_lines(game, outcome):
        screen.print(line, soft_wrap=keeps_lines(screen))


def rules(game: Game) -> list[str]:
    """What to predict, what is left, and the moves."""
    return [
        (
            f"Predict the loss of {_target(game)}, {format_count(game.target_flops)}FLOP."
            " That run is trained after your prediction."
        ),
        (
            f"You can spend {format_count(game.budget)}FLOP on smaller runs of your choice;"
            f" {format_count(game.left())}FLOP are left. Each run is trained on this machine."
        ),
        "Buy a run:  llm-scratch experiment game --width 32 --tokens 20000",
        "Predict:    llm-scratch experiment game --predict LOSS, in bits per byte",
        (
            "Six runs of 3 widths and 3 lengths determine a scaling law, and you compete with its"
            " prediction; with fewer runs you compete with the lowest loss among them."
        ),
    ]


def result_lines(game: Game, outcome: Outcome) -> list[str]:
    """The measured loss, both errors, the score, and the width that the learner named."""
    other = "the law fitted to your runs" if outcome.is_law else "the lowest loss of your runs"
    lines = [
        f"The larger run, {_target(game)}, reached {outcome.measured:.4f} bits per byte.",
        (
            f"You predicted {outcome.guess.loss:.4f},"
            f" off by {abs(outcome.guess.loss - outcome.measured):.4f}; {other} says"
            f" {outcome.reference:.4f}, off by {abs(outcome.reference - outcome.measured):.4f}."
        ),
        f"Score: {outcome.score} of 100; 50 is as good as {other}.",
    ]
    if outcome.best_width_loss is not None:
        better = "lower" if outcome.best_width_loss < outcome.measured else "not lower"
        lines.append(
            f"Your width {outcome.guess.best_width} with the same FLOPs reached"
            f" {outcome.best_width_loss:.4f}, {better} than width {game.target.model['emb_dim']}."
        )
    return lines


def _target(game: Game) -> str:
    from llm_scratch.experiments.grid import n_parameters, n_positions

    return (
        f"width {game.target.model['emb_dim']} ({format_count(n_parameters(game.target))}"
        f" parameters) after {format_count(n_positions(game.target))} tokens"
    )


def game_json(game: Game, outcome: Outcome | None) -> dict[str, Any]:
    """The state of `experiment game`."""
    from llm_scratch.experiments.grid import n_parameters, n_positions

    result = None
    if outcome is not None:
        result = {
            "predicted": outcome.guess.loss,
            "measured": outcome.measured,
            "reference": outcome.reference,
            "is_law": outcome.is_law,
            "score": outcome.score,
            "best_width": outcome.guess.best_width,
            "best_width_loss": outcome.best_width_loss,
        }
    return {
        "folder": game.folder,
        "budget_flops": game.budget,
        "left_flops": game.left(),
        "target": {
            "width": game.target.model["emb_dim"],
            "parameters": n_parameters(game.target),
            "positions": n_positions(game.target),
            "flops": game.target_flops,
        },
        "runs": [vars(run) for run in game.runs()],
        "result": result,
    }
