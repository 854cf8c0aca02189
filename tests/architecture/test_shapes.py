"""Shape comments in the model, the decoding and the loader match the tensors at run time.

A comment such as `# [B, H, T, D]` at the end of a statement is a claim about the tensor that it
assigns or returns. The code runs under a tracer with sizes that all differ, so a comment with a
wrong order, or one that moved away from its statement, fails:

    attention.py:62 y is (2, 6, 5, 8), the comment says ['B', 'T', 'H', 'D'] = (2, 5, 6, 8)
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import llm_scratch
from llm_scratch.architectures import setting_names
from llm_scratch.config import GPTConfig
from llm_scratch.data.loader import TokenLoader
from llm_scratch.generation import decode
from llm_scratch.generation.cached_model import pad_left
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.contrastive import contrastive
from llm_scratch.generation.engine import Engine
from llm_scratch.generation.sampling import next_token
from llm_scratch.generation.speculative import DraftModel, speculate
from llm_scratch.generation.steps import build_sampler
from llm_scratch.model import ARCHITECTURES, build, lesson_models
from llm_scratch.model.attention import attention_weights
from llm_scratch.model.blocked_attention import blocked_attention
from llm_scratch.model.chunked_loss import head_loss
from llm_scratch.model.delta_rule import recurrent_delta_rule
from llm_scratch.model.fast_linear import _FastLinear
from llm_scratch.model.grouped_attention import GroupedAttention
from llm_scratch.model.initialization import mimetic_init
from llm_scratch.model.quantized import QuantizedLinear, to_int4, to_int8
from llm_scratch.model.quantized_kernels import GROUP, KERNELS, Expanded, IntMatmul, usable
from llm_scratch.model.rope import Rotary
from llm_scratch.model.written_kernels import WRITTEN
from llm_scratch.tokenizers import CharTokenizer

ROOT = Path(llm_scratch.__file__).parent
FILES = sorted(
    [*ROOT.glob("model/*.py"), *ROOT.glob("generation/*.py"), ROOT / "data" / "loader.py"]
)
B, T, C, H, D, V = 2, 5, 48, 6, 8, 31
SIZES = {"B": B, "T": T, "S": T, "C": C, "H": H, "G": H, "D": D, "V": V, "F": 4 * C}


@dataclass(frozen=True)
class Promise:
    """A shape comment and the statement that it ends."""

    file: str
    line: int
    shape: tuple[str, ...]
    statement: ast.stmt
    function: int  # the line of code objects that run it

    @property
    def where(self):
        return f"{Path(self.file).name}:{self.line}"

    def covers(self, line):
        return self.statement.lineno <= line <= self.statement.end_lineno

    def broken_by(self, name, value, sizes):
        """What is wrong with `value`, in words, or None."""
        if not isinstance(value, torch.Tensor):
            return (
                f"{self.where} {name} is a {type(value).__name__},"
                f" the comment says {list(self.shape)}"
            )
        named = self.shape[1:] if self.shape[:1] == ("...",) else self.shape
        want = tuple(eval(size, {}, dict(sizes)) for size in named)  # a size may be None: any
        got = tuple(value.shape)
        ends = got[len(got) - len(want) :] if named != self.shape else got
        if len(ends) == len(want) and all(w is None or w == g for w, g in zip(want, ends)):
            return None
        return f"{self.where} {name} is {got}, the comment says {list(self.shape)} = {want}"


def promises(path: Path) -> list[Promise]:
    """The shape comments of a file, each with the statement that it ends."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        comment = (
            re.match(r"#\s*\[([^\]]+)\]", token.string) if token.type == tokenize.COMMENT else None
        )
        if comment is None:
            continue
        line = token.start[0]
        inner = max(
            (f for f in functions if f.lineno <= line <= f.end_lineno),
            key=lambda f: f.lineno,
            default=None,
        )
        assert inner, f"{path.name}:{line} a shape comment outside of any function"
        ends = [
            s
            for s in ast.walk(inner)
            if isinstance(s, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return))
            and s.end_lineno == line
        ]
        assert ends, f"{path.name}:{line} a shape comment at the end of no assignment or return"
        shape = tuple(size.strip() for size in comment[1].split(","))
        first = min([inner.lineno, *(d.lineno for d in inner.decorator_list)])
        found.append(Promise(str(path), line, shape, ends[0], first))
    return found


class Tracer:
    """Checks shape comments as their statements run; `sizes` is the current size of each letter."""

    def __init__(self, promised: Iterable[Promise]):
        self.by_function = {}
        for promise in promised:
            self.by_function.setdefault((promise.file, promise.function), []).append(promise)
        self.sizes, self.kept, self.broken = dict(SIZES), set(), []

    def __call__(self, frame, event, arg):
        """Called when a function is entered: trace its lines if it has shape comments."""
        mine = self.by_function.get((frame.f_code.co_filename, frame.f_code.co_firstlineno))
        if mine is None:
            return None
        pending = None

        def watch(frame, event, arg):
            nonlocal pending
            if event == "exception":
                pending = None
            elif event == "return" and pending is not None and arg is not None:
                self.check(pending, frame, arg)
                pending = None
            elif event == "line" and not (pending is not None and pending.covers(frame.f_lineno)):
                if pending is not None:
                    self.check(pending, frame, None)
                pending = next((p for p in mine if p.covers(frame.f_lineno)), None)
            return watch

        return watch

    def check(self, promise, frame, returned):
        if isinstance(promise.statement, ast.Return):
            values = [("what is returned", returned)]
        else:
            targets = (
                promise.statement.targets
                if isinstance(promise.statement, ast.Assign)
                else [promise.statement.target]
            )
            names = [
                ast.unparse(part)
                for t in targets
                for part in (t.elts if isinstance(t, ast.Tuple) else [t])
            ]
            values = [(name, eval(name, frame.f_globals, frame.f_locals)) for name in names]
        for name, value in values:
            if wrong := promise.broken_by(name, value, self.sizes):
                self.broken.append(wrong)
        self.kept.add(promise.where)

    @contextmanager
    def watching(self, **sizes):
        """Check shape comments inside the block against SIZES with some of them changed."""
        self.sizes, before = SIZES | sizes, sys.gettrace()
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)


def run_models(tracer):
    cfg = {
        "vocab_size": V,
        "context_length": 16,
        "emb_dim": C,
        "n_heads": H,
        "n_layers": 2,
        "drop_rate": 0.1,
    }
    ids = torch.randint(0, V, (B, 8))
    variants = [{"architecture": name} for name in ARCHITECTURES] + [
        {"scale_attention_by_layer": True}
    ]
    for variant in variants:
        own = setting_names(ARCHITECTURES[variant.get("architecture", "gpt")].config)
        # a window longer than these texts, so that S are all tokens
        sizes = {"n_kv_heads": 3, "ff_dim": 4 * C, "window": 12}
        if "latent_dim" in own:  # its heads share a latent, and no keys
            del sizes["n_kv_heads"]
        model = build(cfg | variant | {name: sizes[name] for name in sizes if name in own})
        G = model.cache_shape(1)[2]
        with tracer.watching(G=G):
            logits = model(ids[:, :T])
        assert logits.shape == (B, T, V), variant
        cache = model.new_cache(B)
        with tracer.watching(T=3, S=3, G=G):
            model(ids[:, :3], cache)
        with tracer.watching(T=T, S=8, G=G):
            model(ids[:, 3:], cache)
        model.eval()
        cache.left_padding = torch.tensor([0, 2])
        with tracer.watching(T=1, S=9, G=G):
            model(ids[:, :1], cache)


def run_grouped_attention(tracer):
    x = torch.randn(B, T, C)
    with tracer.watching(G=3):
        for extra in ({"scale": 0.5, "softcap": 9.0, "sinks": True, "window": 3}, {"softcap": 9.0}):
            GroupedAttention(C, H, 3, D, **extra)(x)
    with tracer.watching():
        for scaling in ("none", "llama3"):
            Rotary(D, scaling=scaling).angles(torch.arange(T))
    grouped = nn.Sequential(GroupedAttention(C, H, 3, D))
    with tracer.watching(G=3):
        mimetic_init(grouped)


def run_delta_rule(tracer):
    q, k, v = torch.randn(3, B, H, T, D).unbind()
    with tracer.watching():
        recurrent_delta_rule(q, k, v, -q[..., 0].exp(), k[..., 0], torch.zeros(B, H, D, D))


def run_lessons(tracer):
    x, inputs = torch.randn(B, T, 3), torch.randn(T, 3)
    outline = lesson_models.DummyGPTModel(
        {"vocab_size": V, "context_length": 16, "emb_dim": C, "n_heads": H, "n_layers": 1}
    )
    with tracer.watching():
        outline(torch.randint(0, V, (B, T)))
        attention_weights(*torch.randn(2, B, H, T, D))
        for cls in (lesson_models.SelfAttention_v1, lesson_models.SelfAttention_v2):
            cls(3, C)(inputs)
        lesson_models.CausalAttention(3, C, 16)(x)


def run_decoding(tracer):
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz ,.!")
    assert tokenizer.n_vocab == V
    model = build(GPTConfig(vocab_size=V, context_length=9, emb_dim=C, n_heads=H, n_layers=1))
    ids = torch.randint(0, V, (B, T))
    every = {
        "temperature": 0.7,
        "top_k": 9,
        "top_p": 0.9,
        "min_p": 0.01,
        "typical_p": 0.9,
        "eta_cutoff": 1e-4,
        "logit_bias": {3: 1.0},
    }
    every |= {
        "repetition_penalty": 1.1,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "no_repeat_ngram_size": 2,
    }
    with tracer.watching(S=None):
        next_token(torch.randn(B, V), ids=ids, temperature=0)
        draw = build_sampler(mirostat=3.0, **every)
        for _ in range(2):
            draw(torch.randn(B, V), ids)
    with tracer.watching(T=None, S=None):  # both grow while a text is generated
        decode.generate(model, ids, 7, eos_id=0)
        decode.generate(model, pad_left([[1, 2, 3], [4]]), 2)
    with tracer.watching(B=1, T=None, S=None):
        list(islice(speculate(model, ids[:1], DraftModel(model), temperature=2.0), 6))
        "".join(decode.stream(model, tokenizer, "hello", max_new_tokens=2))
        list(
            decode.stream_chunks(
                model, tokenizer, "hello", max_new_tokens=2, strategy="lookup", top=1
            )
        )
    with (
        tracer.watching(B=None, T=None, S=None),
        Engine(model) as engine,
    ):  # a group for each settings
        for temperature in (0.0, 1.0):
            engine.add([1, 2, 3], GenerationConfig(temperature=temperature))
        engine.step()
    with tracer.watching(B=None, T=None, S=None):  # one text, k candidates
        list(islice(contrastive(model, ids[:1]), 3))


def run_products(tracer):
    with tracer.watching(N=B * T):
        head_loss(torch.randn(B, T, C), torch.randn(V, C), torch.randint(0, V, (B, T)))
    names = {bits: usable(bits) for bits in WRITTEN}  # tries other sizes
    with tracer.watching(M=3, N=64, K=96, GROUP=GROUP):
        for bits, quantized in ((8, to_int8), (4, to_int4)):
            matrix = QuantizedLinear(*quantized(torch.randn(64, 96)))
            matrix(torch.randn(3, 96))
            kernels = {KERNELS[name][1] for name in names[bits]} | {Expanded}
            if bits == 8:
                kernels.add(IntMatmul)  # runs on every CPU, though its sums may overflow
            for kernel in kernels:
                kernel(matrix.quantized)(torch.randn(3, 96), None)
            WRITTEN[bits](matrix.quantized)(torch.randn(1, 96), None)


def run_training(tracer):
    q, k, v = torch.randn(3, B, H, T, D).requires_grad_().unbind()
    layer = torch.nn.Linear(96, 64)
    with tracer.watching(N=T, S=T):  # one block of queries
        blocked_attention(q, k, v, 0.1).sum().backward()
    with tracer.watching(M=3, N=64, K=96):
        _FastLinear.apply(
            torch.randn(3, 96, requires_grad=True), layer.weight, layer.bias, True
        ).sum().backward()


def run_loader(tracer):
    with tracer.watching():
        TokenLoader(np.arange(100), T, B).batch(0)
        TokenLoader(np.arange(100) % (T + 1), T, B, order="documents", eot=0).batch(0)


def test_shape_comments_equal_the_tensors():
    promised = [promise for path in FILES for promise in promises(path)]
    tracer = Tracer(promised)
    for drive in (
        run_models,
        run_grouped_attention,
        run_delta_rule,
        run_lessons,
        run_decoding,
        run_products,
        run_training,
        run_loader,
    ):
        drive(tracer)
    assert not tracer.broken, "\n".join(dict.fromkeys(tracer.broken))
    never = sorted({promise.where for promise in promised} - tracer.kept)
    assert not never, f"shape comments that no run came to (add one above): {never}"
    assert len(tracer.kept) > 30


WRONG = """
import torch

def swapped(x):
    q = x.transpose(1, 2)                                # [B, T, H, D]
    k, v = q, q.sum(-1)                                  # [B, H, T, D]
    n = 3                                                # [B]
    longer = torch.cat(
        [q, q],
    )                                                    # [2 * B, H, T, D]
    return longer.sum(0)                                 # [..., T, H]
"""


def test_wrong_shape_comment_is_found(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    space = {}
    exec(compile(WRONG, str(path), "exec"), space)
    tracer = Tracer(promises(path))
    with tracer.watching():
        space["swapped"](torch.zeros(B, T, H, D))
    assert tracer.broken == [
        "wrong.py:5 q is (2, 6, 5, 8), the comment says ['B', 'T', 'H', 'D'] = (2, 5, 6, 8)",
        "wrong.py:6 v is (2, 6, 5), the comment says ['B', 'H', 'T', 'D'] = (2, 6, 5, 8)",
        "wrong.py:7 n is a int, the comment says ['B']",
        "wrong.py:11 what is returned is (6, 5, 8), the comment says ['...', 'T', 'H'] = (5, 6)",
    ]
    assert tracer.kept == {"wrong.py:5", "wrong.py:6", "wrong.py:7", "wrong.py:10", "wrong.py:11"}


@pytest.mark.parametrize("line", ["for i in x:  # [T]", "f(x)  # [B, T]", "if x:  # [B]"])
def test_shape_comment_without_letters_is_rejected(tmp_path, line):
    path = tmp_path / "loose.py"
    path.write_text(
        f"def f(x):\n    {line}\n"
        + ("        pass\n" if line.endswith("]") and ":  #" in line else "")
    )
    with pytest.raises(
        AssertionError, match=r"loose\.py:2 a shape comment at the end of no assignment or return"
    ):
        promises(path)


def test_sizes_of_shape_letters_differ():
    letters = {
        k: v for k, v in SIZES.items() if k not in "SG"
    }  # S differs from T with a cache; G is H unless heads are grouped
    assert len(set(letters.values())) == len(letters)
