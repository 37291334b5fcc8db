"""Losses on single completions that carry a label, a reward or a win probability."""

from siftune.curate.core.component_calls import adapt_calls

adapt_calls(__name__, "siftune.finetune.losses.plain_calls:call_answers")
