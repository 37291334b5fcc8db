"""Write `siftune/method_types.pyi`: the options of each function of `siftune.train`, for editors.

`python -m tests.api.method_types` writes it anew.
"""

from __future__ import annotations

import collections.abc
import inspect
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import siftune
from siftune.curate.core.registry import options

STUB = Path(siftune.__file__).with_name("method_types.pyi")
HEAD = '''"""Options of `siftune.train`, written by `python -m tests.api.method_types`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, Unpack

from siftune.finetune.core.types import TrainResult
'''


def stub() -> str:
    """A function for each method; objectives share the options of their trainer."""
    from siftune.train import _components, methods

    own = {name: _components(name) for name in methods()}
    trainer = next(shared for _, shared in own.values() if shared is not None)
    specific = {key for one, shared in own.values() if shared for key in options(one)}
    left = {"loss", "loss_options", "beta", *specific}
    common = [key for key in options(trainer) if key not in left]
    hints = get_type_hints(trainer, include_extras=True)
    lines = [f"    {key}: {typed(key, hints[key], options(trainer)[key])}" for key in common]
    parts = [HEAD, f"__all__ = {list(own)!r}\n"]
    parts.append("\n".join(["class _Objective(TypedDict, total=False):", *lines, ""]))
    parts[-1] += "    tokenizer: Any\n    overwrite: bool\n"
    parts += [function(name, *components, common) for name, components in own.items()]
    return "\n".join(parts)


def typed(key: str, hint: Any, field: Any) -> str:
    required = field.default is field.default_factory  # both are missing
    return f"Required[{text(hint)}]" if required else text(hint)


def function(name: str, own: type[Any], shared: type[Any] | None, common: list[str]) -> str:
    given = inspect.signature(getattr(siftune.train, name)).parameters
    hints = {
        **(get_type_hints(shared, include_extras=True) if shared else {}),
        **get_type_hints(own, include_extras=True),
    }
    listed = ["rows: Any", "*", "out: str | Path"]
    left = {"rows", "out", *([*common, "tokenizer", "overwrite"] if shared else [])}
    for key, one in given.items():
        if key not in left:
            default = "" if one.default is inspect.Parameter.empty else " = ..."
            hinted = text(hints.get(key, Any if key == "tokenizer" else bool))
            listed.append(f"{key}: {hinted}{default}")
    if shared:
        listed.append("**shared: Unpack[_Objective]")
    return f"def {name}({', '.join(listed)}) -> TrainResult: ...\n"


def text(hint: Any) -> str:
    """A type as the API takes it: where options are text, models, rows and paths are given too."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return text(inner[0])
    if origin in (Union, UnionType):
        found = dict.fromkeys(map(text, inner))
        return "Any" if "Any" in found else " | ".join(found)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if hint is NoneType:
        return "None"
    if hint in (bool, int, float):
        return str(hint.__name__)
    if origin in (collections.abc.Mapping, dict):
        return f"Mapping[str, {text(inner[1])}]"
    return "Any"


if __name__ == "__main__":
    STUB.write_text(stub())
