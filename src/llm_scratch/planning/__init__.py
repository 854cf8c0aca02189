"""Plan runs: predict memory and time,
and choose settings for a text, a machine and a time budget.
"""
