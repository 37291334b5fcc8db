"""Resolve a model's name: a local folder, the catalogue, then the hub."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest
from siftune.curate.files.atomic import digest_of, hash_file
from siftune.curate.models.cache import require
from siftune.curate.models.catalog import CATALOG
from siftune.curate.models.model_files import read_object

__all__ = [
    "adapter_base",
    "catalog_folder",
    "catalog_key",
    "folder_hash",
    "hub_out_of_reach",
    "is_hub_name",
    "model_folder",
]

_ADAPTER: Final = "adapter_config.json"
_READ: Final = ("*.json", "*.jinja", "*.txt", "*.safetensors", "*.model")  # no code, no pickles
_IDENTITY: Final = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def model_folder(model: str | Path) -> Path:
    """The folder of ``model``: a local one, else one of the catalogue, else the hub's download.

    A name of the catalogue is never downloaded here: `siftune models get` does that.

    Raises:
        UsageError: there is none; the text names the command that gets it, or the closest name.
    """
    folder, name = Path(model), str(model)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UsageError(f"{model} is a file: expected a model folder, with config.json")
    return catalog_folder(name) or _from_hub(name)


def catalog_folder(name: str) -> Path | None:
    """The folder of a model of the catalogue; None for another name, or a local folder's.

    Raises:
        UsageError: it is one of the catalogue, and absent or damaged.
    """
    known = name in CATALOG and not Path(name).is_dir()
    return require(CATALOG[name]) if known else None


def catalog_key(name: str) -> str | None:
    """Digest of a model of the catalogue, downloaded or not; None as above."""
    known = name in CATALOG and not Path(name).is_dir()
    return CATALOG[name].key if known else None


def folder_hash(folder: Path) -> str:
    """128-bit digest of what makes a model: weights, configuration, tokenizer and template.

    Of an adapter, its base too.
    """
    files = [*sorted(folder.glob("*.safetensors")), *(folder / name for name in _IDENTITY)]
    found = {path.name: hash_file(path) for path in files if path.is_file()}
    base = adapter_base(folder)
    return digest_of(found if base is None else {**found, _ADAPTER: folder_hash(base)})


def adapter_base(folder: Path) -> Path | None:
    """The folder of the model that an adapter of PEFT was trained on; None for a whole model.

    Raises:
        UsageError: the base is not there, or the adapter names none.
    """
    if (folder / "config.json").is_file() or not (folder / _ADAPTER).is_file():
        return None
    base = read_object(folder / _ADAPTER).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UsageError(f"{folder / _ADAPTER} names no base model: base_model_name_or_path")
    return model_folder(base)


def is_hub_name(name: str) -> bool:
    """Whether a name may be one on the hub (``NAME``, ``OWNER/NAME``), by its form.

    >>> [name for name in ("gpt2", "org/model", "./gpt2", "/models/a", "~/a") if is_hub_name(name)]
    ['gpt2', 'org/model']
    """
    return not name.startswith((".", "/", "~")) and not name.endswith("/") and name.count("/") <= 1


def hub_out_of_reach() -> str | None:
    """Why the hub cannot be reached, found within seconds; None where it can, or may.

    The hub's own client tries for half a minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies():
        return None
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((str(address.hostname), port), timeout=5).close()
    except OSError as error:
        return f"{address.hostname} cannot be reached ({error})"
    return None


def _from_hub(name: str) -> Path:
    if not is_hub_name(name):
        raise UsageError(f"no model folder {name}: expected one with config.json")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    away = hub_out_of_reach()
    try:
        found = snapshot_download(name, allow_patterns=list(_READ), local_files_only=bool(away))
        return Path(found)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = away or str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{name} is no model folder here, no name of `siftune models list`{_hint(name)}, and "
            f"the hub does not give it ({reason})"
        ) from None


def _hint(name: str) -> str:
    near = closest(name.lower(), tuple(CATALOG))
    return f" ({near})" if near.startswith("did you") else ""
