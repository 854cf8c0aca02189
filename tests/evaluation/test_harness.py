"""lm-evaluation-harness gives our models the results of the same weights in transformers.

They equal those of our own tasks.
"""

import json

import pytest
import torch
import yaml

from llm_scratch.architectures import GPTConfig
from llm_scratch.evaluation.tasks import run_task
from llm_scratch.interop.hf_export import export_hf
from llm_scratch.model import build
from llm_scratch.tokenizers.bpe import ByteBPE

pytest.importorskip("lm_eval", reason="the harness; install the eval extra")
transformers = pytest.importorskip("transformers", reason="the reference; install the hf extra")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of the harness and what it imports
]
TEXT = "the cat sat on the mat, and the dog ran to the red house. " * 20
WORDS = ["the cat", "a dog ran", "on the mat", "red", "the house and", "to"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = build(
        GPTConfig(vocab_size=300, context_length=32, emb_dim=32, n_heads=4, n_layers=2, drop_rate=0)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train([TEXT], 290)


def questions(kind, n=40):
    draw = torch.Generator().manual_seed(9)

    def words(count):
        return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (count,), generator=draw))

    for i in range(n):
        if kind == "choices":
            choices = [f" {words(1)}", f" {words(2)}", f" {words(3)} "]
            yield {"context": words(i % 12 + 1), "choices": choices, "answer": i % 3}
        elif kind == "cloze":
            yield {"context": words(i % 20 + 1) + " ", "target": words(1)[:2]}
        else:
            yield {"text": words(i % (6 if kind == "short" else 40) + 1)}


CONFIGS = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "cloze": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{target}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "short": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for kind, config in CONFIGS.items():
        data = folder / f"{kind}.jsonl"
        rows = questions("cloze" if kind == "written" else kind)
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"test": str(data)}
        rest = {"dataset_path": "json", "dataset_kwargs": {"data_files": source}}
        task = {"task": kind, "test_split": "test", "num_fewshot": 0, **rest, **config}
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(task))
    return folder


def test_harness_results_equal_those_of_transformers(
    model, tokenizer, files, tmp_path, monkeypatch
):
    pytest.importorskip("accelerate", reason="the harness needs it for transformers")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from llm_scratch.evaluation.harness import _scores, run_harness

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    export_hf(model, tokenizer, tmp_path / "out")
    theirs = HFLM(
        pretrained=transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").float(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(tmp_path / "out"),
        batch_size=8,
        device="cpu",
    )
    names = [str(files / f"{kind}.yaml") for kind in CONFIGS]
    ours = run_harness(model, tokenizer, names, batch_size=8)
    tasks = [yaml.safe_load((files / f"{kind}.yaml").read_text()) for kind in CONFIGS]
    want = _scores(simple_evaluate(model=theirs, tasks=tasks, bootstrap_iters=100))
    assert len(ours) >= 6
    assert [(each.task, each.metric, each.n_questions) for each in ours] == [
        (each.task, each.metric, each.n_questions) for each in want
    ]
    for own, their in zip(ours, want):
        assert own.value == pytest.approx(their.value, rel=1e-5), own
    assert 0 < next(each.value for each in ours if each.metric == "acc_norm") < 1


def test_our_tasks_equal_the_harness(model, tokenizer, files, tmp_path, monkeypatch):
    """Compare texts that fit into the context, since longer ones are split into other windows."""
    from llm_scratch.evaluation.harness import run_harness

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    metrics = {"choices": ["acc", "acc_norm"], "cloze": ["acc"], "short": ["bits_per_byte"]}
    for kind, names in metrics.items():
        harness = run_harness(model, tokenizer, [str(files / f"{kind}.yaml")])
        values = {each.metric: each for each in harness}
        own = run_task(model, tokenizer, files / f"{kind}.jsonl")
        for score, name in zip(own, names):
            assert score.value == pytest.approx(values[name].value, rel=1e-5)
            assert score.n_questions == values[name].n_questions == 40
            if name != "bits_per_byte":
                assert score.stderr == pytest.approx(values[name].stderr, rel=1e-5)
