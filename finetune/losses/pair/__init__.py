"""Losses on pairs of completions."""

from siftune.curate.core.component_calls import adapt_calls

adapt_calls(__name__, "siftune.finetune.losses.plain_calls:call_pairs")
