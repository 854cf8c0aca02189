"""Plan runs: predict memory and time, and choose settings for a text, machine and time budget."""
