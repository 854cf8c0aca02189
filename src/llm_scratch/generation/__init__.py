"""From scores to text: `sampling` chooses one token from the model's scores, `decode` repeats that until there is a text."""
