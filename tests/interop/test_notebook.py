"""The notebooks' files: AdamW's state is imported bit by bit.

The next step is the one that the notebooks would take.
"""

import copy
import dataclasses

import pytest
import torch

from llm_scratch.cli.commands.import_model import settings
from llm_scratch.config import GPTConfig, RunConfig, TrainConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.notebook import known_heads
from llm_scratch.loading import Options, load, read
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.recovery import WINDOW, SpikeDetector
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.simple import calc_loss_batch
from llm_scratch.training.state import restore_optimizer
from llm_scratch.training.step import train_step

CONFIG = {
    "vocab_size": 50,
    "context_length": 16,
    "emb_dim": 64,
    "n_heads": 1,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
HEADS = Options(n_heads=1)
CHARS = TOKENIZERS["chars"](["abc "])


@pytest.fixture(autouse=True)
def _small_vocabulary(monkeypatch):
    monkeypatch.setitem(TOKENIZERS, "gpt2", lambda texts, vocab_size: CHARS)


def step(model, optimizer):
    """A step of the notebooks' training."""
    optimizer.zero_grad()
    model(torch.arange(32).view(2, 16)).logsumexp(-1).mean().backward()
    optimizer.step()


@pytest.fixture
def trained():
    """The notebooks' model and optimizer after three steps, and what they save."""
    torch.manual_seed(123)
    model = GPTModel(CONFIG).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.0)
    for _ in range(3):
        step(model, optimizer)
    masks = {f"trf_blocks.{i}.att.mask": torch.ones(16, 16).triu(1) for i in range(2)}
    return (
        model,
        optimizer,
        {
            "model_state_dict": model.state_dict() | masks,
            "optimizer_state_dict": optimizer.state_dict(),
        },
    )


def saved(path, what):
    torch.save(what, path)
    return path


def test_optimizer_state_is_imported_bit_for_bit(tmp_path, trained):
    model, optimizer, both = trained
    loaded = read(saved(tmp_path / "model_and_optimizer.pth", both), HEADS)
    assert {name: loaded.train[name] for name in ("lr", "weight_decay", "betas")} == {
        "lr": 5e-4,
        "weight_decay": 0.0,
        "betas": (0.9, 0.999),
    }
    names = {parameter: name for name, parameter in model.named_parameters()}
    want = {
        f"{names[p]}/{key}": value
        for p, slots in optimizer.state.items()
        for key, value in slots.items()
    }
    assert loaded.optimizer.keys() == want.keys()
    assert all(torch.equal(loaded.optimizer[name], value) for name, value in want.items())
    assert loaded.optimizer["tok_emb.weight/step"] == 3


def test_next_step_after_import_equals_the_notebooks(tmp_path, trained):
    model, optimizer, both = trained
    path = saved(tmp_path / "model_and_optimizer.pth", copy.deepcopy(both))
    step(model, optimizer)
    loaded = read(path, HEADS)
    ours = OPTIMIZERS["adamw"](loaded.model, TrainConfig(**loaded.train))
    restore_optimizer(loaded.model, ours, loaded.optimizer.items())
    step(loaded.model.eval(), ours)
    for name, parameter in loaded.model.named_parameters():
        torch.testing.assert_close(
            parameter, model.get_parameter(name), rtol=1e-6, atol=1e-8, msg=name
        )
    fresh = read(path, HEADS).model.eval()
    step(fresh, OPTIMIZERS["adamw"](fresh, TrainConfig(**loaded.train)))
    assert not torch.allclose(
        fresh.get_parameter("tok_emb.weight"),
        model.get_parameter("tok_emb.weight"),
        rtol=1e-6,
        atol=1e-8,
    )


def test_resumed_losses_equal_the_notebooks(tmp_path, trained):
    """Use the notebooks' AdamW with its decay of 0.1, clipped gradients and one loss spike."""
    model = trained[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.1)
    rows = torch.randint(0, 50, (WINDOW + 8, 2, 17), generator=torch.Generator().manual_seed(4))
    rows[:-4] %= 3  # an easy text, then an unseen one
    batches = [(ids[:, :-1], ids[:, 1:]) for ids in rows]

    def plain(batch):
        optimizer.zero_grad()
        loss = calc_loss_batch(*batch, model, "cpu")
        loss.backward()
        optimizer.step()
        return loss.item()

    for batch in batches[:3]:
        plain(batch)
    path = saved(
        tmp_path / "both.pth",
        {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()},
    )
    config = settings(loaded := read(path, HEADS), RunConfig(), "both.pth")
    ours = OPTIMIZERS[config.train.optimizer](loaded.model, config.train)
    restore_optimizer(loaded.model, ours, loaded.optimizer.items())
    detector = SpikeDetector(config.train.spike_sigmas)
    model_with_loss = ModelWithLoss(loaded.model.eval())
    longest = 0.0
    assert config.system.precision == "float32"
    for at, batch in enumerate(batches[3:]):
        for group in ours.param_groups:
            group["lr"] = learning_rate(at, len(batches), config.train)
        result = train_step(model_with_loss, ours, [batch], config.train.grad_clip, detector.accept)
        assert result.loss.item() == pytest.approx(plain(batch), rel=1e-5), at
        longest = max(longest, result.norm.item())
    assert longest > 1


def test_file_without_optimizer_gives_no_optimizer_state(tmp_path, trained):
    _, _, both = trained
    untouched = torch.optim.AdamW(GPTModel(CONFIG).parameters()).state_dict()
    for what in (both["model_state_dict"], both | {"optimizer_state_dict": untouched}):
        loaded = read(saved(tmp_path / "model.pth", what), HEADS)
        assert (loaded.optimizer, loaded.train) == ({}, {})


def test_n_heads_argument_sets_heads(tmp_path, trained):
    path = saved(tmp_path / "model.pth", trained[2]["model_state_dict"])
    assert read(path, Options(n_heads=4)).model.cfg.n_heads == 4
    assert load(path, n_heads=2)[0].cfg.n_heads == 2
    with pytest.raises(
        UserError, match="emb_dim=64 is not a multiple of 5 heads; use .* e.g. 1, 2, 4"
    ):
        read(path, Options(n_heads=5))


def test_unknown_heads_raise_with_flag(tmp_path, trained):
    """With another number of heads the weights load without an error and generate garbage."""
    path = saved(tmp_path / "model.pth", trained[2]["model_state_dict"])
    with pytest.raises(
        UserError,
        match="does not contain the number of attention heads; import it with .* --heads N",
    ) as error:
        load(path)
    assert error.value.code == CHECKPOINT
    assert "e.g. 1, 2, 4)" in str(error.value)


def test_gpt2_sized_model_gets_gpt2_heads_with_warning():
    small = GPTConfig(n_heads=1)
    assert known_heads(small) == 12
    assert known_heads(dataclasses.replace(small, emb_dim=1600, n_layers=48)) == 25
    assert known_heads(dataclasses.replace(small, vocab_size=66)) is None
    assert known_heads(dataclasses.replace(small, n_layers=6)) is None


def test_import_prints_assumptions_not_stored_in_weights(tmp_path, trained):
    path = saved(tmp_path / "model.pth", trained[2]["model_state_dict"])
    loaded = read(path, HEADS)
    assert loaded.assumed == {
        "activation": "GELU in its tanh form",
        "norm eps": 1e-5,
        "dropout": 0.1,
    }
    without = read(path, Options(n_heads=1, drop_rate=0.0))
    assert "dropout" not in without.assumed
    assert without.model.cfg.drop_rate == 0.0


@pytest.mark.parametrize("saved_head", [True, False])
def test_tied_head_remains_tied(tmp_path, saved_head):
    model = GPTModel(CONFIG | {"tie_embeddings": True}).eval()
    state = model.state_dict()
    if not saved_head:
        del state["out_head.weight"]
    loaded = load(saved(tmp_path / "model.pth", state), n_heads=1)[0]
    assert loaded.cfg.tie_embeddings
    assert loaded.out_head.weight is loaded.tok_emb.weight
    ids = torch.arange(16)[None]
    torch.testing.assert_close(loaded(ids), model(ids))


WRAPPED = {
    "compiled": "_orig_mod.{}".format,
    "DDP": "module.{}".format,
    "both": "module._orig_mod.{}".format,
    "both, the other way round": "_orig_mod.module.{}".format,
    "twice": "module.module._orig_mod.{}".format,
    "compiled blocks": lambda name: name.replace("trf_blocks.0.", "trf_blocks.0._orig_mod."),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_names_of_a_wrapped_model_are_understood(tmp_path, trained, wrapper):
    model, _, both = trained
    wrapped = both | {
        "model_state_dict": {
            WRAPPED[wrapper](name): tensor for name, tensor in both["model_state_dict"].items()
        }
    }
    loaded = read(saved(tmp_path / "model.pth", wrapped), HEADS)
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.model.parameters(), model.parameters(), strict=True)
    )
    assert (
        loaded.optimizer.keys() == read(saved(tmp_path / "plain.pth", both), HEADS).optimizer.keys()
    )


def test_names_that_collide_without_their_wrapper_are_refused(tmp_path, trained):
    state = trained[2]["model_state_dict"]
    with pytest.raises(
        UserError, match="tok_emb.weight is repeated, with and without the name of a wrapper"
    ):
        load(
            saved(
                tmp_path / "model.pth", state | {"module.tok_emb.weight": state["tok_emb.weight"]}
            )
        )


def groups(both, **changes):
    both["optimizer_state_dict"]["param_groups"][0].update(changes)


def memory(both, i, **changes):
    both["optimizer_state_dict"]["state"][i].update(changes)


BROKEN = {
    "other parameters": (lambda b: groups(b, params=[0, 1]), "it has 2 parameters, the model 31"),
    "another eps": (lambda b: groups(b, eps=1e-6), "its eps is 1e-06, only 1e-08 is supported"),
    "AMSGrad": (lambda b: groups(b, amsgrad=True), "its amsgrad is True"),
    "Adam": (
        lambda b: groups(b, decoupled_weight_decay=False),
        "its decoupled_weight_decay is False",
    ),
    "two groups": (
        lambda b: b["optimizer_state_dict"].update(param_groups=[{}, {}]),
        "too many values",
    ),
    "another shape": (
        lambda b: memory(b, 0, exp_avg=torch.zeros(3)),
        r"exp_avg of tok_emb.weight is not finite or is \(3,\), not \(50, 64\)",
    ),
    "not finite": (
        lambda b: memory(b, 1, exp_avg_sq=torch.full((16, 64), torch.inf)),
        "exp_avg_sq of pos_emb.weight is not finite",
    ),
    "SGD's": (
        lambda b: b["optimizer_state_dict"]["state"].update(
            {0: {"momentum_buffer": torch.zeros(1)}}
        ),
        "'exp_avg'",
    ),
    "a text": (lambda b: b.update(optimizer_state_dict={"state": "x"}), "param_groups"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_optimizer_state_that_does_not_match_is_rejected(tmp_path, trained, fault):
    breaks, message = BROKEN[fault]
    both = copy.deepcopy(trained[2])
    breaks(both)
    with pytest.raises(
        UserError, match=f"its optimizer_state_dict does not fit: .*{message}"
    ) as error:
        read(saved(tmp_path / "both.pth", both))
    assert error.value.code == CHECKPOINT


def weights(state, **changes):
    return state | {name.replace("__", "."): value for name, value in changes.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pos_emb__weight": torch.full((16, 64), torch.nan)},
            "pos_emb.weight has values that are not finite",
        ),
        (
            {"pos_emb__weight": torch.zeros(16, 64, dtype=torch.int64)},
            "pos_emb.weight holds int64; expected float32",
        ),
        ({"pos_emb__weight": torch.zeros(16)}, "holds no state_dict of a GPTModel"),
        (
            {"pos_emb__weight": torch.zeros(16, 63)},
            r"pos_emb.weight is \(16, 63\), the model has \(16, 64\)",
        ),
        ({"extra": torch.zeros(1)}, "unknown tensor extra"),
        ({"extra": torch.zeros(1).to_sparse()}, "extra is not a plain tensor but Tensor"),
        (
            {"trf_blocks__999999999__x": torch.zeros(1)},
            "its blocks are numbered up to 999,999,999, and it has 3. tensors",
        ),
        ({"trf_blocks__x__y": torch.zeros(1)}, "holds no state_dict of a GPTModel"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, trained, changes, message):
    path = saved(tmp_path / "model.pth", weights(trained[2]["model_state_dict"], **changes))
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert error.value.code == CHECKPOINT
    assert str(path) in str(error.value)
