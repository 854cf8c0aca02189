"""The command line: find the command, parse its flags, run it, and report an error in one line.

A command is a frozen dataclass in `commands/`: its fields are its flags, its docstring is its help,
and `run` does the work. torch is imported inside `run`, so that `--help` answers at once. An error
is one line on stderr and an exit code (see errors.py); `--debug` shows the traceback.
Tests: tests/cli/.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from importlib import import_module
from typing import Any, TextIO, cast

from llm_scratch import __version__
from llm_scratch.cli.encoding import use_lookalikes, write_files_as_utf8
from llm_scratch.cli.narrow import entries, fold, terminal_columns
from llm_scratch.cli.streams import (
    LenientStream,
    flush_standard_streams,
    open_standard_streams,
)
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
    "train": ("commands.train.Train", "train a model from a preset, or resume a run"),
    "plan": ("commands.plan.Plan", "estimate memory and time before training"),
    "generate": ("commands.generate.Generate", "continue a text"),
    "chat": ("commands.chat.Chat", "chat with a model in the terminal"),
    "play": ("commands.play.Play", "see inside a model, in the browser"),
    "compare-decoding": (
        "commands.compare_decoding.CompareDecoding",
        "one prompt under every decoding method",
    ),
    "evaluate": ("commands.evaluate.Evaluate", "loss, perplexity, bits per byte, skills"),
    "inspect": (
        "commands.inspect.Inspect",
        "see what the layers and heads of a model do on a text",
    ),
    "memorization": (
        "commands.memorization.Memorization",
        "how much of its training text a model repeats",
    ),
    "tokenizer train": (
        "commands.tokenizer.TrainTokenizer",
        "train a byte-pair tokenizer on a text",
    ),
    "tokenizer show": ("commands.tokenizer.ShowTokens", "show the tokens of a text"),
    "tokenizer compare": (
        "commands.tokenizer.CompareTokenizers",
        "compare bytes per token of several tokenizers",
    ),
    "data list": ("commands.data.ListSources", "list the text sources"),
    "data download": ("commands.data.DownloadSource", "download a text source once"),
    "data show": ("commands.data.ShowSource", "show size and a sample of a source"),
    "data prepare": (
        "commands.prepare_data.PrepareData",
        "tokenize a text of any size into shards",
    ),
    "data check": ("commands.prepare_data.CheckData", "verify the checksums of shards"),
    "import": ("commands.import_model.Import", "import a checkpoint of another program"),
    "quantize": ("commands.quantize.Quantize", "quantize a model to 8 or 4 bits"),
    "export hf": ("commands.export.ExportHF", "export a model for transformers"),
    "export gguf": ("commands.export.ExportGGUF", "export a model for llama.cpp and ollama"),
    "plot": ("commands.plot.Plot", "plot the loss of one or several runs"),
    "report": ("commands.report.Report", "write an HTML report of a run"),
    "runs list": ("commands.runs.ListRuns", "list the runs in a folder"),
    "runs show": ("commands.runs.ShowRun", "show settings, loss curve and last sample of a run"),
    "runs diagnose": ("commands.runs.DiagnoseRun", "check the loss curve of a run for problems"),
    "compare": ("commands.compare.Compare", "compare settings over several seeds"),
    "experiment run": ("commands.experiment.RunExperiment", "run an experiment from a file"),
    "experiment plan": (
        "commands.experiment.PlanExperiment",
        "estimate the time of an experiment and what it can detect",
    ),
    "experiment report": (
        "commands.experiment.ReportExperiment",
        "write the report of an experiment",
    ),
    "experiment scaling": (
        "commands.experiment.FitScaling",
        "fit a scaling law, predict a larger run",
    ),
    "experiment transfer": (
        "commands.experiment.FindTransfer",
        "find the best learning rate of each width",
    ),
    "experiment game": (
        "commands.experiment.PlayGame",
        "predict a larger run from small ones, within a budget",
    ),
    "config": ("commands.config.Config", "list the presets, or print one as YAML"),
    "learn list": (
        "commands.learn.ListExercises",
        "list the exercises of the course, and which are solved",
    ),
    "learn next": ("commands.learn.NextExercise", "show the next exercise"),
    "learn check": ("commands.learn.CheckAnswer", "check an answer, and diagnose what is wrong"),
    "learn hint": ("commands.learn.ShowHint", "show the next of three hints"),
    "learn solution": ("commands.learn.ShowSolution", "open the sealed solution of an exercise"),
    "learn parts": (
        "commands.learn_parts.CheckParts",
        "compare your own parts of the model with the package's",
    ),
    "learn template": (
        "commands.learn_parts.PrintTemplate",
        "print a template for your own parts",
    ),
    "learn handout": (
        "commands.learn_class.WriteHandouts",
        "write the pupils' copies of the exercises",
    ),
    "learn key": ("commands.learn_class.PrintKey", "print the key to a pupil's copy"),
    "learn grade": ("commands.learn.GradeClass", "grade the folders of a class at once"),
    "explain": ("commands.explain.Explain", "explain a term of the lessons"),
    "doctor": ("commands.doctor.Doctor", "check this machine and the installation"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 0 means success.

    Args:
        argv: the arguments after `llm-scratch`; None takes those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    open_standard_streams()
    use_lookalikes()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(
            logging.Formatter("llm-scratch: %(levelname)s: %(message)s")
        )
    # matplotlib warns when its cache folder is read-only, which does not matter here
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if os.environ.get("NO_COLOR"):
        os.environ.setdefault("PYTHON_TYRO_ANSI_CODES", "False")  # tyro reads its own variable
    # the type checks of tyro would search all installed packages for plugins
    os.environ.setdefault("TYPEGUARD_DISABLE_PLUGIN_AUTOLOAD", "1")
    # a message that cannot be written must not spoil a command
    with redirect_stderr(cast("TextIO", LenientStream(sys.stderr))):
        try:
            code = _run(words)
        except BaseException as e:
            if "--debug" in words[: words.index("--") if "--" in words else None]:
                raise
            line, code = format_error(e)
            _print_error(f"llm-scratch{_process()}: {line}")
        return _code_after_output(code)


def _run(words: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.filterwarnings("default", category=GenerationWarning)
            _dispatch(words)
    except SystemExit as e:
        if isinstance(e.__context__, BrokenPipeError):  # how rich exits on a closed pipe
            return BROKEN_PIPE
        return e.code if isinstance(e.code, int) else 0
    except BrokenPipeError:  # `llm-scratch runs list | head -1`
        return BROKEN_PIPE
    return 0


def _code_after_output(code: int) -> int:
    """Flush the output; a failure to write it becomes the exit code of a command that succeeded."""
    failed = flush_standard_streams()
    if failed is None or code:
        return code
    if isinstance(failed, BrokenPipeError):
        return BROKEN_PIPE
    line, code = format_error(failed)
    _print_error(f"llm-scratch: {line}")
    return code


def _process() -> str:
    """The rank of this process in a distributed job, for error messages; "" for one process."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return (
        f", process {rank} of {size}" if size.isdigit() and int(size) > 1 and rank.isdigit() else ""
    )


def _print_error(line: str) -> None:
    """Print a line on stderr if possible, wrapped between words on a terminal."""
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            from llm_scratch.cli.word_wrap import wrap  # here: rich is not needed for --help

            line = wrap(line, terminal_columns())
        print(line, file=sys.stderr)


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a library's warning in one line."""
    _print_error(f"llm-scratch: warning: {one_line(str(message))}")


def format_error(error: BaseException) -> tuple[str, int]:
    """The error message in one line, and the exit code."""
    if isinstance(error, UserError):
        return one_line(str(error)), error.code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        smaller = "a smaller --train.batch-size, more --train.micro-batches or a smaller model"
        return f"out of memory; try {smaller}", RESOURCES
    if isinstance(error, OSError) and error.filename is not None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = f"{error.filename}: {error.strerror}"
        advice = "check the path, its permissions and the free space"
        return f"{problem}; {advice}", RESOURCES if full else BUG
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; free some space or choose another folder", RESOURCES
    # of Python's tempfile
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return f"{error.strerror or error}; set TMPDIR to a folder that can be written", RESOURCES
    problem = f"unexpected {describe_error(error, named=True)}; this is a bug"
    return f"{problem}; run it again with --debug and report the traceback", BUG


def _dispatch(words: list[str]) -> None:
    """Find the command, parse its flags, run it."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return
    if words[0] in ("-V", "--version"):
        print(f"llm-scratch {__version__}")
        return
    if words[0] == "--print-completion":
        # here: it imports every command
        from llm_scratch.cli.completion_script import print_completion

        print_completion(words[1:], COMMANDS)
        return
    name, rest = _find_command(words)
    if name is None:
        print(help_text(words[0]))
        return
    try:
        os.getcwd()
    except OSError as e:
        raise UserError(
            "working directory: it no longer exists; change to an existing one", RESOURCES
        ) from e
    # here: --help does not need them
    from llm_scratch.hardware.other_load import LoadMeter
    from llm_scratch.hardware.waiting_threads import let_waiting_threads_sleep
    from llm_scratch.storage.user_folders import set_library_folders

    meter = LoadMeter()
    set_library_folders()
    os.environ["MPLBACKEND"] = (
        "agg"  # plots go to files, and an unknown backend name would be an error
    )
    module, _, class_name = COMMANDS[name][0].rpartition(".")
    command: Any = getattr(import_module(f"{__name__}.{module}"), class_name)
    from llm_scratch.cli.flags import parse

    parsed = parse(command, rest, f"llm-scratch {name}")
    write_files_as_utf8()
    let_waiting_threads_sleep(meter)
    from llm_scratch.cli.output import output_mode

    with output_mode(getattr(parsed, "json", False), parsed.quiet):
        parsed.run()


def _find_command(words: list[str]) -> tuple[str | None, list[str]]:
    """The command at the start of `words`, and the rest; None for the help of a group."""
    first, rest = words[0], words[1:]
    if first in COMMANDS:
        return first, rest
    inside = [name.split()[1] for name in COMMANDS if name.split()[0] == first and " " in name]
    if not inside:
        raise unknown("command", first, {name.split()[0] for name in COMMANDS})
    if not rest or rest[0] in ("-h", "--help"):
        return None, []
    if rest[0] not in inside:
        raise unknown(f"{first} command", rest[0], inside)
    return f"{first} {rest[0]}", rest[1:]


def help_text(group: str = "") -> str:
    """The help of `llm-scratch`, or of a group of commands such as `tokenizer`."""
    names = {
        name: about
        for name, (_, about) in COMMANDS.items()
        if name.split()[0] == group or not group
    }
    columns = terminal_columns()
    lines = [f"usage: llm-scratch {group + ' ' if group else ''}COMMAND ...", ""]
    if not group:
        lines += ["Understand, build, train and look inside a GPT.", ""]
    lines = [fold(line, columns) for line in lines]
    lines += ["commands:", *entries(names, columns), "", "examples:"]
    if group:
        lines += [fold(f"  llm-scratch {name} --help", columns) for name in list(names)[:2]]
    else:
        examples = [
            "  llm-scratch train quickstart",
            '  llm-scratch generate quickstart "The story of Anna"',
            "",
        ]
        lines += [fold(line, columns) for line in examples]
        lines += [
            "exit codes:",
            *entries({str(code): about for code, about in EXIT_CODES.items()}, columns, 4),
            "",
        ]
        lines += [
            fold("Each command has --help. llm-scratch --version prints the version.", columns)
        ]
        lines += [
            fold(
                "Scripts: --json prints a command's result as JSON, --quiet prints results only.",
                columns,
            )
        ]
        lines += [
            fold(
                "Tab completion: llm-scratch --print-completion bash (or zsh, fish, tcsh).", columns
            )
        ]
    return "\n".join(lines)
