"""Chat templates: rendering, token ids, masks of the assistant turns, control tokens."""
