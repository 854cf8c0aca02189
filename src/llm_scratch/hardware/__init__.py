"""Speed and memory of this machine, measured by small trials."""
