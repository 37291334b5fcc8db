"""Small models that more than one test package needs."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny_models import embedder, language_model, reward_model

collect_ignore = ["added"]  # files that `test_added` puts into a copy

gc.disable()  # what collecting imports stays; to look through it takes a third of the time
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.root.addHandler(logging.NullHandler())  # what libraries log is no output of a test
os.environ["SIFTUNE_STAGE_CACHE"] = ""  # a test finds no stages of another one

# A change is judged by the same examples; a busy machine is no fault, pytest's timeout is enough.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))  # `default` looks further


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """The second worker imports the tests from the last one on; the first collects in order.

    In a fresh checkout each of two workers would compile every file, which takes it ten seconds.
    So each compiles about half of them, and loads what the other has compiled.
    """
    whole = session.config.args == session.config.getini("testpaths")
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" and whole:
        root = Path(__file__).parents[1]
        for file in sorted(root.glob("tests/*/test_*.py"), reverse=True):
            with suppress(Exception, pytest.skip.Exception):  # said when it is collected
                importlib.import_module(".".join(file.relative_to(root).with_suffix("").parts))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish() -> None:
    """Search for garbage again from here on, but not in what collecting made, and more rarely.

    At Python's own threshold of 700 new objects a tenth of the time of a small test is spent on it.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def what_stays_is_not_searched_for_garbage() -> None:
    """Leave the imported modules and collected tests out of `gc.collect`.

    A trainer of transformers collects at its end, and would go through the millions of objects
    that torch and pytest hold for as long as the process lives: a second each time.
    """
    _set_aside()


def pytest_runtest_teardown() -> None:
    """The same for what a test was the first to import."""
    if len(sys.modules) > _seen[0] + 200:
        _set_aside()


_seen = [0]  # how many modules there were when what stays was last set aside


def _set_aside() -> None:
    gc.collect()
    gc.freeze()
    _seen[0] = len(sys.modules)


@pytest.fixture(autouse=True, scope="session")
def fp32_unless_asked() -> Iterator[None]:
    """``precision: auto`` is fp32 in tests, on a processor that multiplies bf16 too.

    Of the session, since fixtures of a module train before those of a function are made.
    """
    with pytest.MonkeyPatch.context() as own:  # a test may undo the patches of its `monkeypatch`
        own.setattr("siftune.curate.models.precision.multiplies_bf16", lambda device: False)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_watched_prompts_unless_asked() -> Iterator[None]:
    """The watch asks no prompts in tests of other things: what it takes adds up over trainings."""
    with pytest.MonkeyPatch.context() as own:
        own.setattr("siftune.finetune.watch.prompts._MOST", 0)
        yield


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: `tests.tiny_models.embedder`."""
    return embedder(tmp_path_factory.mktemp("models") / "tiny-embedder")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model folder: `tests.tiny_models.language_model`."""
    return language_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_reward_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved reward model with the tiny model's tokenizer and trunk, and a random head."""
    return reward_model(tiny_model_dir, tmp_path_factory.mktemp("models") / "tiny-reward")
