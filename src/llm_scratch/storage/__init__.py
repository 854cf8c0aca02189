"""Storage: atomic files, safe parsing, downloads, checkpoints with a manifest of hashes."""
