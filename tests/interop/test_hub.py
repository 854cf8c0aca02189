"""hf:org/name uses the hub's own cache and requests only named files.

Offline mode makes no request.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from effort import PATIENCE_SECONDS

from llm_scratch.errors import CHECKPOINT, DATA, USAGE, UserError
from llm_scratch.interop.hub import from_hub
from llm_scratch.loading import load
from llm_scratch.storage import download as hub_download
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

hub = pytest.importorskip(
    "huggingface_hub", reason="hf: is served by huggingface_hub; install the hf extra"
)
transformers = pytest.importorskip(
    "transformers", reason="transformers writes the folder; install the hf extra"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The folder of org/tiny in an otherwise empty cache of the hub, with several weights files."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--tiny" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (tmp_path / "models--org--tiny" / "refs").mkdir()
    (tmp_path / "models--org--tiny" / "refs" / "main").write_text(COMMIT)
    config = transformers.GPT2Config(vocab_size=261, n_positions=16, n_embd=24, n_head=3, n_layer=2)
    torch.manual_seed(1)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder, max_shard_size="20KB")
    save_tokenizer(TOKENIZERS["bpe"](["abab" * 50], 260), folder)
    return folder


def cached(monkeypatch, folder):
    """Replace hf_hub_download: return cached files or the hub's own error.

    Returns the list of the requested names.
    """
    requested = []
    real = hub.hf_hub_download

    def download(name, file, revision=None, local_files_only=False):
        requested.append(file)
        assert local_files_only, "this would use the network"
        return real(
            name, file, revision=revision, local_files_only=True, cache_dir=folder.parents[2]
        )

    monkeypatch.setattr(hub, "hf_hub_download", download)
    return requested


def test_model_in_the_hubs_cache_is_loaded_without_network(snapshot, monkeypatch):
    requested = cached(monkeypatch, snapshot)
    model, tokenizer = load("hf:org/tiny")
    assert model.cfg.emb_dim == 24
    assert tokenizer.decode(tokenizer.encode("abba")) == "abba"
    shards = sorted(path.name for path in snapshot.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert requested == [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        *shards,
        "tokenizer.json",
    ]


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does, with the files of `server.folder` at the revision "v1" alone."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.answer())

    def answer(self):
        match = re.fullmatch(r"/org/tiny/resolve/([^/]+)/([^/?]+)", self.path)
        self.server.requests.append((self.command, *(match.groups() if match else ("", self.path))))
        path = self.server.folder / match[2] if match else None
        if match is None or match[1] not in ("v1", COMMIT) or not path.is_file():
            code = "EntryNotFound" if match and match[1] in ("v1", COMMIT) else "RevisionNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        data = path.read_bytes()
        self.send_response(200)
        for name, value in (
            ("ETag", f'"{len(data)}{path.name}"'),
            ("X-Repo-Commit", COMMIT),
            ("Content-Length", len(data)),
        ):
            self.send_header(name, str(value))
        self.end_headers()
        return data

    def log_message(self, *args):
        """Print nothing."""


ASK = """
import sys
from llm_scratch.errors import UserError
from llm_scratch.loading import load
for name in sys.argv[1:]:
    try:
        model, tokenizer = load(name)
        print(model.cfg.emb_dim, tokenizer.decode(tokenizer.encode("abba")))
    except UserError as error:
        print(error.code, error)
"""


def test_revision_comes_from_the_hub_of_hf_endpoint(snapshot, tmp_path):
    """A local hub server and a new process, since the client reads its settings once."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.requests = snapshot, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    } | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "LLM_SCRATCH_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    try:
        words = [sys.executable, "-c", ASK, "hf:org/tiny@v1", "hf:org/tiny@v2"]
        done = subprocess.run(
            words, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    good, bad = done.stdout.splitlines()
    assert good == "24 abba"
    assert bad.startswith(f"{DATA} cannot download hf:org/tiny@v2: ")
    wanted = {
        ("GET", name) for name in ("config.json", "model.safetensors.index.json", "tokenizer.json")
    }
    assert wanted <= {(verb, name) for verb, _, name in server.requests}
    assert {revision for _, revision, _ in server.requests} <= {"v1", "v2", COMMIT}
    assert list((tmp_path / "home").rglob("*.safetensors"))


@pytest.mark.parametrize(
    "name", ["org/x@", "org/x@..", "org/x@a/../b", "org/x@-f", "org/x@a b", "org/x@a@b"]
)
def test_hub_rejects_invalid_revision(name, monkeypatch):
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **more: pytest.fail("it was"))
    with pytest.raises(
        UserError, match="is not a valid revision; expected a commit, branch or tag"
    ) as error:
        from_hub(name)
    assert error.value.code == USAGE


def test_hub_error_explains_missing_cache(snapshot, monkeypatch):
    cached(monkeypatch, snapshot)
    with pytest.raises(
        UserError,
        match=(
            "cannot download hf:org/other: downloads are disabled and it is not in the hub's cache"
        ),
    ) as error:
        load("hf:org/other")
    assert error.value.code == DATA


def test_unexpected_file_in_the_index_is_not_requested(snapshot, monkeypatch):
    requested = cached(monkeypatch, snapshot)
    (snapshot / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../../../secret.safetensors"}})
    )
    with pytest.raises(UserError, match="expected a plain name") as error:
        load("hf:org/tiny")
    assert error.value.code == CHECKPOINT
    assert not [name for name in requested if "secret" in name]


@pytest.mark.parametrize(
    "name", ["", "/etc", "../x", "org/../x", "a/b/c", "org/na me", "org--x", "x" * 97, "org/x\n"]
)
def test_hub_rejects_invalid_name(name, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **more: pytest.fail("it was"))
    with pytest.raises(UserError, match="is not a valid model name; expected hf:org/name") as error:
        from_hub(name)
    assert error.value.code == USAGE


def test_hub_error_names_the_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="needs the extra `hf`: pip install") as error:
        from_hub("org/tiny")
    assert error.value.code == USAGE


def test_command_line_accepts_a_hub_name(snapshot, monkeypatch, capsys, tmp_path):
    from llm_scratch.cli import main

    cached(monkeypatch, snapshot)
    assert (
        main(
            ["generate", "hf:org/tiny", "ab", "--max-tokens", "3", "--seed", "1", "--device", "cpu"]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith("ab")
    text = tmp_path / "text.txt"
    text.write_text("abba " * 30)
    assert main(["evaluate", "hf:org/tiny", "--text", str(text), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "perplexity" in out
    assert "bits per byte" in out


def test_unresolvable_hub_is_not_contacted_and_its_cache_is_used(snapshot, monkeypatch):
    """The hub's library would try five times, with pauses."""

    def lookup(host, *rest, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(hub_download, "offline", lambda: False)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    cached(monkeypatch, snapshot)
    assert load("hf:org/tiny")[0].cfg.emb_dim == 24
    with pytest.raises(
        UserError,
        match=(
            "the hub cannot be reached and it is not in the hub's cache;"
            " .*Without a network you can use"
        ),
    ) as error:
        load("hf:org/other")
    assert error.value.code == DATA
