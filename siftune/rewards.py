"""The rewards as classes, such as ``ExactMatch()``: options are fields."""

from typing import Any

from siftune.components import component_class, exported

_GROUPS = ("finetune.rewards",)


def __getattr__(name: str) -> Any:
    return component_class(__name__, _GROUPS, name)


def __dir__() -> list[str]:
    return sorted(exported(_GROUPS))
