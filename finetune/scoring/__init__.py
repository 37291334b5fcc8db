"""Log-probabilities of completions: tiled LM head, reference models, token statistics."""
