"""Import and export of other formats:
Hugging Face, OpenAI, nanoGPT, litgpt, the notebooks' files.
"""
