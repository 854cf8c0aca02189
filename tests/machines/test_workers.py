"""Without shared memory, commands work in one process instead of workers, with a warning."""

from __future__ import annotations

import pytest

from .commands import Command, run_commands
from .machines import MACHINES

pytestmark = [pytest.mark.machines, pytest.mark.xdist_group("no-shared-memory")]

MACHINE = next(machine for machine in MACHINES if machine.name == "no-shared-memory")
LOADER = """
from llm_scratch.data.text import create_dataloader_V1
from llm_scratch.tokenizers import TOKENIZERS
text = "the hen sat on the mat. " * 20
chars = TOKENIZERS["chars"]([text], None)
loader = create_dataloader_V1(text, 2, 8, 8, shuffle=False, num_workers=2, tokenizer=chars)
print(len(list(loader)), "batches")
"""


def test_shards_are_made_in_one_process_with_a_warning(results):
    assert "worker processes cannot start" in results(MACHINE)[1]["data-prepare"].err


def test_tokenizer_and_data_loader_work_in_one_process_with_a_warning(tmp_path, home):
    (tmp_path / "hens.txt").write_text("the hen sat on the mat. " * 200, encoding="utf-8")
    train = Command("tokenizer train file:hens.txt --vocab-size 262 --workers 2")
    tokenizer, loader = run_commands(MACHINE, [train, Command(program=LOADER)], tmp_path, home)
    assert (tokenizer.code, loader.code) == (0, 0), tokenizer.err + loader.err
    assert "worker processes cannot start" in tokenizer.err
    assert "worker processes cannot start" in loader.err
    assert "29 batches" in loader.out
