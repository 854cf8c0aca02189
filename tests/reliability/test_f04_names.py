"""F4: names in an index, an archive or a hub's list cannot escape the folder."""

import hashlib
import io
import json
import tarfile
import zipfile

import pytest
import safetensors.torch
import torch
from reliability.evil_names import NAMES

from llm_scratch.cli import main
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hub import from_hub
from llm_scratch.loading import load

CONFIG = {
    "model_type": "gpt2",
    "vocab_size": 9,
    "n_positions": 4,
    "n_embd": 4,
    "n_head": 1,
    "n_layer": 1,
}
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


def tree(folder):
    """A hash of all names and contents under a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@pytest.fixture
def deep(tmp_path):
    """A nested folder, with files outside of it that must not be read."""
    folder = tmp_path / "a" / "b" / "model"
    folder.mkdir(parents=True)
    for place in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        safetensors.torch.save_file({"wte.weight": torch.ones(9, 4)}, place / "out.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "abc"}})
    )
    return folder


def refused(door, where):
    """Whether a reader refuses in one line, without reading the file outside."""
    try:
        code, message = door(str(where)), ""
    except UserError as error:
        code, message = error.code, str(error)
    assert "wte.weight" not in message
    assert "\n" not in message
    return code == CHECKPOINT


def test_f4_names_in_an_index_cannot_escape_the_folder(deep, tmp_path, measured, monkeypatch):
    assert len(NAMES) >= 40
    hub = pytest.importorskip(
        "huggingface_hub", reason="the hub's client is part of the test; install the hf extra"
    )
    requested = []

    def download(name, file, **more):
        requested.append(file)
        if not (deep / file).is_file() or file in NAMES:
            raise hub.errors.EntryNotFoundError(file)
        return str(deep / file)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    for name in NAMES:
        (deep / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"wte.weight": name}})
        )
        before = tree(tmp_path)
        assert refused(load, deep), name
        assert refused(from_hub, "org/name"), name
        assert refused(
            lambda where: main(["import", where, "--out", str(tmp_path / "made")]), deep
        ), name
        assert tree(tmp_path) == before, name
    assert not set(requested) & set(NAMES)
    measured(
        "F4",
        f"{len(NAMES)} names in an index, a hub listing, tar and zip: 0 bytes read or written"
        " outside",
        "40 names, 0 bytes outside",
    )


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_f4_archives_are_not_opened(deep, tmp_path, kind):
    path = deep / f"model.{kind}"
    names = [name for name in NAMES if name and "\0" not in name]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"evil")
    else:
        with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
            for i, name in enumerate(names):
                info = tarfile.TarInfo(name)
                info.size = 4
                archive.addfile(info, io.BytesIO(b"evil"))
                link = tarfile.TarInfo(f"link{i}")
                link.type, link.linkname = LINKS[i % len(LINKS)], name
                archive.addfile(link)
    before = tree(tmp_path)
    assert refused(load, path)
    assert refused(lambda where: main(["import", where, "--out", str(tmp_path / "made")]), path)
    assert tree(tmp_path) == before
