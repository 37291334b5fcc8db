"""A real model on rows of your own: selection, SFT, DPO and a short PPO."""
