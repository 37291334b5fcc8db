"""The table of judges' agreement: which pairs are read, in which order, and what is counted."""

import json
from pathlib import Path

from benchmarks.judge_agreement import agreement, longer_wins, mixed, pairs_in, table


def ranked(folder: Path, name: str, lists: int) -> str:
    """Lists of three answers, the longest of which is the best one; every second is a follow-up."""
    path = folder / f"{name}.jsonl"
    rows = (
        {
            "prompt": f"Question {at // 2}?" + "\n\nAnd why?" * (at % 2),
            "completions": ["sun " * 30, "sun " * 10, "sun " * 5],
            "scores": [3, 2, 2],
        }
        for at in range(lists)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{path}:ranked"


def test_pairs_of_equal_rank_are_no_pairs_and_follow_ups_stay_together(tmp_path: Path) -> None:
    pairs = pairs_in(ranked(tmp_path, "one", 20), 100)
    assert len(pairs) == 40
    assert {pair.prompt for pair in pairs} > {pair.root for pair in pairs}
    assert len({pair.root for pair in pairs}) == 10
    assert pairs == pairs_in(ranked(tmp_path, "one", 20), 100)


def test_models_judge_pairs_of_each_file_in_turn(tmp_path: Path) -> None:
    files = [ranked(tmp_path, "one", 20), ranked(tmp_path, "two", 8)]
    pairs = [pair for given in files for pair in pairs_in(given, 30)]
    some = mixed(pairs, 4)
    assert [pair.data for pair in some] == ["one", "two"] * 4
    assert some[::2] == pairs[:4]


def test_what_was_not_judged_is_not_counted(tmp_path: Path) -> None:
    pairs = pairs_in(ranked(tmp_path, "one", 20), 100)
    assert agreement(pairs, longer_wins(pairs)).startswith("1.000 (")
    ties = dict.fromkeys((pair.draw for pair in pairs[:30]), 0.5)
    assert agreement(pairs, ties).startswith("none of 30 (")
    assert agreement(pairs, {}) == "–"
    lines = list(table(pairs, {"longer wins": longer_wins(pairs)}))
    assert lines[0] == "| judge | one | one, near |"
    assert lines[2].endswith(" of 40 | – |")
