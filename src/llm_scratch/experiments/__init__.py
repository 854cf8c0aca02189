"""Experiments: compare training settings over paired seeds.

`experiment` describes one, `runner` runs it, `verdict` judges it.
"""
