"""Silence progress bars and log notes of transformers, datasets and bitsandbytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

__all__ = ["no_dataset_bars", "no_kernel_note", "quiet_transformers"]


def no_kernel_note() -> None:
    """Filter out bitsandbytes' note on a CPU kernel for 4-bit weights, from now on.

    bitsandbytes logs it at import, which peft and transformers do wherever it is installed.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_no_kernel_note)


def _is_no_kernel_note(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in str(record.msg)


@contextmanager
def no_dataset_bars() -> Iterator[None]:
    """No progress bars of datasets in the block."""
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
    """No progress bars and notes of transformers in the block; errors are logged."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    if level != ERROR:  # setting a level visits every logger
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
