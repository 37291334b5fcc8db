"""Tensors of model folders, read one by one from their safetensors files and written in shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import write_json
from siftune.curate.models.model_files import check_files, loading, read_object

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SHARD", "TensorFiles", "write_tensors"]

_INDEX: Final = "model.safetensors.index.json"
SHARD: Final = 5_000_000_000
"""Bytes of a weight file above which another one is begun, as transformers has it."""


@dataclass
class TensorFiles(Mapping[str, "Tensor"]):
    """The tensors in the safetensors files of a folder by name, each read when it is asked for."""

    folder: Path
    places: dict[str, Any] = field(default_factory=dict)  # of each name the file, open

    def __post_init__(self) -> None:
        """Open the files.

        Raises:
            UsageError: one is missing or damaged, or a tensor is in two.
        """
        from safetensors import safe_open

        check_files(self.folder)
        for path in _files(self.folder):
            with loading(path):
                file: Any = safe_open(path, "pt")  # closed with its last reference
            for name in file.keys():  # noqa: SIM118
                if name in self.places:
                    raise UsageError(f"{self.folder}: the tensor {name} is in two weight files")
                self.places[name] = file

    def __getitem__(self, name: str) -> Tensor:
        found: Tensor = self.places[name].get_tensor(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        return tuple(self.places[name].get_slice(name).get_shape())


def _files(folder: Path) -> list[Path]:
    """The weight files of a folder, without others beside them, such as a value head."""
    whole, index = folder / "model.safetensors", folder / _INDEX
    if whole.is_file():
        return [whole]
    if index.is_file():
        return [folder / name for name in sorted({*read_object(index)["weight_map"].values()})]
    return sorted(folder.glob("*.safetensors"))


def write_tensors(tensors: Iterable[tuple[str, Tensor]], out: Path, shard: int = SHARD) -> None:
    """Write ``model.safetensors``, or files of ``shard`` bytes and their index, to a folder.

    One file's tensors are in memory at a time.
    """
    from safetensors.torch import save_file

    held: dict[str, Tensor] = {}
    parts: list[list[str]] = []
    total = size = 0

    def write() -> None:
        save_file(held, out / f"part-{len(parts)}", metadata={"format": "pt"})
        parts.append(list(held))
        held.clear()

    for name, tensor in tensors:
        if held and size + tensor.nbytes > shard:
            write()
            size = 0
        held[name] = tensor.contiguous()
        size, total = size + tensor.nbytes, total + tensor.nbytes
    write()
    if len(parts) == 1:
        (out / "part-0").rename(out / "model.safetensors")
        return
    places: dict[str, str] = {}
    for number, names in enumerate(parts):
        file = f"model-{number + 1:05d}-of-{len(parts):05d}.safetensors"
        (out / f"part-{number}").rename(out / file)
        places |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(out / _INDEX, index)
