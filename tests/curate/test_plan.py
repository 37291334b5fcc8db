"""What a dry run refuses before anything runs: columns and references that a stage cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.runners.plan import plan
from siftune.curate.runs.recipe import parse
from tests.fuzz.commands import called

PII = {"score": "pii"}


def planned(tmp_path: Path, *stages: dict[str, object], pairs: bool = False):
    answers = {"chosen": "a", "rejected": "b"} if pairs else {"completion": "a"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "q", **answers}) + "\n")
    recipe = {"name": "t", "source": str(rows), "stages": list(stages)}
    return plan(parse(recipe), tmp_path / "out")


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        (
            [PII, {"select": "quota", "group_by": "pii_kinds", "rows": 1}],
            "2:quota: 'pii_kinds' is List",
        ),
        ([{"select": "quota", "group_by": "source", "rows": 1, "by": "id"}], "expected one number"),
        ([{"select": "threshold", "by": "messages", "min": 1}], "1:threshold: 'messages': expect"),
        ([{"select": "threshold", "by": "messages.mode", "min": 1}], "one of mean, min"),
        ([{"select": "flags", "column": "digest"}], "expected a list of flags"),
        ([{"select": "k_center", "rows": 1, "embedding": "digest"}], "expected a vector a row"),
        ([{"select": "exact_dedup", "by": "messages"}], "expected one value a row to rank by"),
        ([{"select": "random", "tokens": 9, "tokens_by": "digest"}], "expected one number a row"),
        ([{"select": "semantic_dedup", "embedding": "source"}], "expected a vector a row"),
        ([{"select": "balanced", "first": "source", "second": "row"}], "expected one number a row"),
    ],
)
def test_a_column_of_a_type_that_a_stage_cannot_read_is_refused(tmp_path, stages, problem) -> None:
    with pytest.raises(UsageError, match=problem):
        planned(tmp_path, *stages)


def test_a_score_at_every_turn_is_a_list_and_its_mean_a_number(tmp_path) -> None:
    every = {"score": "length", "turns": "every"}
    planned(tmp_path, every, {"select": "top_k", "by": "length_words.mean", "rows": 1})
    with pytest.raises(UsageError, match=r"use length_words\.mean"):
        planned(tmp_path, every, {"select": "top_k", "by": "length_words", "rows": 1})


def test_a_scorer_that_would_replace_the_column_of_another_is_refused(tmp_path) -> None:
    (tmp_path / "own.py").write_text("def pii_count(response): return 1\n")
    length, own = {"score": "length"}, {"score": f"{tmp_path}/own.py:pii_count"}
    planned(tmp_path, length, PII, length)  # a cell that is run again
    told = r"stage 3:pii_count: it adds pii_count, which stage 2:pii adds too, and would replace it"
    with pytest.raises(UsageError, match=told):
        planned(tmp_path, length, PII, own)
    with pytest.raises(UsageError, match="stage 2:length: it adds length_chars, length_words"):
        planned(tmp_path, length, length | {"turns": "every"})
    planned(tmp_path, length | {"sides": "chosen"}, length | {"sides": "rejected"}, pairs=True)


def test_quotas_by_prompt_or_by_the_turns_of_a_side_are_planned(tmp_path) -> None:
    for by, pairs in (("prompt", False), ("prompt", True), ("chosen", True)):
        stage = {"select": "quota", "group_by": by, "rows": 1}
        assert planned(tmp_path, stage, pairs=pairs).steps[0].label == "1:quota"


def test_a_reference_that_is_missing_or_no_data_is_refused_before_the_run(tmp_path) -> None:
    (tmp_path / "page.html").write_text("<html><body>not rows</body></html>")
    for name, problem in (("gone.jsonl", "gone.jsonl"), ("page.html", "page.html")):
        stage = {"select": "minhash_dedup", "against": str(tmp_path / name)}
        with pytest.raises(DataError, match=f"stage 1:minhash_dedup: against: .*{problem}"):
            planned(tmp_path, stage)


def test_a_reference_without_embeddings_is_refused_for_semantic_deduplication(tmp_path) -> None:
    (tmp_path / "held.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    stage = {"select": "semantic_dedup", "against": str(tmp_path / "held.jsonl")}
    with pytest.raises(UsageError) as error:
        planned(tmp_path, {"score": "embedding"}, stage)
    assert str(error.value).startswith("stage 2:semantic_dedup: against: no column 'embedding'")


def test_benchmark_files_of_any_layout_are_planned_for_contamination(tmp_path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text('{"question": "Which river is longer?", "choices": ["a", "b"], "answer": 0}\n')
    stage = {"score": "contamination", "against": str(path)}
    assert planned(tmp_path, stage).steps[0].label == "1:contamination"
    for problem in ("gone.jsonl", "page.html"):
        (tmp_path / "page.html").write_text("<html><body>not rows</body></html>")
        with pytest.raises(DataError, match=f"stage 1:contamination: against: .*{problem}"):
            planned(tmp_path, stage | {"against": str(tmp_path / problem)})


def test_all_that_is_wrong_is_told_at_once(tmp_path) -> None:
    with pytest.raises(UsageError) as error:
        planned(
            tmp_path,
            {"select": "quota", "group_by": "messages", "rows": 1},
            {"select": "flags", "column": "digest"},
            {"select": "exact_dedup", "against": str(tmp_path / "gone.jsonl")},
            {"select": "top_k", "by": "nothing", "rows": 1},
        )
    lines = str(error.value).splitlines()
    assert lines[0] == "3 problems:"
    assert [line.split()[1] for line in lines[1:]] == ["2:flags:", "3:exact_dedup:", "4:top_k:"]
    with pytest.raises(UsageError) as error:
        planned(tmp_path, {"score": "lenght"}, {"select": "top_k", "by": "x"})
    assert [line.split()[1] for line in str(error.value).splitlines()[1:]] == ["1:", "2:"]


def test_a_wrong_option_hides_no_wrong_column_of_other_stages(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    stages = [
        {"select": "threshold", "by": "none", "min": 1},
        {"select": "flags", "any_of": ["none"]},
        {"select": "exact_dedup", "against": "gone.jsonl"},
        {"select": "top_k", "by": "other", "rows": 1},
        {"score": "lenght"},
        {"select": "top_k", "by": "length_chars", "rows": 1},  # which that one would add
        {"select": "top_k"},
    ]
    facts = {"source": "rows.jsonl", "limit": 0, "stages": stages, "sead": 1}
    Path("r.yaml").write_text(json.dumps(facts))
    for flags in (("--dry-run",), ()):
        done = called("curate", "run", "r.yaml", "--out", "out", *flags)
        assert done.code == 2
        first, *lines = done.message.splitlines()
        assert first == "siftune: r.yaml: 8 problems:"
        wrong = ("unknown key 'sead'", "limit: expected", "stage 2: flags: any_of", "stage 5: no")
        wrong += ("stage 7: top_k needs", "stage 1:threshold: no column 'none'")
        wrong += ("stage 3:exact_dedup: against", "stage 4:top_k: no column 'other'")
        assert [line[2 : 2 + len(start)] for line, start in zip(lines, wrong, strict=True)] == [
            *wrong
        ]
    assert not Path("out").exists()


def test_a_preferred_source_that_is_none_is_refused_with_those_there_are(tmp_path) -> None:
    for prefer in (["rows"], ["rows", "web"]):
        stage = {"select": "exact_dedup", "prefer_source": prefer}
        if prefer == ["rows"]:
            planned(tmp_path, stage)
            continue
        with pytest.raises(UsageError, match=r"no source is called 'web'; .*\(sources: rows\)"):
            planned(tmp_path, stage)


@pytest.mark.parametrize(
    ("select", "advice"),
    [
        # a number is wanted: the text contamination_item is not advised
        ({"select": "threshold", "by": "contamination", "max": 1}, "mean contamination_overlap?"),
        (
            {"select": "quota", "group_by": "contamination", "rows": 1},
            "contamination_overlap or contam",
        ),
        ({"select": "top_k", "by": "heuristic_urls", "rows": 1}, "did you mean heuristics_urls?"),
        ({"select": "top_k", "by": "lenght_words", "rows": 1}, "scorer length adds such columns"),
        ({"select": "longest", "by": "chosen_lenght.mean", "rows": 1}, "scorer length adds such"),
        (
            {"select": "top_k", "by": "quality", "rows": 1},
            "heuristics_urls and 14 more; a field 'quality' of the raw rows is extra.quality",
        ),
        ({"select": "top_k", "by": "nope", "rows": 1}, "heuristics_urls and 14 more"),
    ],
)
def test_a_column_that_is_not_there_gets_advice_that_the_stage_can_use(
    select: dict[str, object], advice: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b", "quality": 1}\n')
    against = {"score": "contamination", "against": str(rows)}
    raw = {"source": str(rows), "stages": [against, {"score": "heuristics"}, select]}
    with pytest.raises(UsageError) as raised:
        plan(parse(raw), tmp_path / "out")
    assert advice in str(raised.value)
    assert ("extra." in str(raised.value)) == (
        select["by" if "by" in select else "group_by"] == "quality"
    )
    assert len(str(raised.value)) < 400


def test_of_a_pair_the_columns_of_both_sides_are_advised(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    stages = [{"score": "length"}, {"select": "top_k", "by": "length_words", "rows": 1}]
    with pytest.raises(UsageError, match=r"chosen_length_words or rejected_length_words\?$"):
        plan(parse({"source": str(rows), "stages": stages}), tmp_path / "out")


@pytest.mark.parametrize("source", ["gone.jsonl", "empty.jsonl"])
def test_a_source_that_cannot_be_read_hides_no_problem_of_a_stage(
    source: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    stages = [
        {"score": "length"},
        {"select": "exact_dedup", "against": str(tmp_path / "none.jsonl")},
        {"select": "threshold", "by": "chosen_length_words", "min": 1},  # which pairs would have
        {"select": "threshold", "by": "margin", "min": 1},  # and this
        {"select": "top_k", "by": "lenth_words", "rows": 1},
    ]
    raw = {"source": str(tmp_path / source), "stages": stages}
    with pytest.raises(UsageError) as error:
        plan(parse(raw), tmp_path / "out")
    first, *lines = str(error.value).splitlines()
    assert first == "3 problems:"
    assert source in lines[0]
    assert "stage 2:exact_dedup: against: " in lines[1]
    assert "stage 5:top_k: no column 'lenth_words' in any rows; did you mean length_w" in lines[2]
    raw |= {"source": str(tmp_path / "runs/scored")}  # which may have any column
    with pytest.raises(DataError, match="2 problems"):
        plan(parse(raw), tmp_path / "out")
