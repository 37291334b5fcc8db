"""Scorers that train a model or need its gradients; found with those of `curate.scorers`."""

from siftune.curate.core.component_calls import adapt_calls

adapt_calls(__name__, "siftune.curate.io.plain_frames:score_frame")
