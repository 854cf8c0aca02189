"""Decode the bytes of a text file: one set of rules for training texts, prompts and standard input.

UTF-8 with or without a byte order mark, or UTF-16 and UTF-32 with one. Line ends become "\\n".
Anything else is an error that names the file, the byte and the line.
Tests: tests/data/test_plain_text.py.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from llm_scratch.errors import DATA, UserError

BLOCK_BYTES = 1 << 20
WIDE_MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks of the encodings other than UTF-8, and the encodings."""
_FORMATS = {
    b"\x1f\x8b": ("gzip-compressed", "decompress it first, e.g. `gunzip -k FILE`"),
    b"BZh": ("bzip2-compressed", "decompress it first, e.g. `bunzip2 -k FILE`"),
    b"\xfd7zXZ\0": ("xz-compressed", "decompress it first, e.g. `unxz -k FILE`"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "decompress it first, e.g. `unzstd FILE`"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it first"),
    b"PK\x03\x04": ("a zip archive (.zip, .docx, .epub)", "unpack it, or save it as plain text"),
    b"%PDF-": ("a PDF", "save it as plain text first, e.g. with pdftotext"),
    b"PAR1": (
        "a Parquet table",
        "make token shards from it: `llm-scratch data prepare FILE --out FOLDER`",
    ),
}
"""Magic bytes of formats that are often mistaken for text: (description, how to get text)."""


def decode_text(name: str | Path, data: bytes, begin: int = 0) -> str:
    """Decode bytes of a text file, without its byte order mark and with line ends as "\\n".

    Args:
        name: the file, for errors; "standard input" has no path.
        data: its bytes.
        begin: offset of the first byte in the file; above 0, the bytes are UTF-8.
    Raises:
        UserError: not text: a compressed file, another encoding,
            a zero byte. Names byte and line (code 3).
    """
    encoding = (None if begin else wide_encoding(data)) or ("utf-8" if begin else "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as e:
        _raise_if_other_format(name, data, begin)
        at = e.start + len(data) - len(e.object)  # e.object is without the byte order mark
        wanted = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        where = _place(name, data, begin, at)
        convert = "convert it, e.g. with iconv" if wanted == "UTF-8" else "save it again as UTF-8"
        raise UserError(f"{name} is not {wanted} text ({where}); {convert}", DATA) from e
    if "\0" in text:
        _raise_if_other_format(name, data, begin)
        rest = text[text.index("\0") :]
        at = len(data) - len(
            rest.encode("utf-8" if encoding.startswith("utf-8") else f"{encoding}-le")
        )
        where = _place(name, data, begin, at)
        if not begin and 0 in data[:2]:  # a letter of UTF-16 without a byte order mark
            raise UserError(
                f"{name} is UTF-16 without a byte order mark, or a binary file ({where});"
                " save it as UTF-8",
                DATA,
            )
        raise UserError(f"{name} is a binary file ({where}); expected text", DATA)
    return with_line_feeds(text)


def wide_encoding(head: bytes) -> str | None:
    """The encoding that the first bytes of a file declare, "utf-16" or "utf-32"; None for UTF-8."""
    return next((encoding for mark, encoding in WIDE_MARKS.items() if head.startswith(mark)), None)


def with_line_feeds(text: str) -> str:
    """The text with the line ends of Windows (\\r\\n) and of old Macs (\\r) as \\n."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_blank(text: str) -> bool:
    """Whether a document is empty or only white space. Such documents are left out."""
    return not text or text.isspace()


def begins_as_text(head: bytes) -> bool:
    """Whether the first bytes of a file decode as text; the last character may be cut off."""
    decoder = codecs.getincrementaldecoder(wide_encoding(head) or "utf-8")()
    try:
        return "\0" not in decoder.decode(head)
    except UnicodeDecodeError:
        return False


def lines_before(path: Path, offset: int) -> int:
    """Count the line feeds before an offset of a file."""
    count = 0
    with path.open("rb") as file:
        for _ in range(0, offset, BLOCK_BYTES):
            count += file.read(min(BLOCK_BYTES, offset - file.tell())).count(b"\n")
    return count


def _raise_if_other_format(name: str | Path, data: bytes, begin: int) -> None:
    """Raise an error that names the file format, where the first bytes show one."""
    for magic, (what, remedy) in _FORMATS.items():
        if not begin and data.startswith(magic):
            raise UserError(f"{name} is {what}; {remedy.replace('FILE', str(name))}", DATA)


def _place(name: str | Path, data: bytes, begin: int, at: int) -> str:
    """Where a byte is, for an error: "byte 300 is 0xff, line 7"."""
    before = lines_before(name, begin) if begin and isinstance(name, Path) else 0
    line = before + data[:at].count(b"\n") + 1
    return f"byte {begin + at} is {hex(data[at]) if data[at] else '0'}, line {line}"
