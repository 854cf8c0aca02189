"""The notebooks' module `text_data`: text to batches.

Everything is in `llm_scratch.data.text`.
"""

from llm_scratch.data.text import GPTDatasetV1, create_dataloader_V1

__all__ = ["GPTDatasetV1", "create_dataloader_V1"]
