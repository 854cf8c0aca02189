"""Decoding text files: encodings, line ends, and errors that name the byte and the line."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_scratch.data.plain_text import begins_as_text, decode_text, is_blank, lines_before
from llm_scratch.errors import DATA, UserError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff")))
def test_decode_text_restores_text_of_every_encoding(encoding, text):
    data = text.encode(encoding)
    assert decode_text("a.txt", data) == text
    assert decode_text("a.txt", text.replace("\n", "\r\n").encode(encoding)) == text
    assert decode_text("a.txt", text.replace("\n", "\r").encode(encoding)) == text
    assert begins_as_text(data)


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-32-be"])
def test_decode_text_reads_big_endian_marks(encoding):
    assert decode_text("a.txt", "\ufeffZoë".encode(encoding)) == "Zoë"


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")
    return file.getvalue()


PACKED = {
    "gzip-compressed": gzip.compress(b"text"),
    "bzip2-compressed": bz2.compress(b"text" * 50),
    "xz-compressed": lzma.compress(b"text"),
    "zstd-compressed": b"\x28\xb5\x2f\xfd\x04\x00",
    "a zip archive": zipped(),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\4",
    "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "a Parquet table": b"PAR1\x15\0\x15",
}


@pytest.mark.parametrize("what", PACKED)
def test_decode_text_names_the_format_of_files_that_are_not_text(what):
    with pytest.raises(UserError, match=f"^a.bin is {what}.*; ") as error:
        decode_text("a.bin", PACKED[what])
    assert error.value.code == DATA
    assert not begins_as_text(PACKED[what])


def test_decode_text_takes_text_that_begins_like_a_format():
    assert decode_text("a.txt", b"BZh means bzip2") == "BZh means bzip2"
    assert decode_text("a.txt", b"PAR1, a word") == "PAR1, a word"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"ab\nc\xff", "UTF-8 text (byte 4 is 0xff, line 2)"),
        (b"\xef\xbb\xbfab\xff", "UTF-8 text (byte 5 is 0xff, line 1)"),
        (b"ab\n\nc\0d", "a binary file (byte 5 is 0, line 3)"),
        (b"\xef\xbb\xbfa\0", "a binary file (byte 4 is 0, line 1)"),
        ("a\n\0".encode("utf-16"), "a binary file (byte 6 is 0, line 2)"),
        (b"\xff\xfea\0b", "UTF-16 text (byte 4 is 0x62, line 1)"),
    ],
)
def test_decode_text_names_the_byte_and_the_line(data, place):
    with pytest.raises(UserError) as error:
        decode_text("a.txt", data)
    assert place in str(error.value)


def test_decode_text_counts_bytes_and_lines_from_the_start_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthree\xff")
    with pytest.raises(UserError, match=r"byte 13 is 0xff, line 3"):
        decode_text(tmp_path / "a.txt", b"three\xff", begin=8)
    assert [lines_before(tmp_path / "a.txt", offset) for offset in (0, 3, 4, 14)] == [0, 0, 1, 2]


def test_begins_as_text_allows_a_last_character_that_is_cut():
    assert begins_as_text("語".encode()[:2])
    assert begins_as_text("語".encode("utf-16")[:3])
    assert not begins_as_text(b"na\xefve")


@pytest.mark.parametrize(
    ("text", "blank"),
    [("", True), (" \n\t\u3000", True), ("a", False), (" a", False), ("\u200b", False)],
)
def test_is_blank_detects_white_space(text, blank):
    assert is_blank(text) == blank
