"""Progress bars and notes of libraries kept off the user's screen."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

__all__ = ["no_dataset_bars", "no_kernel_note", "quiet_transformers"]


def no_kernel_note() -> None:
    """No note on a CPU kernel for 4-bit weights, which no command of ours uses, from now on.

    bitsandbytes writes it when it is imported, as peft and transformers do wherever it is there.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_no_kernel_note)


def _is_no_kernel_note(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in str(record.msg)


@contextmanager
def no_dataset_bars() -> Iterator[None]:
    """No progress bars of datasets meanwhile."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and notes of transformers meanwhile; errors still speak."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    if level != ERROR:  # to set a level goes through every logger that there is
        logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if logging.get_verbosity() != level:
            logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
