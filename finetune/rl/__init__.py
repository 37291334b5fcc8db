"""Reinforcement learning: PPO losses, KL, rollouts, actor and critic, optimizer loop."""
