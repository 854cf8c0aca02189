"""Data: sources of text, token shards, and batches of token windows."""
