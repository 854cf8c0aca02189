"""`tokenizer train`, `tokenizer show` and `tokenizer compare`.

Tests: tests/cli/test_tokenizer.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Command, ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import tokens_json
from llm_scratch.cli.styles import NEIGHBORS
from llm_scratch.cli.terminal import console, keeps_lines, on_terminal, shows_colors, table
from llm_scratch.errors import USAGE, UserError
from llm_scratch.formatting import shell_command, show_whitespace

if TYPE_CHECKING:
    from rich.text import Text

    from llm_scratch.tokenizers import Tokenizer

LARGE_TEXT_CHARACTERS = 64_000_000
"""Length of a text from which several processes are faster than one."""
MAX_EXAMPLE = 20
"""Characters of the word in the suggested command."""


@dataclass(frozen=True)
class TrainTokenizer(Command):
    """Train a byte-pair tokenizer on SOURCE.

    The result is a tokenizer.json that the `tokenizers` library can read.

    examples:
      llm-scratch tokenizer train shakespeare --vocab-size 4096 --out bard.json
      llm-scratch tokenizer train file:'books/*.txt' --vocab-size 8192
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """a text source, see `llm-scratch data list`"""
    vocab_size: int = 4096
    """vocabulary size, including 256 bytes and <|endoftext|>"""
    out: Annotated[str, arg(metavar="FILE")] = "tokenizer.json"
    """the file to write"""
    workers: Annotated[int, option("N")] = 0
    """number of processes (default: the number of cores for at least 64 MB of text, else 1)"""

    def run(self) -> None:
        """Train, save, print the compression."""
        out = Path(self.out)
        if out.suffix != ".json" or out.is_dir():
            raise UserError(
                f"--out {self.out}: not the name of a .json file; use a name such as tokenizer.json"
            )
        check_can_write(out)
        from llm_scratch.data.sources import read
        from llm_scratch.hardware.processor import cpu_count
        from llm_scratch.tokenizers import ByteBPE

        documents = read(self.source)
        began = time.perf_counter()
        workers = self.workers or (
            cpu_count() if sum(map(len, documents)) >= LARGE_TEXT_CHARACTERS else 1
        )
        tokenizer = ByteBPE.train(
            documents, self.vocab_size, progress=on_terminal() and not self.quiet, processes=workers
        )
        seconds = time.perf_counter() - began
        tokenizer.save(out)
        size = sum(len(document.encode("utf-8", "replace")) for document in documents)
        tokens = sum(len(tokenizer.encode(document)) for document in documents)
        screen = console()
        screen.print(
            f"{tokenizer.n_vocab:,} tokens trained in {seconds:.1f} s from {size:,} bytes;"
            f" {size / tokens:.2f} bytes a token"
        )
        if self.quiet:
            hint = ""
        else:
            word = documents[0].split()[0][:MAX_EXAMPLE]
            hint = f"; try it: {shell_command('tokenizer', 'show', out, word)}"
        screen.print(f"written to {out}{hint}", soft_wrap=keeps_lines(screen))


@dataclass(frozen=True)
class ShowTokens(ReportCommand):
    """Show how TOKENIZER splits TEXT: each token with its id below it.

    A space is shown as ·, a line break as ⏎, a tab as →.

    examples:
      llm-scratch tokenizer show gpt2 "Hello, do you like tea?"
      llm-scratch tokenizer show runs/quickstart "The story of Anna"
    """

    tokenizer: Positional[Annotated[str, arg(metavar="TOKENIZER")]]
    """gpt2, a tokenizer.json, its folder, or a run"""
    text: Positional[Annotated[str, arg(metavar="TEXT")]]
    """the text to encode; "-" reads standard input"""

    def run(self) -> None:
        """Print the tokens, then their number."""
        from llm_scratch.cli.prompts import read_text_argument

        text = read_text_argument("-") if self.text == "-" else self.text
        tokenizer = resolve_tokenizer(self.tokenizer)
        ids = tokenizer.encode(text, disallowed_special=())
        if self.json:
            print_json(tokens_json(self.tokenizer, tokenizer, text, ids))
            return
        screen = console()
        for line in _rows(tokenizer, ids, screen.width, colored=shows_colors(screen)):
            screen.print(line, soft_wrap=True)
        n_bytes = len(text.encode("utf-8", "replace"))
        screen.print(
            f"\n{len(ids)} tokens, {n_bytes} bytes, {n_bytes / max(1, len(ids)):.2f} bytes a token"
        )


def resolve_tokenizer(name: str) -> Tokenizer:
    """Open a tokenizer by name: "gpt2", a tokenizer.json, its folder, or a run.

    Raises:
        UserError: there is no such tokenizer.
    """
    from llm_scratch.tokenizers import TOKENIZERS
    from llm_scratch.tokenizers.locate import open_tokenizer

    if name == "gpt2":
        return TOKENIZERS["gpt2"]([], None)
    if name in TOKENIZERS:
        raise UserError(
            f"tokenizer {name!r} has to be trained first;"
            " run `llm-scratch tokenizer train`, then use its file",
            USAGE,
        )
    try:
        where = resolve_model_path(name)
    except UserError as e:
        known = f"{', '.join(TOKENIZERS)}, a tokenizer.json, its folder or a run"
        plugin = "if a Python file of yours defines it, add --import FILE"
        raise UserError(f"unknown tokenizer {name!r}; known: {known}; {plugin}", e.code) from e
    return open_tokenizer(where)


def _rows(tokenizer: Tokenizer, ids: list[int], width: int, colored: bool) -> list[Text]:
    """Lines of tokens with a line of ids below each; without colors, a bar ends each token."""
    from rich.text import Text

    rows: list[Text] = []
    upper, lower, used = Text(), Text(), width
    for number, i in enumerate(ids):
        raw = tokenizer.decode_bytes([i])
        try:
            piece = show_whitespace(raw.decode("utf-8"))
        except UnicodeDecodeError:  # a part of a character
            piece = "".join(f"<{byte:02x}>" for byte in raw)
        cell = max(Text(piece).cell_len, len(str(i))) + 1
        if used + cell > width:
            upper, lower, used = Text(), Text(), 0
            rows += [upper, lower]
        upper.append(piece, NEIGHBORS[number % len(NEIGHBORS)] if colored else "")
        upper.append(("" if colored else "|").ljust(cell - Text(piece).cell_len))
        lower.append(f"{i:<{cell}}")
        used += cell
    return rows


@dataclass(frozen=True)
class CompareTokenizers(ReportCommand):
    """Compare the number of tokens that each kind of tokenizer makes of TEXT.

    All but gpt2 are trained on --source, which is also the default of TEXT.

    examples:
      llm-scratch tokenizer compare "It's the last he painted, you know."
      llm-scratch tokenizer compare --source shakespeare --vocab-size 4096
    """

    text: Positional[Annotated[str, option("TEXT")]] = ""
    """the text to encode; "-" reads standard input (default: the text of --source)"""
    source: Annotated[str, arg(metavar="SOURCE")] = "python-docs"
    """text source that bpe, words and chars are trained on"""
    vocab_size: int = 4096
    """vocabulary size of bpe"""

    def run(self) -> None:
        """Train each tokenizer, encode, print a table; a failed tokenizer is a note below it."""
        from llm_scratch.cli.prompts import read_text_argument
        from llm_scratch.data.sources import read
        from llm_scratch.tokenizers import TOKENIZERS

        documents = read(self.source)
        texts = (
            documents
            if not self.text
            else [read_text_argument("-") if self.text == "-" else self.text]
        )
        size = sum(len(text.encode("utf-8", "replace")) for text in texts)
        grid, screen = table("tokenizer", "vocabulary", "tokens", "bytes a token"), console()
        notes = []
        results: list[dict[str, Any]] = []
        for name in TOKENIZERS:
            try:
                with screen.status(f"{name} …"):
                    tokenizer: Any = TOKENIZERS[name](
                        documents, self.vocab_size if name == "bpe" else None
                    )
                    tokens = sum(
                        len(tokenizer.encode(text, disallowed_special=())) for text in texts
                    )
                grid.add_row(
                    name, f"{tokenizer.n_vocab:,}", f"{tokens:,}", f"{size / max(1, tokens):.2f}"
                )
                results.append(_size_json(name, tokenizer.n_vocab, tokens, size))
            except UserError as e:
                grid.add_row(name, "-", "-", "-")
                notes.append(f"{name}: {e}")
                results.append(_size_json(name, None, None, size, str(e)))
        if self.json:
            print_json(
                {
                    "source": self.source,
                    "text": self.text or None,
                    "bytes": size,
                    "tokenizers": results,
                }
            )
            return
        screen.print(
            f"{'your text' if self.text else self.source}: {size:,} bytes;"
            f" bpe, words and chars trained on {self.source}\n"
        )
        screen.print(grid)
        for note in notes:
            screen.print(note)


def _size_json(
    name: str, vocab_size: int | None, tokens: int | None, n_bytes: int, error: str | None = None
) -> dict[str, Any]:
    """A row of `tokenizer compare --json`."""
    per_token = n_bytes / tokens if tokens else None
    return {
        "name": name,
        "vocab_size": vocab_size,
        "tokens": tokens,
        "bytes_per_token": per_token,
        "error": error,
    }
