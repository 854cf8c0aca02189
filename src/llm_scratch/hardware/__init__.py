"""What this processor does fast and how much memory it has: measured by small trials, never looked up by name."""
