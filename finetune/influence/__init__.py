"""Influence of training rows: per-row gradients of LoRA weights, Adam steps, random projection."""
