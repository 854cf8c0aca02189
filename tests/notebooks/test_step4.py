"""Step 4, training and decoding: the notebook's printed values.

Its mistakes must not return.
"""

from __future__ import annotations

import math

import pytest
import torch

from llm_gpt import GPTModel, generate, generate_text_simple, text_to_token_ids, token_ids_to_text
from llm_scratch.data.text import split_text
from llm_scratch.generation.sampling import (
    TOY_LOGITS,
    TOY_VOCAB,
    print_sampled_tokens,
    softmax_with_temperature,
    top_k,
)
from llm_scratch.training.simple import (
    calc_loss_batch,
    calc_loss_loader,
    plot_losses,
    train_model_simple,
)
from text_data import create_dataloader_V1

GPT_CONFIG_124M = {
    "vocab_size": 50257,
    "context_length": 256,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
TINY = GPT_CONFIG_124M | {
    "vocab_size": 97,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
}
INPUTS = torch.tensor(
    [[16833, 3626, 6100], [40, 1107, 588]]
)  # "every effort moves", "I really like"
TARGETS = torch.tensor(
    [[3626, 6100, 345], [1107, 588, 11311]]
)  # " effort moves you", " really like chocolate"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(123)
    return GPTModel(GPT_CONFIG_124M).eval()


@pytest.fixture
def loaders(verdict, gpt2):
    """Cells 17 to 20: four fifths of the characters to train on."""
    torch.manual_seed(123)
    train, val = split_text(verdict, 0.80)
    return (
        create_dataloader_V1(
            train, batch_size=2, max_length=256, stride=256, drop_last=True, shuffle=True
        ),
        create_dataloader_V1(
            val, batch_size=2, max_length=256, stride=256, drop_last=False, shuffle=False
        ),
    )


def test_cell_5_text_of_an_untrained_model(model, gpt2):
    ids = generate_text_simple(
        model,
        text_to_token_ids("Every effort moves you", gpt2),
        10,
        GPT_CONFIG_124M["context_length"],
    )
    assert (
        token_ids_to_text(ids, gpt2)
        == "Every effort moves you rentingetic wasnم refres RexMeCHicular stren"
    )


@torch.no_grad()
def test_cells_8_to_13_from_probabilities_to_perplexity(model, gpt2, assert_prints):
    assert [gpt2.decode(row.tolist()) for row in TARGETS] == [
        " effort moves you",
        " really like chocolate",
    ]
    probas = model(INPUTS).softmax(-1)
    assert probas.shape == (2, 3, 50257)
    best = probas.argmax(-1)
    assert best.tolist() == [[16657, 339, 42826], [49906, 29669, 41751]]
    assert gpt2.decode(best[0].tolist()) == " Armed heNetflix"
    wanted = probas.gather(-1, TARGETS[..., None])[..., 0]
    printed = torch.tensor(
        [[7.4540e-05, 3.1061e-05, 1.1563e-05], [1.0337e-05, 5.6776e-05, 4.7559e-06]]
    )
    torch.testing.assert_close(wanted, printed, rtol=1e-4, atol=0)
    assert_prints(wanted.log(), [[-9.5042, -10.3796, -11.3677], [-11.4798, -9.7764, -12.2561]])
    loss = calc_loss_batch(INPUTS, TARGETS, model, "cpu")
    assert_prints(loss, 10.7940)
    assert loss.exp().item() == pytest.approx(48725.8203, rel=1e-5)


def test_cells_17_to_21_text_to_batches(verdict, gpt2, loaders):
    assert (len(verdict), len(gpt2.encode(verdict))) == (20479, 5145)
    shapes = [
        [inputs.shape for inputs, targets in loader if inputs.shape == targets.shape]
        for loader in loaders
    ]
    assert shapes == [[(2, 256)] * 8, [(2, 256)] * 2]
    assert [sum(shape.numel() for shape in of) for of in shapes] == [4096, 1024]


@pytest.mark.slow
def test_cell_24_loss_before_training(model, loaders):
    """Ten batches through 124M take 19 s on one thread.

    Float32 sums in another order differ in the seventh digit.
    """
    torch.manual_seed(123)
    train, val = (calc_loss_loader(loader, model, "cpu") for loader in loaders)
    assert train == pytest.approx(10.992259979248047, abs=2e-6)
    assert val == pytest.approx(10.983443260192871, abs=2e-6)


@pytest.mark.slow
def test_cell_27_training_on_the_text(loaders, gpt2, capsys, tmp_path):
    """Ten epochs at 124M take minutes on a CPU.

    Dropout differs by kind of device, so the notebook's losses are a band.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(123)
    model = GPTModel(GPT_CONFIG_124M).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)
    train_losses, val_losses, seen = train_model_simple(
        model,
        *loaders,
        optimizer,
        device,
        10,
        5,
        5,
        start_context="Every effort moves you",
        tokenizer=gpt2,
    )
    assert seen == [512 * (step + 1) for step in range(0, 80, 5)]
    assert train_losses[0] == pytest.approx(9.758, abs=0.3)
    assert val_losses[0] == pytest.approx(10.080, abs=0.3)
    assert train_losses[-1] < 1.5
    assert min(val_losses) == pytest.approx(6.621, abs=0.3)
    assert val_losses[-1] == pytest.approx(6.850, abs=0.4)
    assert "Ep 10 (Step 000075): Train loss" in capsys.readouterr().out
    plot_losses(
        torch.linspace(0, 10, len(train_losses)),
        seen,
        train_losses,
        val_losses,
        path=tmp_path / "loss-plot.pdf",
    )
    assert (tmp_path / "loss-plot.pdf").is_file()


def test_cells_32_to_34_the_toy_vocabulary(capsys):
    words = {i: word for word, i in TOY_VOCAB.items()}
    probas = TOY_LOGITS.softmax(0)
    assert words[int(probas.argmax())] == "forward"
    torch.manual_seed(123)
    assert words[int(torch.multinomial(probas, 1))] == "forward"
    print_sampled_tokens(probas)
    counts = dict(line.split(" x ")[::-1] for line in capsys.readouterr().out.splitlines())
    assert counts == dict.fromkeys(TOY_VOCAB, "0") | {
        "closer": "73",
        "forward": "582",
        "inches": "2",
        "toward": "343",
    }


def test_temperature_experiment():
    cold, one, hot = (softmax_with_temperature(TOY_LOGITS, t) for t in (0.1, 1, 5))
    torch.testing.assert_close(one, TOY_LOGITS.softmax(0))
    assert cold[TOY_VOCAB["forward"]] > 0.99
    assert hot[TOY_VOCAB["pizza"]] > 0.03 > one[TOY_VOCAB["pizza"]]


def test_cells_38_39_top_3():
    best = TOY_LOGITS.topk(3)
    assert (best.values.tolist(), best.indices.tolist()) == (
        pytest.approx([6.75, 6.28, 4.51]),
        [3, 7, 0],
    )
    inf = math.inf
    assert top_k(TOY_LOGITS[None], 3).tolist() == [
        pytest.approx([4.51, -inf, -inf, 6.75, -inf, -inf, -inf, 6.28, -inf])
    ]


def test_cells_44_to_47_weights_and_optimizer_come_back(tmp_path):
    model = GPTModel(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)
    calc_loss_batch(INPUTS % 97, TARGETS % 97, model, "cpu").backward()
    optimizer.step()
    torch.save(
        {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()},
        tmp_path / "model_and_optimizer.pth",
    )
    checkpoint = torch.load(tmp_path / "model_and_optimizer.pth", weights_only=True)
    again = GPTModel(TINY)
    again.load_state_dict(checkpoint["model_state_dict"])
    restored = torch.optim.AdamW(again.parameters(), lr=5e-4, weight_decay=0.1)
    restored.load_state_dict(checkpoint["optimizer_state_dict"])
    assert restored.param_groups[0]["lr"] == 4e-4, (
        "the saved rate overrides the one in the notebook's line"
    )
    again.eval(), model.eval()
    assert torch.equal(again(INPUTS % 97), model(INPUTS % 97))


def test_checkpoint_of_the_notebooks_loads(tmp_path):
    """Theirs hold each layer's mask as a buffer."""
    model = GPTModel(TINY).eval()
    masks = {f"trf_blocks.{i}.att.mask": torch.ones(8, 8).triu(1) for i in range(2)}
    torch.save(model.state_dict() | masks, tmp_path / "model.pth")
    again = GPTModel(TINY).eval()
    again.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    assert torch.equal(again(INPUTS % 97), model(INPUTS % 97))


# What went wrong in the notebook


def test_generate_takes_a_batch():
    """The top-k threshold of [B] was compared with logits of [B, V], and one id with all rows."""
    torch.manual_seed(0)
    model, idx = GPTModel(TINY), torch.randint(0, 97, (3, 4))
    out = generate(
        model,
        idx,
        30,
        8,
        temperature=2.0,
        top_k=5,
        eos_id=11,
        generator=torch.Generator().manual_seed(2),
    )
    for row in out[:, 4:].tolist():
        assert 11 not in row or set(row[row.index(11) :]) == {11}
    assert out.shape[1] <= 34
    assert generate(model, idx, 3, 8, temperature=1.0, top_k=10_000).shape == (3, 7)


def test_end_token_is_kept():
    model = GPTModel(TINY)
    idx = torch.zeros(1, 1, dtype=torch.long)
    end = int(generate(model, idx, 1, 8)[0, 1])
    assert generate(model, idx, 5, 8, eos_id=end).tolist() == [[0, end]]


def test_generate_switches_dropout_off_and_on_again():
    model = GPTModel(TINY | {"drop_rate": 0.9})
    idx = torch.arange(5)[None]
    assert torch.equal(generate(model, idx, 20, 8), generate(model, idx, 20, 8))
    assert model.training


@pytest.mark.filterwarnings("ignore:the prompt has:llm_scratch.errors.GenerationWarning")
def test_context_size_beyond_the_models_is_accepted():
    """The notebook raised an error in the position embedding."""
    model, idx = GPTModel(TINY), torch.arange(20)[None]
    assert torch.equal(
        generate_text_simple(model, idx, 5, 4096), generate_text_simple(model, idx, 5, 8)
    )


def test_short_last_batch_has_its_share_and_no_more():
    torch.manual_seed(1)
    model = GPTModel(TINY).eval()
    rows = torch.randint(0, 97, (5, 9))
    batches = [(rows[i : i + 2, :-1], rows[i : i + 2, 1:]) for i in (0, 2, 4)]
    with torch.no_grad():
        want = calc_loss_batch(rows[:, :-1], rows[:, 1:], model, "cpu").item()
        means = [calc_loss_batch(*batch, model, "cpu").item() for batch in batches]
    assert calc_loss_loader(batches, model, "cpu") == pytest.approx(want, rel=1e-6)
    assert sum(means) / 3 != pytest.approx(want, rel=1e-4)
    assert math.isnan(calc_loss_loader([], model, "cpu"))


def test_tied_head_is_the_embedding_and_not_a_copy():
    model = GPTModel(TINY | {"tie_embeddings": True})
    assert model.out_head.weight is model.tok_emb.weight
