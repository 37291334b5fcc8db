"""The LLM judge: ratings, pairs, criteria, parsing of its answers, panels, columns of scores."""
