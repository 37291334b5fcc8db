"""Models known by name: what they are, how they come into the user's cache, where they lie."""
