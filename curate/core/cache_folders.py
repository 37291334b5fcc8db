"""The user's cache folder, and where what is made of a package's code is kept."""

from __future__ import annotations

import os
from pathlib import Path

from siftune.curate.core.errors import UsageError

__all__ = ["cache_root", "code_caches"]


def cache_root() -> Path:
    """``SIFTUNE_CACHE``, else ``siftune`` in ``XDG_CACHE_HOME``, else in ``~/.cache``.

    Raises:
        UsageError: there is no home folder.
    """
    own, shared = os.environ.get("SIFTUNE_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).absolute()
    try:
        base = Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise UsageError("there is no home folder for a cache: set SIFTUNE_CACHE") from None
    return base / "siftune"


def code_caches(package: Path) -> list[Path]:
    """Folders for what is made of the code of ``package``; the first that can be written is used.

    They are its ``__pycache__``, so that each checkout has its own, then one in the user's cache;
    the other way round for an installed package (its ``.dist-info`` lies beside it): pip leaves
    files behind that it did not install, and with them a folder that hides another install.
    """
    beside = package / "__pycache__"
    try:
        users = cache_root() / "code"
    except UsageError:
        return [beside]
    installed = any(package.parent.glob(f"{package.name}-*.dist-info"))
    return [users, beside] if installed else [beside, users]
