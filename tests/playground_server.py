"""A playground of a model built by hand with exactly one induction head, head 1.0."""

import http.client
import json
import threading
from contextlib import contextmanager

import torch
from effort import PATIENCE_SECONDS
from interpretability.test_heads import InductionModel

from llm_scratch.serving.model_library import NamedModel
from llm_scratch.serving.playground import open_playground
from llm_scratch.storage.snapshots import save_snapshot
from llm_scratch.tokenizers.chars import CharTokenizer

SECRET = "a-secret-of-the-tests"
TEXT = "abcdefgabc"
"""After its second c, the hand-built head recalls d."""
SURE = 12.0
"""Factor of the hand-built model's logits: what it recalls gets nearly all probability."""

VIEWS = [
    "pieces",
    "flow",
    "attention",
    "lenses",
    "next",
    "whatif",
    "film",
    "write",
    "compare",
    "help",
]
"""Names of the page's views, in the order of their keys."""


def hand_built():
    """The model, and a tokenizer of eleven letters."""
    model = InductionModel().eval()
    with torch.no_grad():
        model.out_head.weight.mul_(SURE)
    return NamedModel(model, CharTokenizer.train(["abcdefghijk"], end_of_text=False))


def untaught(model):
    """The weights before training: the recalling head finds nothing."""
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    weights["trf_blocks.1.att.out_proj.weight"].zero_()
    return weights


@contextmanager
def playing(folder, models=None, texts=(TEXT,), port=0):
    """A running server with a film of two snapshots: before the head existed, and after."""
    named = hand_built()
    save_snapshot(folder, 0, untaught(named.model))
    save_snapshot(folder, 10, named.model.state_dict())
    server = open_playground(
        models or {"by hand": named}, texts, port=port, secret=SECRET, snapshots=folder
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server, path, body=None, method="POST", headers=None, raw=None):
    """A request with the secret: (status, headers, JSON or bytes)."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.server_port, timeout=PATIENCE_SECONDS
    )
    sent = {
        "Authorization": f"Bearer {SECRET}",
        "Content-Type": "application/json",
        **(headers or {}),
    }
    content = raw if raw is not None else None if body is None else json.dumps(body).encode()
    connection.request(
        method, path, content, {name: value for name, value in sent.items() if value is not None}
    )
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, answer.headers, json.loads(data) if is_json and data else data
