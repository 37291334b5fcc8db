"""Statistics of judgements: agreement, corrected win rates, biases, with intervals."""
