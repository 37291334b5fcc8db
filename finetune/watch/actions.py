"""What an alarm can do, by name."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Action", "FixedBeta"]

Action: TypeAlias = Literal["off", "log", "raise_beta", "roll_back", "stop"]

FixedBeta: TypeAlias = Literal["off", "log", "roll_back", "stop"]
"""Actions of a training without a KL penalty."""
