"""Selectors, one a file: each row gets a decision (keep or drop) and a reason."""

from siftune.curate.core.component_calls import adapt_calls

adapt_calls(__name__, "siftune.curate.io.plain_frames:decide_on")
