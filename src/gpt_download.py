"""Load OpenAI's GPT-2 without TensorFlow, under the module name of the notebooks.

The code: `llm_scratch.interop.openai`.
"""

from llm_scratch.interop.openai import download_and_load_gpt2, load_gpt2_params_from_tf_ckpt

__all__ = ["download_and_load_gpt2", "load_gpt2_params_from_tf_ckpt"]
