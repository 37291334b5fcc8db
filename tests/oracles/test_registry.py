"""Every objective of the registry has an oracle; a new file without one fails here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from siftune.curate.core import registry
from siftune.finetune.losses.types import PairLogps, needs_of
from tests.oracles import claims
from tests.oracles.claims import GROUPS, HELD, NAMES
from tests.oracles.mutations import MUTATIONS, known
from tests.own_tests import files_of

ORACLES = (  # where objectives are trained to the end, or held by identities
    "tests.oracles.test_optima",
    "tests.oracles.test_optima_lists",
    "tests.oracles.test_optima_unpaired",
    "tests.oracles.test_games",
    "tests.finetune.test_pair_losses",
)
for module in ORACLES:
    importlib.import_module(module)  # which fills `HELD`
for path in (path for name in NAMES for path in files_of(name)):
    importlib.import_module(f"tests.{path.parent.name}.{path.stem}")


@pytest.mark.parametrize("name", NAMES)
def test_a_test_calls_each_objective_and_is_said_to_hold_it(name):
    assert HELD.get(name), f"{name}: put @holds({name!r}) on a test of tests/oracles"


@pytest.mark.parametrize("name", NAMES)
def test_a_bug_in_each_objective_is_caught(name):
    own = f"{NAMES[name].replace('.', '/')}/{name}.py"
    bugs = [one.bug for one in MUTATIONS if one.file == own]
    assert bugs, f"{own}: put a bug of it, as BUGS, into a test file of its own"
    assert all(".py::test_" in known()[bug] for bug in bugs if bug in known())


@pytest.mark.parametrize("name", NAMES)
def test_each_objective_says_where_it_is_from_and_where_it_goes(name):
    loss = registry.find(NAMES[name], name)
    doc = loss.__doc__ or ""
    assert ">>>" in doc, "a worked value"
    assert hasattr(loss, "needs_reference")
    assert needs_of(loss).columns == tuple(getattr(loss, "needs_columns", ()))
    assert loss.__module__.endswith(f".{name}")


def test_a_claim_that_is_not_made_good_fails(monkeypatch):
    monkeypatch.setattr(claims, "HELD", {})

    @claims.holds("dpo", "ipo")
    def test_of_one(name):
        registry.build(NAMES[name], name, {})(PairLogps.of((-6, -9), (-5, -7)))

    with pytest.raises(AssertionError, match=r"oracle of \['ipo'\], which it does not call"):
        test_of_one("dpo")
    assert {"dpo": {"test_of_one"}, "ipo": {"test_of_one"}} == claims.HELD
    with pytest.raises(KeyError, match="dpoo"):
        claims.holds("dpoo")


def test_there_are_as_many_as_the_literature_names():
    assert len(NAMES) >= 50
    assert len(NAMES) == sum(len(registry.names(group)) for group in GROUPS)


def test_no_family_is_forgotten():
    package = Path(importlib.import_module("siftune.finetune.losses").__path__[0])
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {f"finetune.losses.{name}" for name in folders - {"reward"}} == set(GROUPS)
