"""What the peers do, in their documented form; run with the interpreter of `.venv-peers`."""
