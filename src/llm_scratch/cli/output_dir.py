"""Check the folder that `train` is to write to, and empty it for `--fresh --force`.

Tests: tests/cli/test_train.py.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch.cli.folders import with_order_of
from llm_scratch.cli.terminal import keeps_lines
from llm_scratch.config import RunConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.run_directory import find_run
from llm_scratch.storage import files
from llm_scratch.training.lock import NAME, exclusive_writer
from llm_scratch.training.same_run import check_same_run

if TYPE_CHECKING:
    from rich.console import Console


def check_output_dir(
    folder: Path, config: RunConfig, fresh: bool, force: bool, screen: Console
) -> None:
    """Check that a folder is new, empty or a run with the same settings.

    `fresh` and `force` remove an existing run.

    Raises:
        UserError: the folder holds something else, which is left unchanged.
    """
    if not folder.exists():
        return
    if not fresh and (old := find_run(folder)) is not None:
        old.check_trainable()
    if not folder.is_dir():
        raise UserError(f"--out {folder}: it is a file; use a folder or a new name")
    is_run = (folder / "config.yaml").is_file() and (folder / "ckpt").is_dir()
    if fresh and is_run and not force:
        existing = (
            f"a run of {old.step:,} steps" if (old := find_run(folder)) is not None else "a run"
        )
        raise UserError(
            f"--out {folder}: it holds {existing};"
            " --fresh --force removes it, or choose another --out",
            CHECKPOINT,
        )
    if fresh and is_run:
        with exclusive_writer(folder, screen.print):
            for path in folder.iterdir():
                if path.name != NAME:  # it is open, and Windows cannot remove an open file
                    files.filesystem.remove(path)
        with suppress(OSError):  # unless another process has started training there
            folder.rmdir()
        screen.print(f"removed the run that was in {folder}", soft_wrap=keeps_lines(screen))
    elif is_run and (old := find_run(folder)) is not None:
        check_same_run(folder, old.config, with_order_of(old.config, config))
    elif (
        not is_run
        and not (folder / "config.yaml").is_file()
        and any(path.name != NAME for path in folder.iterdir())
    ):
        raise UserError(
            f"--out {folder}: it holds files that are not of a run;"
            " use a run directory, an empty folder or a new name"
        )
