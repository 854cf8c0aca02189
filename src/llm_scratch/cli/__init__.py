"""The command line: one small file a verb, and here the way from words to a verb and from an error to one line.

A verb is a frozen dataclass (its fields are its flags, its docstring is its help) with a method `run`. torch is imported inside
`run`, so that `--help` answers at once. Errors are one line on stderr and an exit code (see errors.py); `--debug` shows the traceback.
Proof: tests/cli/.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from llm_scratch import __version__
from llm_scratch.cli.encoding import use_lookalikes, write_files_as_utf8
from llm_scratch.cli.narrow import entries, fold, terminal_columns
from llm_scratch.cli.streams import flush_standard_streams, open_standard_streams
from llm_scratch.errors import (
    BROKEN_PIPE,
    BUG,
    EXIT_CODES,
    INTERRUPTED,
    RESOURCES,
    GenerationWarning,
    UserError,
    describe_error,
    one_line,
    unknown,
)

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("commands.train.Train", "train a model from a preset, or go on with one"),
    "plan": ("commands.plan.Plan", "memory, time and what fits, before training"),
    "generate": ("commands.generate.Generate", "continue a text"),
    "chat": ("commands.chat.Chat", "talk with a model in the terminal"),
    "compare-decoding": ("commands.compare_decoding.CompareDecoding", "one prompt under every way of choosing a token"),
    "evaluate": ("commands.evaluate.Evaluate", "loss, perplexity, bits per byte, skills"),
    "memorization": ("commands.memorization.Memorization", "how much of its training text a model recites"),
    "tokenizer train": ("commands.tokenizer.TrainTokenizer", "learn a vocabulary from a text"),
    "tokenizer show": ("commands.tokenizer.ShowTokens", "see how a text becomes tokens"),
    "tokenizer compare": ("commands.tokenizer.CompareTokenizers", "tokens and bytes per token, side by side"),
    "data list": ("commands.data.ListSources", "where text can come from"),
    "data download": ("commands.data.DownloadSource", "download a source once"),
    "data show": ("commands.data.ShowSource", "documents, size and a sample of a source"),
    "data prepare": ("commands.prepare_data.PrepareData", "turn a text of any size into token shards"),
    "data check": ("commands.prepare_data.CheckData", "whether shards are as they were written"),
    "import": ("commands.import_model.Import", "make a run of a model that another program saved"),
    "quantize": ("commands.quantize.Quantize", "put a model into 8 or 4 bits, and see what it costs"),
    "export hf": ("commands.export.ExportHF", "write a model as a folder that transformers reads"),
    "plot": ("commands.plot.Plot", "draw the loss of one run or of several"),
    "report": ("commands.report.Report", "one HTML page about a run, to hand out or print"),
    "runs list": ("commands.runs.ListRuns", "the runs of a folder"),
    "runs show": ("commands.runs.ShowRun", "one run: settings, loss curve, last sample"),
    "runs diagnose": ("commands.runs.DiagnoseRun", "check a loss curve for problems; what to try"),
    "config": ("commands.config.Config", "the presets, or the settings of one as YAML"),
    "doctor": ("commands.doctor.Doctor", "how a run is, by its curve; or what this machine has"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 0 when all went well.

    Args:
        argv: the words after `llm-scratch`; None takes this process's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    open_standard_streams()
    use_lookalikes()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(logging.Formatter("llm-scratch: %(levelname)s: %(message)s"))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # that it cannot keep a cache in a home of others is no news here
    if os.environ.get("NO_COLOR"):
        os.environ.setdefault("PYTHON_TYRO_ANSI_CODES", "False")  # tyro knows a variable of its own
    try:
        code = _run(words)
    except BaseException as e:
        if "--debug" in words[: words.index("--") if "--" in words else None]:
            raise
        line, code = format_error(e)
        _complain(f"llm-scratch{_process()}: {line}")
    return _code_after_output(code)


def _run(words: list[str]) -> int:
    """Run a command; its exit code."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.filterwarnings("default", category=GenerationWarning)
            _dispatch(words)
    except SystemExit as e:
        if isinstance(e.__context__, BrokenPipeError):  # rich ends the program so
            return BROKEN_PIPE
        return e.code if isinstance(e.code, int) else 0
    except BrokenPipeError:  # `llm-scratch runs list | head -1`
        return BROKEN_PIPE
    return 0


def _code_after_output(code: int) -> int:
    """The exit code once the output is flushed: a failure to write it is one of the command, if that had none."""
    failed = flush_standard_streams()
    if failed is None or code:
        return code
    if isinstance(failed, BrokenPipeError):
        return BROKEN_PIPE
    line, code = format_error(failed)
    _complain(f"llm-scratch: {line}")
    return code


def _process() -> str:
    """Which process of a distributed job speaks; "" for the only one."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return f", process {rank} of {size}" if size.isdigit() and int(size) > 1 and rank.isdigit() else ""


def _complain(line: str) -> None:
    """Print a line on stderr, if that takes it; on a terminal it is wrapped between words."""
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            from llm_scratch.cli.word_wrap import wrap  # here: rich is not needed for --help

            line = wrap(line, terminal_columns())
        print(line, file=sys.stderr)


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning of a library in one line."""
    _complain(f"llm-scratch: warning: {one_line(str(message))}")


def format_error(error: BaseException) -> tuple[str, int]:
    """One line for a person, and the exit code."""
    if isinstance(error, UserError):
        return one_line(str(error)), error.code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return "out of memory; try a smaller --train.batch-size, more --train.micro-batches or a smaller model", RESOURCES
    if isinstance(error, OSError) and error.filename is not None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"{error.filename}: {error.strerror}; check the path, its permissions and the free space", RESOURCES if full else BUG
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; free some space or choose another folder", RESOURCES
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # of Python's tempfile
        return f"{error.strerror or error}; set TMPDIR to a folder that can be written", RESOURCES
    return f"unexpected {describe_error(error, named=True)}; this is a bug: run it again with --debug and report what it prints", BUG


def _dispatch(words: list[str]) -> None:
    """Find the verb, read its flags, run it."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return
    if words[0] in ("-V", "--version"):
        print(f"llm-scratch {__version__}")
        return
    if words[0] == "--print-completion":
        from llm_scratch.cli.completion_script import print_completion  # here: it imports every command

        print_completion(words[1:], COMMANDS)
        return
    verb, rest = _find_command(words)
    if verb is None:
        print(help_text(words[0]))
        return
    try:
        os.getcwd()
    except OSError as e:
        raise UserError("the working folder is gone; change to one that exists", RESOURCES) from e
    from llm_scratch.storage.user_folders import set_library_folders  # here: --help does not need it

    set_library_folders()
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files; the name of a backend that matplotlib does not know would be an error
    module, _, name = COMMANDS[verb][0].rpartition(".")
    command: Any = getattr(import_module(f"{__name__}.{module}"), name)
    from llm_scratch.cli.flags import parse

    parsed = parse(command, rest, f"llm-scratch {verb}")
    write_files_as_utf8()
    from llm_scratch.cli.output import output_mode

    with output_mode(getattr(parsed, "json", False), parsed.quiet):
        parsed.run()


def _find_command(words: list[str]) -> tuple[str | None, list[str]]:
    """The verb at the start of `words`, and what follows it; no verb for `tokenizer --help`, which asks for a group's list."""
    first, rest = words[0], words[1:]
    if first in COMMANDS:
        return first, rest
    inside = [verb.split()[1] for verb in COMMANDS if verb.split()[0] == first and " " in verb]
    if not inside:
        raise unknown("command", first, {verb.split()[0] for verb in COMMANDS})
    if not rest or rest[0] in ("-h", "--help"):
        return None, []
    if rest[0] not in inside:
        raise unknown(f"{first} command", rest[0], inside)
    return f"{first} {rest[0]}", rest[1:]


def help_text(group: str = "") -> str:
    """The help of the whole command, or of a group of verbs such as `tokenizer`."""
    verbs = {verb: about for verb, (_, about) in COMMANDS.items() if verb.split()[0] == group or not group}
    columns = terminal_columns()
    lines = [f"usage: llm-scratch {group + ' ' if group else ''}COMMAND ...", ""]
    if not group:
        lines += ["Understand, build, train and look inside a GPT.", ""]
    lines = [fold(line, columns) for line in lines]
    lines += ["commands:", *entries(verbs, columns), "", "examples:"]
    if group:
        lines += [fold(f"  llm-scratch {verb} --help", columns) for verb in list(verbs)[:2]]
    else:
        examples = ["  llm-scratch train quickstart", '  llm-scratch generate quickstart "The story of Anna"', ""]
        lines += [fold(line, columns) for line in examples]
        lines += ["exit codes:", *entries({str(code): about for code, about in EXIT_CODES.items()}, columns, 4), ""]
        lines += [fold("Each command has --help. llm-scratch --version prints the version.", columns)]
        lines += [fold("Scripts: --json prints a command's result as JSON, --quiet prints results only.", columns)]
        lines += [fold("Tab completion: llm-scratch --print-completion bash (or zsh, fish, tcsh).", columns)]
    return "\n".join(lines)
