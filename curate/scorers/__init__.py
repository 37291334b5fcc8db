"""Scorers, one a file: the file name is the name in recipes and on the command line."""

from siftune.curate.core.component_calls import adapt_calls

adapt_calls(__name__, "siftune.curate.io.plain_frames:score_frame")
