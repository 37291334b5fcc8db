"""Model folders: loading, saving, LoRA adapters, precision, model cards."""
