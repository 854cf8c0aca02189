"""Compiled steps give the results of plain ones; prompts are not compiled."""

import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._inductor.exc import CppCompileError

from llm_scratch.config import GPTConfig, ModelConfig, from_dict
from llm_scratch.errors import UserError
from llm_scratch.hardware.packed_matmul import can_pack
from llm_scratch.model import build, compiled
from llm_scratch.model import matvec as matvec_module
from llm_scratch.model.compiled import compile_steps
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.matvec import MatvecChoice
from llm_scratch.model.packed import pack
from llm_scratch.model.quantized import quantize

CONFIG = GPTConfig(
    vocab_size=50, context_length=64, emb_dim=64, n_heads=4, n_layers=2, drop_rate=0.0
)
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU"
)


def a_model(kind, **more):
    """A model by its architecture and, after a space, its bits."""
    architecture, *bits = kind.split()
    model = build(
        from_dict(
            ModelConfig,
            {"architecture": architecture}
            | ({"init": "gpt2"} if architecture == "gpt" else {})
            | more,
            CONFIG,
        )
    ).eval()
    with torch.no_grad():
        for matrix in model.parameters():  # the modern one begins with zeros
            matrix.add_(torch.randn_like(matrix), alpha=0.02)
    if bits == ["16"]:
        return model.bfloat16()
    return quantize(model, int(bits[0])) if bits else model


def read(model, ids, first, blanks=0):
    """Return logits of a text: the first tokens in one pass, then one by one.

    The first row is padded.
    """
    cache = model.new_cache(len(ids), block=20)
    if blanks:
        cache.left_padding = torch.tensor([blanks] + [0] * (len(ids) - 1))
    parts = [
        model(ids[:, :first], cache),
        *(model(ids[:, i : i + 1], cache) for i in range(first, ids.shape[1])),
    ]
    return torch.cat(parts, dim=1)


@pytest.fixture
def compilings(monkeypatch):
    """How often the compiler is called, as a list that grows."""
    calls, real = [], torch._inductor.aot_compile
    monkeypatch.setattr(
        torch._inductor,
        "aot_compile",
        lambda *args, **more: calls.append(args) or real(*args, **more),
    )
    return calls


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_chosen_parts_and_head_are_those_of_the_programs(tied, monkeypatch):
    """Without a compiler: the exported operations run one by one."""
    parts, programs = [], []

    def matvec(*given, n_parts):
        parts.append(n_parts)
        return real(*given, n_parts=n_parts)

    def run_exported(step, *_, **__):
        programs.append(step)
        return SimpleNamespace(run=lambda inputs: step(*inputs))

    real = matvec_module.matvec
    monkeypatch.setattr(matvec_module, "matvec", matvec)
    monkeypatch.setattr(compiled, "load_or_compile", run_exported)
    monkeypatch.setattr(compiled, "MIN_TRIAL_WIDTH", 50)
    monkeypatch.setattr(compiled, "_choose_matvec", lambda *_: MatvecChoice(4, compiles_head=True))
    torch.manual_seed(0)
    model, ids = a_model("gpt", tie_embeddings=tied), torch.randint(50, (1, 12))
    plain = read(model, ids, 5)
    compile_steps(model)
    torch.testing.assert_close(read(model, ids, 5), plain, rtol=1e-4, atol=1e-4)
    assert len(programs) == 2  # the head and the step
    assert set(parts) == {4}
    assert type(model.out_head.head) is torch.nn.Linear  # not packed


@pytest.mark.slow  # compiling takes a minute
@needs_compiler
@pytest.mark.parametrize("kind", ["gpt", "gpt 16", "gpt 8", "gpt 4", "nanochat", "nanochat 4"])
def test_logits_agree_for_every_batch_and_cache_size_and_with_padding(kind, compilings):
    torch.manual_seed(0)
    model = a_model(kind)
    sizes = [(1, 5, 0), (2, 5, 0), (3, 20, 2), (1, 30, 0), (2, 2, 1), (20, 19, 0), (1, 4, 1)]
    texts = [
        (torch.randint(50, (rows, 40 if rows < 3 else 64)), first, blanks)
        for rows, first, blanks in sizes
    ]
    with torch.inference_mode():
        plain = [read(model, *text) for text in texts]
        compile_steps(model)
        for text, want in zip(texts, plain, strict=True):
            off = (
                1e-4 if kind in ("gpt", "nanochat") else 2e-2
            )  # bfloat16 within; in 8 bits a last bit can move an input by a step
            got = read(model, *text)
            torch.testing.assert_close(got, want, rtol=off, atol=off)
            assert (got - want).abs().mean() < off / 20
    assert len(compilings) == 4, (
        "one program each for one row, rows and padded rows, at all lengths of text and cache"
    )


@pytest.mark.slow
@needs_compiler
@torch.inference_mode()
def test_stored_program_serves_every_model_of_its_shape(tmp_path, compilings):
    torch.manual_seed(1)
    ids = torch.randint(50, (2, 12))
    models = [a_model("gpt"), a_model("gpt"), a_model("gpt 8"), a_model("gpt 8")]
    plain = [read(model, ids, 5) for model in models]
    for model, want in list(zip(models, plain, strict=True)) * 2:
        if "hidden" not in vars(model):
            compile_steps(model, folder=tmp_path / "steps")
        torch.testing.assert_close(
            read(model, ids, 5), want, rtol=1e-4, atol=2e-2 if model in models[2:] else 1e-4
        )
    assert len(compilings) == len(list((tmp_path / "steps").iterdir())) == 2
    other = tmp_path / "other"
    other.mkdir()
    for kept in (tmp_path / "steps").iterdir():
        (other / kept.name).write_bytes(b"damaged")
    model = a_model("gpt")
    plain = read(model, ids, 5)
    torch.testing.assert_close(
        read(compile_steps(model, folder=other), ids, 5), plain, rtol=1e-4, atol=1e-4
    )
    assert sorted(kept.stat().st_size > 7 for kept in other.iterdir()) == [
        False,
        True,
    ], "a new program replaced the damaged one"
    assert len(compilings) == 3


@pytest.mark.slow
@needs_compiler
def test_compiled_steps_agree_with_two_threads_and_checked_inputs():
    """Run a new process, since torch reads both at its start."""
    code = """
        import sys, torch
        sys.path.insert(0, sys.argv[1])
        from test_compiled import a_model, read, compile_steps
        torch.manual_seed(0)
        assert torch.get_num_threads() == 2
        ids = torch.randint(50, (3, 40))
        for kind in ("gpt", "gpt 8", "nanochat"):
            for rows in (1, 3):
                model = a_model(kind)
                with torch.inference_mode():
                    plain = read(model, ids[:rows], 5)
                    got = read(compile_steps(model), ids[:rows], 5)
                atol = 2e-2 if kind == "gpt 8" else 1e-4
                torch.testing.assert_close(got, plain, rtol=1e-4, atol=atol)
    """
    env = os.environ | {
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "AOTI_RUNTIME_CHECK_INPUTS": "1",
    }
    assert (
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent)], env=env
        ).returncode
        == 0
    )


@pytest.mark.slow
@needs_compiler
@torch.inference_mode()
def test_compiled_step_works_when_the_program_cannot_be_stored(tmp_path):
    (tmp_path / "file").touch()
    model, ids = a_model("gpt"), torch.randint(50, (1, 12))
    plain = read(model, ids, 5)
    torch.testing.assert_close(
        read(compile_steps(model, folder=tmp_path / "file"), ids, 5), plain, rtol=1e-4, atol=1e-4
    )


def test_compile_failure_is_reported(monkeypatch, tmp_path):
    def fails(*args, **more):
        raise CppCompileError(["g++"], "out of disk")

    monkeypatch.setattr(torch._inductor, "aot_compile", fails)
    compilations = []
    model = compile_steps(
        a_model("gpt"), folder=tmp_path, on_compile=lambda: compilations.append(1)
    )
    with pytest.raises(
        UserError, match="compiling a step failed: out of disk; leave out --compile"
    ):
        read(model, torch.randint(50, (1, 6)), 5)
    assert (compilations, list(tmp_path.iterdir())) == ([1], [])


@torch.no_grad()
def test_prompts_and_uncached_texts_are_not_compiled(monkeypatch):
    steps = []
    monkeypatch.setattr(
        compiled,
        "compile_step",
        lambda model, hidden, *_: lambda ids, cache: counted(hidden, ids, cache),
    )

    def counted(hidden, ids, cache):
        assert cache.pos + 1 < cache.keys[0].shape[2], (
            "a program needs a cache with one spare position"
        )
        steps.append(ids.shape[1])
        x = hidden(ids, cache)
        cache.advance(-1)  # a compiled program does not support it
        return x

    model = a_model("gpt")
    ids = torch.randint(50, (2, 64))
    plain = model(ids)
    compile_steps(model)
    torch.testing.assert_close(model(ids), plain)
    assert steps == []
    torch.testing.assert_close(read(model, ids, 5), plain)
    assert steps == [1] * 59  # up to the last position of the context, with a growing cache
    read(model, ids[:, :4], 1)
    assert len(steps) == 61  # the second token is read as a prompt
    with pytest.raises(ValueError, match="65 tokens do not fit context_length=64"):
        read(model, torch.cat([ids, ids[:, :1]], dim=1), 63)


@torch.no_grad()
def test_compiled_step_falls_back_for_unsupported_inputs(monkeypatch):
    """A compiled program checks no sizes, so a wrong one would read and write out of bounds."""
    model, ids = a_model("gpt"), torch.randint(50, (3, 9))
    monkeypatch.setattr(compiled, "compile_step", lambda *_: pytest.fail("compiled"))
    compile_steps(model)

    def cache(rows=3, limit=64):
        made = KVCache((2, rows, 4, limit, 16), torch.float32, torch.device("cpu"))
        model(ids[:1, :3].expand(rows, 3), made)
        return made

    for wrong, given in (
        (ids[:, :0], cache()),
        (ids[:1, :1], cache()),
        (ids[:, :1], cache(1)),
        (ids[:, :1], cache(limit=3)),
    ):
        with suppress(RuntimeError, ValueError):
            model(wrong, given)
    given = cache()
    given.left_padding = torch.zeros(2, dtype=torch.long)
    with suppress(RuntimeError):
        model(ids[:, :1], given)
    assert model(ids[:, :1].int(), cache()).shape == (3, 1, 50)
    model.train()
    model(ids[:, :1], cache())


def test_stored_program_name_depends_on_shape_machine_and_options(monkeypatch, tmp_path):
    def run(given):
        rows = next(len(each) for each in given if each.dtype == torch.long)
        return [
            torch.zeros(
                rows,
                1,
                64,
                dtype=torch.bfloat16 if given[0].dtype == torch.bfloat16 else torch.float32,
            )
        ]

    (tmp_path / "made.so").touch()
    monkeypatch.setattr(torch._inductor, "aot_compile", lambda *_, **__: str(tmp_path / "made.so"))
    monkeypatch.setattr(
        torch._C._aoti, "AOTIModelContainerRunnerCpu", lambda *_: SimpleNamespace(run=run)
    )
    steps, ids, compiled_kinds = tmp_path / "steps", torch.randint(50, (2, 6)), []

    @torch.no_grad()
    def kept(kind="gpt", rows=1, **more):
        read(
            compile_steps(
                a_model(kind, **more), folder=steps, on_compile=lambda: compiled_kinds.append(kind)
            ),
            ids[:rows],
            5,
        )
        return len(list(steps.iterdir()))

    assert (kept(), kept(), compiled_kinds) == (1, 1, ["gpt"])
    assert [
        kept("gpt 8"),
        kept("gpt 16"),
        kept(rows=2),
        kept("nanochat"),
        kept("nanochat", context_length=32),
    ] == [2, 3, 4, 5, 6]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert kept() == 7
    monkeypatch.setattr(compiled, "processor", lambda: "another")
    assert (kept(), len(compiled_kinds)) == (8, 8)
    monkeypatch.setattr(compiled, "_is_own", lambda path: False)
    assert (kept(), len(compiled_kinds)) == (8, 9), "another user's program is not run"


@torch.no_grad()
def test_compiled_step_keeps_the_error_for_a_cache_of_another_model():
    model, other = a_model("gpt"), build(replace(CONFIG, n_heads=2))
    ids = torch.randint(50, (1, 4))
    for each in (model, compile_steps(model)):
        cache = other.new_cache(1)
        cache.advance(3)
        with pytest.raises(RuntimeError, match="expand"):
            each(ids[:, 3:], cache)


def test_compile_steps_rejects_a_model_off_the_cpu():
    with pytest.raises(ValueError, match="the model is on meta; steps are compiled for a CPU"):
        compile_steps(build(CONFIG).to("meta"))


@pytest.mark.skipif(
    not can_pack(torch.float32), reason="this processor or this torch cannot pack float32"
)
def test_compile_steps_rejects_a_packed_model():
    with pytest.raises(ValueError, match="the model is packed or compiled already"):
        compile_steps(pack(build(CONFIG)))


def test_compile_steps_rejects_a_compiled_model():
    with pytest.raises(ValueError, match="the model is packed or compiled already"):
        compile_steps(compile_steps(a_model("gpt 8")))
