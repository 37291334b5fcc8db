"""One file a topic: who runs on what, and what is checked."""
