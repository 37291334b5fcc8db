"""Every objective of the registry has an oracle; a new file without one fails here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from curate.core import registry
from finetune.losses.types import needs_of

HERE = Path(__file__).parent
FAMILIES = {
    # the group of a family: where its objectives are trained to the end, or held by identities
    "finetune.losses.pair": ("test_optima.py", "../finetune/test_pair_losses.py"),
    "finetune.losses.unpaired": ("test_optima_unpaired.py", "test_games.py"),
    "finetune.losses.token": ("test_optima_unpaired.py",),
    "finetune.losses.listwise": ("test_optima_lists.py", "test_games.py"),
}
NAMES = [(group, name) for group in FAMILIES for name in registry.names(group)]


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_each_objective_has_an_oracle_that_builds_it(group, name):
    text = "".join((HERE / file).read_text(encoding="utf-8") for file in FAMILIES[group])
    assert f'build("{name}"' in text or f'("{name}", ' in text or f'"{name}", {{' in text


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_each_objective_says_where_it_is_from_and_where_it_goes(group, name):
    loss = registry.find(group, name)
    doc = loss.__doc__ or ""
    assert ">>>" in doc, "a worked value"
    assert hasattr(loss, "needs_reference")
    assert needs_of(loss).columns == tuple(getattr(loss, "needs_columns", ()))
    assert loss.__module__.endswith(f".{name}")


def test_there_are_as_many_as_the_literature_names():
    assert len(NAMES) >= 50
    assert len({name for _, name in NAMES}) == len(NAMES)


def test_no_family_is_forgotten():
    package = Path(importlib.import_module("finetune.losses").__path__[0])
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {f"finetune.losses.{name}" for name in folders} == set(FAMILIES)
