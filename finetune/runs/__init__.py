"""A training run on disk: checkpoints, resuming, metrics, stop signals."""
