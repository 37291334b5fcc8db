"""Riddles are read."""

from siftune.curate.io.detect import detect


def test_a_riddle_is_told_by_its_keys():
    assert detect("riddles", [{"riddle": "What?", "solved_by": "That."}])[0] == "riddle"
