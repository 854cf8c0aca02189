"""F7: every download is in one table with its SHA-256, and no other code contains a URL."""

import ast
import re
from pathlib import Path

import llm_scratch
from llm_scratch.interop import openai_files
from llm_scratch.storage.download import FILES
from llm_scratch.tokenizers import gpt2
from llm_scratch.tokenizers.bpe_files import GPT2_SHA256

SRC = Path(llm_scratch.__file__).parent
# these hashes are not published; each tensor in the files has a checksum that is verified
# (tests/interop/test_tensorflow.py)
UNPINNED = {
    f"{size}/{name}"
    for size in openai_files.SIZES
    for name in openai_files.NEEDED
    if f"gpt2/{size}/{name}" not in FILES
}
ADVICE = {"https://download.pytorch.org/whl/cu126"}
"""What a message tells a person to type, and no code of ours opens."""


def addresses(path):
    """The addresses in a file's code, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    return {found for text in texts for found in re.findall(r"https?://[\w.]+/[^\s\"']+", text)}


def test_f7_every_download_has_a_sha256(measured):
    for name, row in FILES.items():
        assert row.urls, name
        assert all(url.startswith("https://") for url in row.urls), name
        assert re.fullmatch("[0-9a-f]{64}", row.sha256), name
        assert row.size > 0, name
        assert not any("/resolve/main/" in url for url in row.urls), (
            f"{name} is a branch of the hub, not a commit"
        )
    for (name, sha256, size), known in zip(gpt2._FILES, GPT2_SHA256, strict=True):
        row = FILES[f"gpt2/124M/{name}"]
        assert (row.sha256, row.size) == (sha256, size) == (known, size), name
    rows = len(FILES) + len(gpt2._FILES)
    measured(
        "F7",
        f"{rows} of {rows} rows have a SHA-256; {len(UNPINNED)} files of OpenAI's release have no"
        " published one and are listed by name",
        "100 % of rows pinned",
    )


def test_f7_no_url_is_outside_the_table():
    known = {url for row in FILES.values() for url in row.urls} | {
        gpt2._ADDRESS,
        openai_files.ADDRESS,
    }
    found = {address: path.name for path in SRC.rglob("*.py") for address in addresses(path)}
    assert known <= found.keys()
    stray = {
        address: name
        for address, name in found.items()
        if address not in known | ADVICE and "{" not in address
    }
    assert not stray, stray


def test_f7_unpinned_downloads_are_listed_by_name():
    assert sorted(name.partition("/")[2] for name in UNPINNED if name.startswith("124M")) == [
        "hparams.json",
        "model.ckpt.index",
    ]
    assert len(UNPINNED) == 2 + 3 * len(openai_files.NEEDED)
