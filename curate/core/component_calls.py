"""Plain input for components: one adapter for the calls of all classes in a package."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import cache, wraps
from types import ModuleType
from typing import Any, Final

__all__ = ["PlainCall", "adapt_calls"]

_ADAPTERS: Final[dict[str, str]] = {}
"""By package: ``MODULE:FUNCTION`` of its adapter."""


class _ComponentPackage(ModuleType):
    """A package of components; Python sets a module that was imported as its attribute."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}":
            for exported in getattr(value, "__all__", ()):
                _adapt(getattr(value, exported), _ADAPTERS[self.__name__])


def adapt_calls(package: str, adapter: str) -> None:
    """Pass each call of a component of ``package`` through ``adapter``.

    So that components take plain frames, tensors and texts without a line in any of them, a new one
    too. ``adapter`` is ``MODULE:FUNCTION``, called with the component's own ``__call__``, the
    component and the arguments; it is imported at the first call, so listing components is cheap.
    """
    _ADAPTERS[package] = adapter
    sys.modules[package].__class__ = _ComponentPackage


@dataclass(frozen=True)
class PlainCall:
    """A component of a user, called as those of a package: with plain input, too."""

    component: Any
    package: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the component returns."""
        importlib.import_module(self.package)
        adapted = _loaded(_ADAPTERS[self.package])
        return adapted(type(self.component).__call__, self.component, *args, **kwargs)


def _adapt(component: Any, adapter: str) -> None:
    owners = component.__mro__ if isinstance(component, type) else ()
    own = next((vars(one)["__call__"] for one in owners if "__call__" in vars(one)), None)
    if own is None or hasattr(own, "__wrapped__"):
        return

    @wraps(own)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _loaded(adapter)(own, self, *args, **kwargs)

    component.__call__ = call


@cache
def _loaded(adapter: str) -> Any:
    module, _, name = adapter.partition(":")
    return getattr(importlib.import_module(module), name)
