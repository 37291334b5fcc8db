"""One file a topic: its contestants, their data, and what is checked."""
