"""Serving: the playground, a page on which a learner sees inside a model; see `playground.py`."""
