"""Published algorithms as they are published, written down to be compared with."""
