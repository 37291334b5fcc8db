"""Folders of catalogue models: in the user's cache, or in an installed package."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from siftune.curate.core.cache_folders import cache_root
from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import hash_file, write_json
from siftune.curate.models.catalog import CatalogModel

__all__ = [
    "RECORD",
    "State",
    "cache_folder",
    "find_cached",
    "find_packaged",
    "is_intact",
    "package_folder",
    "require",
    "state",
    "write_record",
]

State: TypeAlias = Literal["in the cache", "packaged", "absent", "damaged"]

RECORD: Final = ".siftune-model.json"
"""In a model folder of the cache: its origin, and size, time and hash of each file."""

_CONVERTED: Final = ("config.json", "model.safetensors", "tokenizer.json")
_SMALL: Final = 2**23  # bytes; files up to this size are hashed whenever the model is looked up


def cache_folder(model: CatalogModel) -> Path:
    """The folder of ``model`` in the user's cache, existing or not."""
    return cache_root() / "models" / f"{model.name}-{model.key[:12]}"


def package_folder(model: CatalogModel) -> Path | None:
    """Where an installed package would have the model's files; the package is not imported."""
    module, *inner = model.root.split("/")
    spec = importlib.util.find_spec(module)  # finds a top-level package without running it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).joinpath(*inner)


def state(model: CatalogModel) -> State:
    """Whether ``model`` is cached, packaged, absent or damaged."""
    if model.gguf is None and package_folder(model) is not None:
        return "packaged"
    folder = cache_folder(model)
    if not folder.is_dir():
        return "absent"
    return "in the cache" if is_intact(model) else "damaged"


def require(model: CatalogModel) -> Path:
    """The folder of ``model``, its files checked.

    Raises:
        UsageError: the model is absent or damaged; the text names the command that gets it.
    """
    found = find_packaged(model) or find_cached(model)
    if found is None:
        extra = f", or pip install 'siftune[{model.extra}]'" if model.extra else ""
        raise UsageError(
            f"{model.name} is not in the cache: siftune models get {model.name} "
            f"({model.wheel_mb} MB, {model.licence}){extra}"
        )
    return found


def find_packaged(model: CatalogModel) -> Path | None:
    """The model folder inside an installed package, with the hash of every file checked.

    Raises:
        UsageError: a file has another hash.
    """
    folder = package_folder(model) if model.gguf is None else None
    return folder and _checked_package(folder, model.requirement, tuple(model.files.items()))


@lru_cache(maxsize=8)
def _checked_package(folder: Path, requirement: str, files: tuple[tuple[str, str], ...]) -> Path:
    for name, expected in files:
        path = folder / name
        found = hash_file(path) if path.is_file() else "no such file"
        if found != expected:
            raise UsageError(
                f"{path} is not the file that it should be (expected SHA-256 {expected}, found "
                f"{found}): reinstall {requirement}, or name another model"
            )
    return folder


def find_cached(model: CatalogModel) -> Path | None:
    """The model folder in the user's cache; None if there is none.

    Raises:
        UsageError: a file changed since.
    """
    folder = cache_folder(model)
    if not folder.is_dir():
        return None
    changed = _first_change(model, thorough=False)
    if changed is not None:
        raise UsageError(
            f"{folder / changed} changed since it was written: siftune models get {model.name} "
            "writes it again"
        )
    return folder


def is_intact(model: CatalogModel, *, thorough: bool = False) -> bool:
    """Whether the model's folder in the cache is whole; ``thorough`` hashes every file."""
    return _first_change(model, thorough=thorough) is None


def _first_change(model: CatalogModel, *, thorough: bool) -> str | None:
    """A file that is missing or differs from the record; the record itself if it is unusable.

    Large files are compared by size and time: they are hashed only where those differ, such as
    after a copy.
    """
    folder = cache_folder(model)
    try:
        files: Mapping[str, Any] = orjson.loads((folder / RECORD).read_bytes())["files"]
        if not set(_CONVERTED if model.gguf else model.files) <= files.keys():
            return RECORD
        return next((n for n, f in files.items() if not _same(folder / n, f, thorough)), None)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return RECORD


def _same(path: Path, noted: Mapping[str, Any], thorough: bool) -> bool:
    if not path.is_file() or path.stat().st_size != noted["size"]:
        return False
    unchanged = path.stat().st_mtime_ns == noted["mtime_ns"] and noted["size"] > _SMALL
    return (unchanged and not thorough) or hash_file(path) == noted["sha256"]


def write_record(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Write the origin of ``folder`` and a record of its files to it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "sha256": hash_file(path),
        }
        for path in paths
    }
    write_json(folder / RECORD, {**made_from, "files": files})
