"""F3: mutated GGUF files are loaded or refused with one line: no other error, and bounded work."""

import random

import pytest
from effort import at_most
from gguf_models import CFG, TEXT, random_model, whole_file

from llm_scratch.errors import UserError
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.loading import load
from llm_scratch.tokenizers.bpe import ByteBPE

MAX_LINES = 40_000
"""executed lines of Python to read a file with 290 tokens; a hang would take more"""
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]


@pytest.fixture(scope="module")
def original():
    return whole_file(random_model(CFG), ByteBPE.train([TEXT], 280))


def mutated(data, draw):
    """A file with one to four changes, most of them in the header."""
    changed = bytearray(data)
    header = data.index(b"token_embd") + 1500
    for _ in range(draw.randrange(1, 5)):
        end = len(changed) if draw.random() < 0.2 else min(header, len(changed))
        at = draw.randrange(max(end, 1))
        kind = draw.randrange(6)
        if kind == 0:
            changed[at : at + 1] = bytes([draw.choice(INTERESTING)])
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            number = draw.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, draw.randrange(2**64)])
            changed[at : at + 8] = number.to_bytes(8, "little")
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            del changed[at : at + draw.randrange(1, 40)]
        else:
            source = draw.randrange(len(changed) or 1)
            changed[at:at] = changed[source : source + draw.randrange(1, 40)]
    return bytes(changed)


def count_refused(original, tmp_path, n, counted):
    """Load n mutated files; return how many were refused, each with one line that names it."""
    draw, path = random.Random(2026), tmp_path / "mutated.gguf"
    errors = []  # code and message: the error itself keeps all that was read
    for i in range(n):
        path.write_bytes(mutated(original, draw))
        try:
            if i < counted:
                with at_most(lines=MAX_LINES):
                    GGUFFile(path)
            load(path)
        except UserError as e:
            errors.append((e.code, str(e)))
    assert {code for code, _ in errors} <= {3, 4}
    assert not [text for _, text in errors if "\n" in text or "mutated.gguf" not in text]
    return len(errors)


def test_f3_mutated_files_are_loaded_or_refused(original, tmp_path, measured):
    n = 300
    refused = count_refused(original, tmp_path, n, counted=60)
    assert n / 2 < refused < n
    measured("F3", f"{n} mutated files: {refused} refused, the others loaded", "no other error")


@pytest.mark.slow
@pytest.mark.timeout(7200)  # about 10 ms per file
def test_f3_100000_mutated_files_are_loaded_or_refused(original, tmp_path, measured):
    n = 100_000
    refused = count_refused(original, tmp_path, n, counted=0)
    assert n / 2 < refused < n
    measured("F3", f"{n:,} mutated files: {refused:,} refused, the others loaded", "no other error")


def test_f3_sizes_are_checked_before_any_tensor_is_read(original, tmp_path, monkeypatch):
    """Files that end early are refused without reading one value."""
    monkeypatch.setattr(GGUFFile, "read", lambda *args: pytest.fail("a tensor was read"))
    path = tmp_path / "cut.gguf"
    for length in range(0, len(original) - 64, 997):
        path.write_bytes(original[:length])
        with pytest.raises(UserError, match="cut.gguf"):
            load(path)
