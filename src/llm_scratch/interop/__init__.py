"""Import and export of formats: Hugging Face, OpenAI, nanoGPT, litgpt, the notebooks' files."""
