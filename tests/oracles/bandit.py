"""The bandit by its former place; new tests import `finetune.oracles.bandit`."""

from finetune.oracles.bandit import Bandit, kl, land

__all__ = ["Bandit", "kl", "land"]
