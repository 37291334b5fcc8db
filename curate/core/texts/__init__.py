"""What a text says of itself: words, shares, tokens, signs of a non-answer, a model's surprise."""
