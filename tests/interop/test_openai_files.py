"""The release's files: local ones are used, others are downloaded once and completely.

An interrupted download resumes; without a network there is one clear error.
"""

import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_scratch.errors import DATA, RESOURCES, USAGE, UserError
from llm_scratch.interop import openai_files
from llm_scratch.interop.openai import download_and_load_gpt2
from llm_scratch.interop.openai_files import NEEDED, find_or_download
from llm_scratch.storage import download

TINY = Path(__file__).parent / "tiny_gpt2"
DATA_FILE = "model.ckpt.data-00000-of-00001"


class Handler(BaseHTTPRequestHandler):
    """Serves the tiny release like OpenAI's server; `faults` apply to its data file in turn."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        name = self.path.rpartition("/")[2]
        path = TINY / name
        if not self.path.startswith("/gpt-2/models/124M/") or not path.is_file():
            self.answer(404, b"")
            return
        data = path.read_bytes()
        fault = self.server.faults.pop(0) if name == DATA_FILE and self.server.faults else None
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if isinstance(fault, int):
            self.answer(fault, b"")
        elif fault == "cut":
            self.answer(
                206 if start else 200,
                data[start : start + 5000],
                len(data) - start,
                span if start else {},
            )
        elif fault == "no length":
            self.answer(200, data, None)
        elif fault == "whole":
            self.answer(200, data)
        elif start >= len(data):
            self.answer(416, b"")
        else:
            self.answer(206 if start else 200, data[start:], headers=span if start else {})

    def answer(self, status, body, length=-1, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Print nothing."""


@pytest.fixture
def server(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.faults, server.requests = [], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("LLM_SCRATCH_MIRROR", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("LLM_SCRATCH_OFFLINE", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(download, "sleep", lambda seconds: None)
        monkeypatch.setattr(
            openai_files, "FILES", {}
        )  # the tiny files are not those that are pinned
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.delenv("LLM_SCRATCH_DATA", raising=False)


def assert_whole(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(NEEDED)
    for name in NEEDED:
        assert (folder / name).read_bytes() == (TINY / name).read_bytes()


def test_missing_release_files_are_downloaded_once(server, tmp_path):
    settings, params = download_and_load_gpt2("124M", tmp_path / "gpt2")
    assert (settings["n_layer"], params["wte"].shape) == (2, (261, 8))
    assert_whole(tmp_path / "gpt2" / "124M")
    assert [path for path, _ in server.requests][-1].endswith(DATA_FILE)
    n_requests = len(server.requests)
    download_and_load_gpt2("124M", tmp_path / "gpt2")
    assert len(server.requests) == n_requests == len(NEEDED)


@pytest.mark.parametrize(
    "faults",
    [
        ["cut"],
        ["cut", 503, "cut"],
        [500, "whole"],
        ["cut", "whole"],
        ["cut", "no length", 429],
        [408] * 4,
    ],
)
def test_release_download_resumes_after_a_disconnect(server, tmp_path, faults):
    server.faults = list(faults)
    assert_whole(find_or_download("124M", tmp_path))
    ranges = [span for path, span in server.requests if path.endswith(DATA_FILE)]
    assert len(ranges) == len(faults) + (faults[-1] != "whole")
    if faults[0] == "cut":
        assert ranges[1] == "bytes=5000-"


def test_release_download_resumes_partial_file(server, tmp_path):
    (tmp_path / "124M").mkdir()
    part = tmp_path / "124M" / f".{DATA_FILE}.part"
    part.write_bytes((TINY / DATA_FILE).read_bytes()[:7000])
    shutil.copy(TINY / "hparams.json", tmp_path / "124M")
    assert_whole(find_or_download("124M", tmp_path))
    assert server.requests[-1] == (f"/gpt-2/models/124M/{DATA_FILE}", "bytes=7000-")
    assert not any(path.endswith("hparams.json") for path, _ in server.requests)


def test_release_download_restarts_oversized_partial_file(server, tmp_path):
    (tmp_path / "124M").mkdir()
    (tmp_path / "124M" / f".{DATA_FILE}.part").write_bytes(bytes(99_999))
    assert_whole(find_or_download("124M", tmp_path))


@pytest.mark.parametrize(
    ("faults", "n_requests"),
    [([404], 1), ([503] * 99, download.MAX_ATTEMPTS), (["no length"] * 99, download.MAX_ATTEMPTS)],
)
def test_unavailable_release_file_is_one_error(server, tmp_path, faults, n_requests):
    server.faults = faults
    with pytest.raises(
        UserError, match=f"cannot be downloaded: the server responded .*{DATA_FILE}"
    ) as error:
        find_or_download("124M", tmp_path)
    assert error.value.code == DATA
    assert sum(path.endswith(DATA_FILE) for path, _ in server.requests) == n_requests
    assert not (tmp_path / "124M" / DATA_FILE).exists()


def test_damaged_tensor_is_detected_when_it_is_read(server, tmp_path):
    (tmp_path / "124M").mkdir()
    (tmp_path / "124M" / f".{DATA_FILE}.part").write_bytes(bytes(7000))
    with pytest.raises(UserError, match=r"the checksum of model/\S+ differs; download it again"):
        download_and_load_gpt2("124M", tmp_path)


def test_full_disk_is_an_error_and_the_partial_file_is_removed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=3000))
    with pytest.raises(
        UserError, match=r"cannot write into .*: \S+ bytes needed and 3,000 free"
    ) as error:
        find_or_download("124M", tmp_path)
    assert error.value.code == RESOURCES
    assert not list((tmp_path / "124M").glob(".*.part"))


def test_openai_offline_error_names_the_file_and_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_OFFLINE", "1")
    with pytest.raises(UserError) as error:
        download_and_load_gpt2("355M", tmp_path / "gpt2")
    assert error.value.code == DATA
    wanted = (
        r"GPT-2 355M is not on this machine .*: downloads are disabled .*; put hparams\.json,"
        r" .*vocab\.bpe from https://.*/355M/ into"
    )
    assert re.match(wanted, str(error.value))
    assert not (tmp_path / "gpt2").exists()


@pytest.mark.parametrize("where", ["models_dir", "LLM_SCRATCH_DATA"])
def test_local_folder_is_used_without_a_request(tmp_path, monkeypatch, where):
    monkeypatch.setenv("LLM_SCRATCH_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    base = Path("gpt2") if where == "models_dir" else tmp_path / "data" / "gpt2"
    if where == "LLM_SCRATCH_DATA":
        monkeypatch.setenv("LLM_SCRATCH_DATA", str(tmp_path / "data"))
    (base / "124M").mkdir(parents=True)
    for name in NEEDED[:3]:
        shutil.copy(TINY / name, base / "124M")
    assert find_or_download() == base / "124M"
    assert download_and_load_gpt2()[0]["n_vocab"] == 261


def test_unknown_size_is_a_usage_error(tmp_path):
    with pytest.raises(UserError, match="unknown model size '125M'; did you mean '124M'") as error:
        download_and_load_gpt2("125M", tmp_path)
    assert error.value.code == USAGE
