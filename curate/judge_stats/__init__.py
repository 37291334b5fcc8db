"""What judgements are worth: agreement, corrected win rates, biases, with intervals."""
