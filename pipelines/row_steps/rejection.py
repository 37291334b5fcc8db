"""Keep the best of K scored answers of a step, or those that rejection sampling accepts."""

from siftune.finetune.tools.rejection import Rejection

__all__ = ["Rejection"]
