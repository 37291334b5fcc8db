"""The arena: selections compared on one model, paired by seed and prompt, with intervals."""
