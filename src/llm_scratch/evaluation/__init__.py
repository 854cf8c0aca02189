"""Evaluate models: `loss` measures the loss on a text,
`skills` what was learned from the stories.
"""
