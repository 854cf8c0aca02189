"""Choosing the next token: samplers, penalties, decoders: rows of docs/equivalence.md."""

from __future__ import annotations

from itertools import islice
from math import log2

import torch

from equivalence import CONFIG, count_differences, max_difference, row, transformers_gpt2
from llm_scratch.generation import penalties, sampling
from llm_scratch.generation.beam import beam_search
from llm_scratch.generation.contrastive import contrastive
from llm_scratch.generation.decode import generate
from llm_scratch.generation.mirostat import Mirostat
from llm_scratch.generation.speculative import DraftModel, speculate
from llm_scratch.model.gpt import GPTModel


def against_transformers(name: str, warper: str, value: float) -> None:
    """A row for a sampler that transformers has too."""

    def measure() -> float:
        from transformers.generation import logits_process

        logits = 3 * torch.randn(5, 311)
        return max_difference(
            sampling.SAMPLERS[name](logits, value),
            getattr(logits_process, warper)(value)(None, logits),
        )

    test = f"generation/test_sampling.py::test_{name}_equals_transformers"
    row(
        name.replace("_", "-"),
        f"generation/sampling.{name}",
        f"transformers' {warper}",
        test,
        covers=f"SAMPLERS.{name}",
    )(measure)


against_transformers("temperature", "TemperatureLogitsWarper", 0.7)
against_transformers("top_k", "TopKLogitsWarper", 50)
against_transformers("top_p", "TopPLogitsWarper", 0.9)
against_transformers("min_p", "MinPLogitsWarper", 0.1)
against_transformers("typical_p", "TypicalLogitsWarper", 0.9)
against_transformers("eta_cutoff", "EtaLogitsWarper", 0.01)


def penalty_against_transformers(name: str, processor: str, ours: object, theirs: object) -> None:
    """A row for a penalty of transformers; `ours` and `theirs` are values that mean the same."""

    def measure() -> float:
        from transformers.generation import logits_process

        logits, ids = 3 * torch.randn(3, 97), torch.randint(0, 5, (3, 20))
        return max_difference(
            penalties.PENALTIES[name](logits, ours, ids),
            getattr(logits_process, processor)(theirs)(ids, logits),
        )

    test = f"generation/test_penalties.py::test_{name}_equals_transformers"
    row(
        name.replace("_", " "),
        f"generation/penalties.{name}",
        f"transformers' {processor}",
        test,
        covers=f"PENALTIES.{name}",
    )(measure)


penalty_against_transformers(
    "logit_bias", "SequenceBiasLogitsProcessor", {3: -9.0, 7: 2.5}, {(3,): -9.0, (7,): 2.5}
)
penalty_against_transformers("repetition_penalty", "RepetitionPenaltyLogitsProcessor", 1.3, 1.3)
penalty_against_transformers("no_repeat_ngram_size", "NoRepeatNGramLogitsProcessor", 2, 2)


def penalty_against_formula(name: str, cost: str) -> None:
    """A row for a penalty of OpenAI's: a token said n times loses `cost` of n."""

    def measure() -> float:
        logits, ids = 3 * torch.randn(3, 97), torch.randint(0, 97, (3, 20))
        said = torch.stack([row.bincount(minlength=97) for row in ids])
        return max_difference(
            penalties.PENALTIES[name](logits, 0.5, ids),
            logits - 0.5 * (said > 0 if cost == "once" else said),
        )

    test = "generation/test_penalties.py::test_presence_and_frequency_follow_their_formula"
    row(
        name.replace("_", " "),
        f"generation/penalties.{name}",
        "its formula",
        test,
        covers=f"PENALTIES.{name}",
    )(measure)


penalty_against_formula("presence_penalty", "once")
penalty_against_formula("frequency_penalty", "each time")


@row(
    "mirostat",
    "generation/mirostat.Mirostat",
    "its algorithm, token by token: tokens kept that differ",
    "generation/test_mirostat.py::test_mirostat_bound_follows_the_paper",
)
def _mirostat() -> float:
    steer, bound, ids, wrong = Mirostat(3.0, 0.5), 6.0, torch.tensor([[0]]), 0.0
    for token in (3, 0, 40, 7):
        logits = 2 * torch.randn(1, 97)
        surprise = [-log2(p) for p in logits[0].softmax(-1).tolist()]
        wrong += count_differences(
            steer(logits, ids).isfinite()[0].tolist(),
            [bits <= max(bound, min(surprise)) for bits in surprise],
        )
        bound, ids = (
            bound - 0.5 * (surprise[token] - 3.0),
            torch.cat([ids, torch.tensor([[token]])], 1),
        )
    return wrong


@row(
    "greedy text",
    "generation/decode.generate",
    "the plain loop: ids that differ",
    "generation/test_decode.py::test_greedy_ids_equal_the_plain_loop",
)
def _greedy() -> float:
    ours, ids = GPTModel(CONFIG).eval(), torch.randint(0, 97, (1, 4))
    plain = ids
    for _ in range(20):
        plain = torch.cat([plain, ours(plain)[:, -1].argmax(-1, keepdim=True)], 1)
    return count_differences(generate(ours, ids, 20, 32)[0].tolist(), plain[0].tolist())


def sharp_gpt() -> GPTModel:
    """A model that is sure of what it says."""
    ours = GPTModel(CONFIG).eval()
    ours.out_head.weight.mul_(4)
    return ours


@row(
    "beam search",
    "generation/beam.beam_search",
    "transformers' generate with num_beams: ids that differ",
    "generation/test_beam.py::test_beam_texts_and_scores_equal_transformers",
)
def _beam() -> float:
    from llm_scratch.interop.gpt2_weight_map import HF
    from llm_scratch.interop.weight_map import expand

    theirs = transformers_gpt2()
    ours = GPTModel(CONFIG | {"tie_embeddings": True}).eval()
    ids = torch.randint(1, 97, (1, 4))
    state = theirs.state_dict()
    for mapped in expand(HF, 2):
        for mine, part in mapped.split(state[mapped.theirs]).items():
            ours.get_parameter(mine).copy_(part)
    want = theirs.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        num_beams=4,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return count_differences(
        beam_search(ours, ids, max_new_tokens=12, beams=4)[0].ids, want[0, 4:].tolist()
    )


@row(
    "contrastive search",
    "generation/contrastive.contrastive",
    "its formula without a cache: ids that differ",
    "generation/test_contrastive.py::test_contrastive_ids_equal_the_formula_without_cache",
)
def _contrastive() -> float:
    ours, ids = sharp_gpt(), torch.randint(0, 97, (1, 5))
    plain = ids
    for _ in range(9):
        past = ours.hidden(plain)[0]
        probas, tokens = ours.out_head(past[-1]).softmax(-1).topk(4)
        vectors = torch.stack(
            [ours.hidden(torch.cat([plain, token.view(1, 1)], 1))[0, -1] for token in tokens]
        )
        likeness = torch.cosine_similarity(vectors[:, None], past[None], dim=-1).amax(1)
        plain = torch.cat([plain, tokens[(0.4 * probas - 0.6 * likeness).argmax()].view(1, 1)], 1)
    return count_differences(
        torch.cat(
            [
                ids,
                *(step.ids for step in islice(contrastive(ours, ids, candidates=4, alpha=0.6), 9)),
            ],
            1,
        )[0].tolist(),
        plain[0].tolist(),
    )


@row(
    "speculative decoding",
    "generation/speculative.speculative",
    "plain greedy text: ids that differ",
    "generation/test_speculative.py::test_greedy_text_is_that_of_plain_greedy",
)
def _speculative() -> float:
    ours = sharp_gpt()
    draft = GPTModel(CONFIG | {"n_layers": 1}).eval()
    ids = torch.randint(0, 97, (1, 5))
    steps = islice(speculate(ours, ids, DraftModel(draft, temperature=0), temperature=0), 20)
    return count_differences(
        torch.cat([ids, *(step.ids for step in steps)], 1)[0].tolist(),
        generate(ours, ids, 20)[0].tolist(),
    )
