"""Serving: the playground, a page that shows what happens inside a model; see `playground.py`."""
