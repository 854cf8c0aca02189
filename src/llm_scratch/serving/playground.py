"""The playground: a page that shows what happens inside a model, and the requests that it makes.

`open_playground` loads a run and returns a server. The page (`static/`) has one ES module a view; a
view requests numbers by the routes of `Playground.routes`, and every answer is computed here by the
functions of `interpretability`. Answers are cached, since several views show the same text.
Tests: tests/serving/, tests/reliability/ (rows S1 to S4, S10 to S12, P1 to P4).
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.evaluation.head_skills import reference_ids, skill_changes
from llm_scratch.generation.decode import encode_prompt, stream_chunks
from llm_scratch.interpretability.jacobian_lens import (
    SKIPPED_POSITIONS,
    JacobianLens,
    fit_jacobian_lens,
)
from llm_scratch.model.introspection import context_length
from llm_scratch.serving import inspection
from llm_scratch.serving.film import film, skills
from llm_scratch.serving.first_screen import FirstScreen, first_screen, is_story_model
from llm_scratch.serving.http_server import LocalServer, Route, StaticFile, encode
from llm_scratch.serving.model_library import ModelLibrary, NamedModel
from llm_scratch.serving.next_tree import next_tree
from llm_scratch.serving.openapi import openapi_document
from llm_scratch.serving.pieces import compare_tokenizers, pieces
from llm_scratch.serving.question import (
    Question,
    integer,
    read_question,
    sampler_settings,
    string,
)
from llm_scratch.serving.source_lines import all_sources
from llm_scratch.serving.static_files import static_files
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.token_text import token_text

DEFAULT_PORT = 8765
MAX_CACHE_BYTES = 1 << 26
"""Memory of the cached answers with their requests."""
MAX_NEW_TOKENS = 400
LENS_TEXTS = 8
"""Texts that the Jacobian lens is fitted on; more change it little and take longer."""
MAX_LENS_TOKENS = 128
"""Tokens of each of those texts that are read."""
HEAD_SKILL_STORIES = 12
"""Stories on which each head's share in each skill is measured."""


class Playground:
    """The requests of the page, about one run.

    Args:
        library: the models; the first one is the page's.
        texts: texts of the kind that the model was trained on, for the first screen and the lens.
        curve: rows of the loss curve, {"step", "val_loss"}.
    """

    def __init__(
        self, library: ModelLibrary, texts: Sequence[str], curve: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.library, self.texts, self.curve = library, list(texts), list(curve)
        # of the models: an ablation is in the model itself while it computes
        self._lock = threading.Lock()
        self._slow_lock = threading.Lock()  # of work that takes seconds, on a copy of a model
        self._answers_lock = threading.Lock()
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self._lenses: dict[tuple[str, int | None], JacobianLens] = {}
        self._references: dict[tuple[str, int | None], Tensor | None] = {}
        self._start: FirstScreen | None = None

    @property
    def routes(self) -> dict[str, Route]:
        """URL path -> function."""
        about_text: dict[str, Callable[[Question, Mapping[str, Any]], Any]] = {
            "inspect": lambda question, body: inspection.inspect_text(question),
            "logits": inspection.logits_at,
            "attention": inspection.attention,
            "dot": inspection.dot_product,
            "lens": lambda question, body: inspection.lens(question, body, self._lens(body)),
            "lens-cell": lambda question, body: inspection.lens_cell(
                question, body, self._lens(body)
            ),
            "flow": inspection.flow,
            "ablate": inspection.ablations,
            "patch": self._patch,
            "skills": lambda question, body: skills(question),
            "continue": self._continue,
            "tree": next_tree,
        }
        routes: dict[str, Route] = {
            f"/api/{name}": self._cached(
                name,
                self._about_text(f),
                prepare=self._fit_lens if name.startswith("lens") else None,
            )
            for name, f in about_text.items()
        }
        routes["/api/start"] = self._cached("start", self.start)
        routes["/api/tokenize"] = self._cached("tokenize", self._tokenize)
        routes["/api/film"] = self._cached("film", self._film)
        routes["/api/head-skills"] = self._cached("head-skills", self._head_skills, self._slow_lock)
        routes["/api/ping"] = lambda body: {}
        return routes | {"/api/complete": self.complete}

    def _cached(
        self,
        name: str,
        compute: Route,
        lock: threading.Lock | None = None,
        prepare: Route | None = None,
    ) -> Route:
        """A route whose answers are cached.

        One request computes at a time, since ablations change the model.

        Args:
            name: of the route.
            compute: the answer to a request.
            lock: held while it computes (default: the lock of the models).
            prepare: called before, without that lock.
        """
        lock = lock or self._lock

        def answer(body: Mapping[str, Any]) -> bytes:
            key = json.dumps([name, body], sort_keys=True).encode()
            if (cached := self._answers.get(key)) is not None:
                return cached
            if prepare is not None:
                prepare(body)
            with lock:
                content = encode(compute(body))
            self._keep(key, content)
            return content

        return answer

    def _keep(self, key: bytes, content: bytes) -> None:
        with self._answers_lock:
            self._answers[key] = content
            while (
                len(self._answers) > 1
                and sum(len(k) + len(v) for k, v in self._answers.items()) > MAX_CACHE_BYTES
            ):
                self._answers.popitem(last=False)

    def _about_text(self, compute: Callable[[Question, Mapping[str, Any]], Any]) -> Route:
        return lambda body: compute(self._question(body), body)

    def _question(self, body: Mapping[str, Any]) -> Question:
        return read_question(self.library, body, self._reference(body))

    def _key(self, body: Mapping[str, Any]) -> tuple[str, int | None]:
        step = body.get("step")
        return string(body, "model"), None if step is None else integer(body, "step", 2**40)

    def _reference(self, body: Mapping[str, Any]) -> Tensor | None:
        """Texts whose mean replaces an ablated part; None if not trained on stories."""
        model, tokenizer = self.library.get(*self._key(body))
        if not is_story_model(self.texts):
            return None
        key = self._key(body)
        if key not in self._references:
            self._references[key] = reference_ids(model, tokenizer)
        return self._references[key]

    def _lens(self, body: Mapping[str, Any]) -> JacobianLens | None:
        """The Jacobian lens of a request, which `_fit_lens` has fitted; None for another lens."""
        return self._lenses[self._key(body)] if body.get("kind") == "jacobian" else None

    def _fit_lens(self, body: Mapping[str, Any]) -> None:
        """Fit the Jacobian lens of a model, if a request needs it and there is none."""
        key = self._key(body)
        if body.get("kind") != "jacobian":
            return
        with self._slow_lock:
            if key in self._lenses:
                return
            model, tokenizer = self._copy_of(key)
            size = min(context_length(model) or MAX_LENS_TOKENS, MAX_LENS_TOKENS)
            rows = [
                encode_prompt(model, tokenizer, text)[:size] for text in self.texts[:LENS_TEXTS]
            ]
            self._lenses[key] = fit_jacobian_lens(
                model, rows, skip=min(SKIPPED_POSITIONS, size // 4)
            )

    def _copy_of(self, key: tuple[str, int | None]) -> NamedModel:
        """A copy of a model to compute with while other requests use the model."""
        with self._lock:
            model, tokenizer = self.library.get(*key)
            return NamedModel(deepcopy(model), tokenizer)

    def start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Facts about the model, and what the first screen shows."""
        model, tokenizer = self.library.get()
        self._start = self._start or first_screen(model, tokenizer, self.texts)
        return {
            "name": self.library.main,
            "source": self.library.source,
            "models": self.library.names,
            "steps": self.library.steps,
            "layers": len(model.trf_blocks),  # type: ignore[arg-type]
            "heads": [block.att.num_heads for block in model.trf_blocks],  # type: ignore[union-attr]
            "width": model.tok_emb.weight.shape[1],  # type: ignore[union-attr, index]
            "context": context_length(model),
            "parameters": sum(p.numel() for p in model.parameters()),
            "vocabulary": [token_text(tokenizer, token) for token in range(tokenizer.n_vocab)],
            "counts": self._token_counts(tokenizer),
            "curve": self.curve,
            "stories": is_story_model(self.texts),
            "lenses": ["norm", "raw", *(["jacobian"] if self.texts else [])],
            "first": self._start._asdict(),
            "sources": all_sources(),
        }

    def _token_counts(self, tokenizer: Tokenizer) -> dict[int, int]:
        """How often each token occurs in the texts of the kind that the model was trained on."""
        ids = (tokenizer.encode(text, disallowed_special=()) for text in self.texts)
        return Counter(chain.from_iterable(ids))

    def _tokenize(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tokenizer, text = self.library.get().tokenizer, string(body, "text")
        return pieces(tokenizer, text) | {"tokenizers": compare_tokenizers(tokenizer, text)}

    def _patch(self, question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
        reference = self._reference(body)
        other = read_question(self.library, {**body, "swap": []}, reference, "other")
        return inspection.patching(question, other, body)

    def _film(self, body: Mapping[str, Any]) -> dict[str, Any]:
        frames = [(step, self._question({**body, "step": step})) for step in self.library.steps]
        return film(frames, body)

    def _head_skills(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """How much each skill falls without each part, for a model trained on stories."""
        if not is_story_model(self.texts):
            return {"changes": []}
        model, tokenizer = self._copy_of(self._key(body))
        changes = skill_changes(model, tokenizer, n_stories=HEAD_SKILL_STORIES)
        return {
            "changes": [
                {
                    "part": change.part,
                    "skill": change.skill,
                    "n": change.n,
                    "accuracy": round(change.accuracy, 4),
                    "ablated": round(change.ablated, 4),
                    "interval": [round(end, 4) for end in change.interval],
                }
                for change in changes
            ]
        }

    def _continue(self, question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
        """The most likely continuation by the changed model."""
        count = integer(body, "tokens", 40, 16)
        ids, size = question.ids, context_length(question.model)
        with question.changed() as model:
            for _ in range(count):
                logits = model(ids[:, -size:] if size else ids)[:, -1]  # [1, V]
                best = logits[:, : question.tokenizer.n_vocab].argmax(-1)  # [1]
                ids = torch.cat([ids, best[None]], 1)
        new = ids[0, question.n_tokens :].tolist()
        text = question.tokenizer.decode_bytes(new).decode("utf-8", "replace")
        return {"text": text}

    def complete(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """Continue a text as a stream of events; ends when the client disconnects."""
        with self._lock:
            question = self._question(body)
        limit = integer(body, "max_tokens", MAX_NEW_TOKENS, 100)
        settings: dict[str, Any] = sampler_settings(body)
        chunks = stream_chunks(
            question.model,
            question.tokenizer,
            string(body, "text"),
            seed=integer(body, "seed", 2**53, 0),
            max_new_tokens=limit,
            top=3,
            **settings,
        )
        return self._events(question, chunks)

    def _events(self, question: Question, chunks: Generator[Any]) -> Generator[dict[str, Any]]:
        try:
            while True:
                with self._lock, question.changed():
                    chunk = next(chunks, None)
                if chunk is None:
                    yield {"done": True}
                    return
                if chunk.text:
                    yield {"text": chunk.text, "logprob": chunk.logprob}
        finally:
            chunks.close()


def open_playground(
    sources: Mapping[str, str | Path | NamedModel],
    texts: Sequence[str] = (),
    curve: Sequence[Mapping[str, Any]] = (),
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    secret: str | None = None,
    snapshots: Path | None = None,
) -> LocalServer:
    """Load a run and make the server of its playground; `serve_forever` starts it.

    Args:
        sources, snapshots: the models, the page's first; see `ModelLibrary`.
        texts, curve: see `Playground`.
        host: the address to listen on, a loopback address.
        port: 0 selects a free one.
        secret: required from visitors (default: a new one).
    Raises:
        UserError: an address that other machines can reach; a model that cannot be shown.
    """
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise UserError(
            f"--host {host}: other machines could reach it;"
            f" use 127.0.0.1, or forward the port: ssh -L {port}:127.0.0.1:{port}"
        )
    playground = Playground(ModelLibrary(sources, snapshots), texts, curve)
    address = ("127.0.0.1" if host == "localhost" else host, port)
    description = StaticFile(encode(openapi_document()), "application/json")
    files = {**static_files(), "/openapi.json": description}
    return LocalServer(address, files, playground.routes, secret or secrets.token_urlsafe(24))
