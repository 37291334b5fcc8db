"""The scorers as classes, such as ``Length()``: options are fields."""

from typing import Any

from siftune.components import component_class, exported

_GROUPS = ("curate.scorers",)


def __getattr__(name: str) -> Any:
    return component_class(__name__, _GROUPS, name)


def __dir__() -> list[str]:
    return sorted(exported(_GROUPS))
