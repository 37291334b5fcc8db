"""Notes of libraries are kept off the screen, and no longer than they should be."""

import pytest
from transformers.utils import logging

from siftune.curate.core.progress import quiet_transformers


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_transformers_is_quiet_meanwhile_and_as_before_afterwards(level):
    before = logging.get_verbosity()
    try:
        logging.set_verbosity(level)
        with quiet_transformers():
            assert logging.get_verbosity() == logging.ERROR
            logging.set_verbosity(logging.INFO)  # as a trainer does
        assert logging.get_verbosity() == level
    finally:
        logging.set_verbosity(before)


def test_what_is_quiet_already_is_not_set_again(monkeypatch):
    with quiet_transformers():
        monkeypatch.setattr(logging, "set_verbosity", None)  # goes through every logger that is
        monkeypatch.setattr(logging, "set_verbosity_error", None)
        with quiet_transformers():
            assert logging.get_verbosity() == logging.ERROR
        monkeypatch.undo()
