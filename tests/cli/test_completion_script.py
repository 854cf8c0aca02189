"""`--print-completion`: a script that completes commands and flags."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.cli import COMMANDS
from llm_scratch.cli.completion_script import SHELLS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_has_commands_and_flags_and_is_valid(llm, shell, tmp_path):
    result = llm("--print-completion", shell)
    assert (result.code, result.err) == (0, "")
    for command in COMMANDS:
        assert all(word in result.out for word in command.split())
    assert "--train.batch-size" in result.out or "train.batch-size" in result.out
    assert "--fixed" not in result.out, "a field without a flag"
    if (program := shutil.which(shell)) is None:
        return  # its text is checked; only this shell could read it
    script = tmp_path / "script"
    script.write_text(result.out)
    subprocess.run([program, "-n", script], check=True, timeout=PATIENCE_SECONDS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("qu", "quantize"),
        ("runs s", "show"),
        ("runs ", "list"),
        ("generate --samp", "--samples"),
        ("generate --decoder be", "beam"),
    ],
)
def test_bash_completes(llm, tmp_path, typed, expected):
    script = tmp_path / "script"
    script.write_text(llm("--print-completion", "bash").out)
    words = ["llm-scratch", *typed.split(" ")]
    line = " ".join(f"'{word}'" for word in words)
    code = f"""
source '{script}'
function_name=$(complete -p llm-scratch | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
$function_name
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert expected in {line.strip() for line in done.stdout.splitlines()}


def test_unknown_shells_are_errors(llm):
    assert (
        llm("--print-completion").err
        == f"llm-scratch: --print-completion: expected one shell; give one of {', '.join(SHELLS)}\n"
    )
    assert llm("--print-completion").code == 2
    assert "did you mean 'bash'" in llm("--print-completion", "bahs").err


def test_tcsh_needs_a_package(llm, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.setattr("llm_scratch.cli.completion_script.find_spec", lambda name: None)
    result = llm("--print-completion", "tcsh")
    assert (result.code, "pip install shtab" in result.err) == (2, True)
