"""Evaluate models: `loss` on a text, `skills` learned from the stories."""
