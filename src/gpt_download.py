"""The module name under which the notebooks load OpenAI's GPT-2; TensorFlow is not needed.

The code: `llm_scratch.interop.openai`.
"""

from llm_scratch.interop.openai import download_and_load_gpt2, load_gpt2_params_from_tf_ckpt

__all__ = ["download_and_load_gpt2", "load_gpt2_params_from_tf_ckpt"]
