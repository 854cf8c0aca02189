"""The prompt of samples is the configured one if it can be encoded.

Else it is the start token or the first tokens of the text.
"""

import numpy as np
import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.model import build
from llm_scratch.tokenizers import CharTokenizer, SimpleTokenizerV1
from llm_scratch.training.samples import choose_prompt, generate_sample, prompt_problem

TEXT = "abcdefghij"


@pytest.fixture
def model():
    return build(GPTConfig(vocab_size=12, context_length=16, emb_dim=12, n_heads=2, n_layers=1))


@pytest.mark.parametrize("prompt", ["abc", ""])
def test_prompt_that_can_be_encoded_is_kept(model, prompt):
    tokenizer = CharTokenizer.train([TEXT])
    assert choose_prompt(model, tokenizer, prompt, np.array(tokenizer.encode(TEXT))) == (prompt, "")


def test_unknown_prompt_is_replaced_by_the_first_tokens_of_the_text(model):
    tokenizer = CharTokenizer.train([TEXT])
    prompt, warning = choose_prompt(model, tokenizer, "xyz", np.array(tokenizer.encode(TEXT)))
    assert prompt == "abcdefgh"
    assert (
        "samples cannot begin with 'xyz': the character 'x' (U+0078) was not in the training text"
        in warning
    )
    assert "using 'abcdefgh', set another with --train.prompt" in warning
    assert not prompt_problem(model, tokenizer, prompt)


def test_unknown_prompt_is_replaced_by_the_start_token_where_texts_begin_with_one(model):
    tokenizer = CharTokenizer.train([TEXT])
    joined = np.array([tokenizer.eot_token, *tokenizer.encode(TEXT)])
    prompt, warning = choose_prompt(model, tokenizer, "xyz", joined)
    assert (prompt, "using the model's start token" in warning) == ("", True)
    model.start_id = tokenizer.eot_token
    assert choose_prompt(model, tokenizer, "xyz", joined[1:])[0] == ""


def test_empty_prompt_needs_an_end_of_text_token(model):
    tokenizer = CharTokenizer.train([TEXT], end_of_text=False)
    assert choose_prompt(model, tokenizer, "", np.array(tokenizer.encode(TEXT)))[0] == "abcdefgh"


def test_unknown_words_are_reported(model):
    tokenizer = SimpleTokenizerV1({"a": 0, "b": 1})
    assert "the word 'c' is not among" in prompt_problem(model, tokenizer, "c")


def test_prompt_longer_than_the_context_is_reported_and_kept(model):
    tokenizer = CharTokenizer.train([TEXT])
    size = model.cfg["context_length"]
    prompt = "a" * (size + 3)
    chosen, warning = choose_prompt(model, tokenizer, prompt, np.array(tokenizer.encode(TEXT)))
    assert chosen == prompt
    assert warning.startswith(
        f"the prompt of samples has {size + 3} tokens, but the context is {size}:"
        " the first 3 are dropped"
    )


def test_sample_of_a_compiled_model_compiles_nothing():
    """With a cache the model would be compiled for every length, which takes minutes on a GPU."""
    compiled = []
    torch.compiler.reset()  # torch stops compiling a function after a number of recompilations

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    tokenizer = CharTokenizer.train([TEXT])
    model = build(
        GPTConfig(
            vocab_size=tokenizer.n_vocab, context_length=16, emb_dim=12, n_heads=2, n_layers=1
        )
    )
    torch._dynamo.reset()  # torch limits the recompilations of a function
    model.hidden = torch.compile(model.hidden, backend=backend)
    assert generate_sample(model, tokenizer, "abc", seed=1).startswith("abc")
    assert not compiled
    model.hidden(torch.zeros(1, 4, dtype=torch.long))
    assert compiled, "it is compiled for complete rows"
