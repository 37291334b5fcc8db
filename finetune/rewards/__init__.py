"""Rewards of completions, one a file: text in, a number or null out."""

from siftune.curate.core.component_calls import adapt_calls

adapt_calls(__name__, "siftune.finetune.rewards.types:of_texts")
