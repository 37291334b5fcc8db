"""Checks of the files of a model folder before a library reads them, with errors in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import SiftuneError, UsageError
from siftune.curate.core.progress import no_kernel_note, quiet_transformers
from siftune.curate.models.model_config import check_values

__all__ = [
    "check_files",
    "check_settings",
    "generation_ends",
    "integers_in",
    "listed",
    "loading",
    "one_line",
    "read_object",
]

_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_ADAPTER: Final = "adapter_config.json"
_GENERATION: Final = "generation_config.json"
_SETTINGS: Final = ("config.json", "tokenizer_config.json", _GENERATION)
_SHOWN: Final = 3
_REPAIR: Final = "get the file again, or correct it"


@contextmanager
def loading(what: str | Path, expected: str = _REPAIR) -> Iterator[None]:
    """Turn any error of loading a model into one line that begins with ``what``.

    Each family has its own errors for a wrong configuration: there is no list of them.

    Raises:
        UsageError: anything was raised that is not one of our own errors.
    """
    no_kernel_note()  # of peft, which may be imported next
    try:
        with quiet_transformers():
            yield
    except SiftuneError:
        raise
    except Exception as error:
        raise UsageError(f"{what} cannot be loaded ({one_line(error)}): {expected}") from None


def one_line(error: BaseException) -> str:
    """The first line of an error's text, with the next where it only introduces that one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    count = next((at for at, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:count]) or type(error).__name__


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        UsageError: it cannot be read, or is something other than an object.
    """
    try:
        found = json.loads(path.read_bytes())  # as transformers, which also reads Infinity
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({one_line(error)}): {_REPAIR}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(found).__name__}: {_REPAIR}")
    return found


def check_settings(folder: Path) -> None:
    """Refuse JSON files that are no settings of a model; missing ones are accepted.

    Raises:
        UsageError: the text names the file and the key; or the folder has a pipe or a device in the
        place of a file.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UsageError(f"{path} is not a file: expected one there, or nothing: {_REPAIR}")
    found = {name: read_object(folder / name) for name in _SETTINGS if (folder / name).is_file()}
    check_values(folder / "config.json", found.get("config.json", {}))
    kinds = found.get("config.json", {}).get("architectures") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise UsageError(
            f"{folder / 'config.json'}: architectures: expected a list of names, found {kinds!r}: "
            f"{_REPAIR}"
        )
    generation_ends(folder)


def generation_ends(folder: Path) -> tuple[int, ...]:
    """The end tokens of ``generation_config.json``; none where there is no such file.

    Raises:
        UsageError: the file cannot be read, or they are no token ids.
    """
    path = folder / _GENERATION
    named = read_object(path).get("eos_token_id") if path.is_file() else None
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(end) is int and end >= 0 for end in ends):
        raise UsageError(
            f"{path}: eos_token_id: expected a token id or a list of them, found {named!r}: "
            f"{_REPAIR}"
        )
    return tuple(ends)


def check_files(folder: Path) -> None:
    """Refuse settings and weight files that are not whole; a name on the hub has none yet.

    Raises:
        UsageError: settings are none (`check_settings`), a shard is missing, a file is cut off or
            its header is wrong, or the folder has an adapter, for which `transformers` would load
            another folder.
    """
    if (folder / _ADAPTER).is_file():
        raise UsageError(
            f"{folder} is an adapter ({_ADAPTER}), not a whole model: merge it into its base "
            "model and give the folder of that; --adapter both has the merged model as well"
        )
    check_settings(folder)
    whole, index = folder / _WEIGHTS, folder / _INDEX
    for path in [whole] if whole.is_file() else _shards(index) if index.is_file() else []:
        _check_header(path)


def _shards(index: Path) -> list[Path]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(map(_is_name, places.values())):
        raise UsageError(f"{index}: expected a weight_map of tensor names to files beside it")
    names = sorted(set(places.values()))
    for name in names:
        if not (index.parent / name).is_file():
            lost = [tensor for tensor, place in places.items() if place == name]
            raise UsageError(
                f"{index} names the file {name}, which is not there, for {listed(lost)}: "
                "get the folder again"
            )
    return [index.parent / name for name in names]


def integers_in(folder: Path) -> set[str]:
    """Names of the tensors in a folder's weight files that are whole numbers."""
    from safetensors import safe_open

    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        found |= {name for name, kind in kinds.items() if kind[0] in "IUB" and kind != "BF16"}
    return found


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name == value


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(
            f"{path} is not a whole safetensors file ({one_line(error)}): get it again"
        ) from None


def listed(names: Collection[str]) -> str:
    """How many tensors, and the first few by name.

    >>> listed(["layers.10.b", "layers.2.a", "norm", "layers.2.b"])
    '4 tensors (layers.2.a, layers.2.b, layers.10.b, ...)'
    """
    ordered = sorted(names, key=_natural)
    more = ", ..." if len(ordered) > _SHOWN else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({', '.join(ordered[:_SHOWN])}{more})"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
