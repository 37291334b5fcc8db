"""The cache folder of a project, ``.siftune_cache``: finished stages, and answers of judges."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from siftune.curate.files.atomic import kind_of_entry, write_text

__all__ = ["TAG", "is_private", "make_project_folder", "project_folder"]

TAG: Final = "Signature: 8a477f597d28d172789f06886806bc55\n# Finished stages of siftune runs.\n"
"""Content of CACHEDIR.TAG, by which a folder is known as ours."""

_USUAL: Final = ".siftune_cache"


def project_folder() -> Path:
    """The cache folder of the project in the current folder.

    It is the one that SIFTUNE_STAGE_CACHE names, else ``.siftune_cache``.
    """
    return Path(os.environ.get("SIFTUNE_STAGE_CACHE") or _USUAL)


def make_project_folder(folder: Path) -> None:
    """Make the folder, which backups and git leave out; an empty one of this user is taken."""
    if kind_of_entry(folder) is None:
        folder.mkdir(mode=0o700, parents=True)
    if is_private(folder) and not any(folder.iterdir()):
        write_text(folder / ".gitignore", "*\n")
        write_text(folder / "CACHEDIR.TAG", TAG)


def is_private(folder: Path) -> bool:
    """Whether it is a folder of this user, no link, and not writable for everybody."""
    if kind_of_entry(folder) != "a folder":
        return False
    if not hasattr(os, "geteuid"):  # Windows: who may write is not in its modes
        return True
    known = folder.lstat()
    return known.st_uid == os.geteuid() and not known.st_mode & stat.S_IWOTH
