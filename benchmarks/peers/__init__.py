"""The peers, called as they document it; run with the interpreter of `.venv-peers`."""
