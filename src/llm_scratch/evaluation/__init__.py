"""How good a model is: `loss` says how well it foretells a text, `skills` what it has learnt."""
