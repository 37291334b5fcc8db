"""`siftune curate profile`: figures of a made-up set by hand, nothing private, nothing silent."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import siftune
from siftune.curate.cli import curate
from siftune.curate.core.errors import UsageError
from siftune.curate.profiling import profile as profiling
from siftune.curate.profiling.sampled_looks import _typical
from siftune.curate.profiling.sections import sections_of
from siftune.curate.text import language_id
from siftune.pipelines.reports.report import write_report

SECRET = "AKIAQ3EGZ7LMN5PRT2UV"
MAIL = "zoe.quill@harbourmail.org"
CHATS: list[dict[str, Any]] = [
    {"instruction": "Name three colours of the sky.", "output": "Blue, grey and red at dusk."},
    {"instruction": "Name three colours of the sky.", "output": "Blue, grey and red at dusk."},
    {"instruction": "name three colours of the sky", "output": "Blue, grey, and red at dusk!"},
    {"instruction": "What is 17 + 5?", "output": "17 + 5 is 22."},
    {"instruction": "Who wrote the report?", "output": f"Write to {MAIL}, she wrote the report."},
    {"instruction": "Print the key.", "output": f"The access key is {SECRET}, keep it."},
    {"instruction": "Help me break in.", "output": "I'm sorry, but I can't help with that."},
    {
        "instruction": "Décris la mer en une phrase.",
        "output": "La mer est bleue et toujours calme.",
    },
]


def written(path: Path, rows: list[dict[str, Any]], more: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + more, encoding="utf-8")
    return path


def called(*words: object) -> Result:
    return CliRunner().invoke(curate, ["profile", *map(str, words)])


def facts_of(done: Result) -> dict[str, Any]:
    return dict(json.loads(done.stdout))


def test_every_figure_of_a_small_set_is_the_one_counted_by_hand(tmp_path: Path) -> None:
    rows = [{**one, "topic": "sky" if at < 3 else "other"} for at, one in enumerate(CHATS)]
    bad = '{"instruction": 3}\n{not json\n{also not\n'
    source = written(tmp_path / "rows.jsonl", rows, bad)
    done = called(source, "--clusters", 0, "--json")
    assert done.exit_code == 4, done.output
    facts = facts_of(done)
    assert (facts["kind"], facts["rows"], facts["records"]) == ("conversation", 8, 11)
    assert {one["reason"]: one["records"] for one in facts["quarantined"]}["not_json"] == 2
    assert sum(one["records"] for one in facts["quarantined"]) == 3
    copies = facts["duplicates"]
    assert [copies[name] for name in ("exact", "normalised", "near", "distinct")] == [1, 1, 0, 6]
    assert copies["repeated_prompts"] == 2
    assert [one["rows"] for one in copies["groups"]] == [3]
    (topic,) = [one for one in facts["sources"]["fields"] if one["field"] == "topic"]
    assert topic["values"] == [{"value": "other", "rows": 5}, {"value": "sky", "rows": 3}]
    assert facts["tasks"]["forms"]["question"] == 2
    assert facts["tasks"]["openings"][0] == {"word": "name", "rows": 3}
    assert facts["lengths"]["prompt"]["words"]["max"] == 6
    assert facts["lengths"]["answer"]["words"]["sum"] == 6 * 3 + 4 + 10 + 7 + 8 + 7
    assert facts["personal_data"]["texts"]["row"] == {"pii": 2, "secrets": 1}
    kinds = {(one["scorer"], one["flag"]): one["row"] for one in facts["personal_data"]["kinds"]}
    assert kinds == {("pii", "email"): 1, ("secrets", "aws_access_key"): 1}
    flags = {one["flag"]: one["answer"] for one in facts["flags"]["flags"]}
    assert flags["refusal"] == 1
    assert facts["flags"]["texts"]["heuristics"] == {"answer": 8}
    codes = {one["code"]: one["texts"] for one in facts["languages"]["languages"]}
    assert codes["fr"] == 1
    assert sum(codes.values()) + facts["languages"]["without"] == 8


def test_nothing_private_is_in_the_text_the_json_or_the_page(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    rows = [*CHATS, {"instruction": f"Mail {MAIL} now, with {SECRET}.", "output": "Done."}] * 2
    out = tmp_path / "out"
    source = written(tmp_path / "rows.jsonl", rows)
    parts = "duplicates,personal_data,clusters"
    done = called(source, "--model", tiny_embedder, "--out", out, "--parts", parts)
    assert done.exit_code == 0, done.output
    page, kept = (out / "profile.html").read_text(), (out / "profile.json").read_text()
    for text in (done.output, page, kept):
        assert MAIL not in text
        assert SECRET not in text
        assert "Mail [EMAIL] now" in text
    assert sum(one["rows"] for one in json.loads(kept)["clusters"]["clusters"]) == 18
    report = write_report(out).read_text()
    assert "Topics: clusters of embeddings" in report
    assert SECRET not in report


def test_what_is_not_looked_at_is_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("py3langid"):
            raise ImportError(name)
        return real(name, *rest, **more)

    language_id.langid_model.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    words = ("--parts", "languages,leaks,quality,toxicity,clusters", "--clusters", 0)
    done = called(written(tmp_path / "rows.jsonl", CHATS), *words)
    monkeypatch.undo()
    listed = " ".join(done.output.partition("Not looked at")[2].split())
    assert "pip install 'siftune[langid]'" in listed
    for part in ("leaks: no benchmark", "quality: no head", "toxicity: no classifier"):
        assert part in listed
    assert "clusters: no clusters are wanted" in listed
    assert "personal_data, flags, code: not among the parts that were named" in listed


def test_leaks_are_counted_for_each_benchmark(tmp_path: Path) -> None:
    question = "A farmer has twelve red hens and sells five of them at the market, how many stay?"
    held_out = written(tmp_path / "test.jsonl", [{"prompt": question, "completion": "7"}])
    other = written(tmp_path / "other.jsonl", [{"prompt": "Quite another one.", "completion": "1"}])
    rows = [*CHATS, {"instruction": f"Solve this. {question}", "output": "Seven hens stay."}]
    source = written(tmp_path / "rows.jsonl", rows)
    words = (source, "--against", held_out, "--against", other, "--parts", "leaks", "--json")
    leaks = facts_of(called(*words))["leaks"]
    assert [(one["items"], one["items_found"], one["rows"]) for one in leaks] == [
        (1, 1, 1),
        (1, 0, 0),
    ]
    assert leaks[0]["examples"][0]["id"] == "rows:9"
    assert leaks[0]["examples"][0]["item"] == "test:1"


def test_a_folder_of_several_kinds_has_figures_of_each_and_names_empty_files(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    written(data / "chats.jsonl", CHATS)
    written(data / "pairs.jsonl", [{"prompt": "Which?", "chosen": "One.", "rejected": "Two."}] * 3)
    written(data / "nothing.jsonl", [])
    done = called(data, "--parts", "lengths", "--out", tmp_path / "out")
    assert done.exit_code == 4, done.output
    facts = json.loads((tmp_path / "out" / "profile.json").read_text())
    kinds = [(one["kind"], one["rows"], one["data"]) for one in facts["kinds"]]
    assert kinds == [
        ("conversation", 8, [str(data / "chats.jsonl")]),
        ("preference", 3, [str(data / "pairs.jsonl")]),
    ]
    assert (facts["rows"], facts["empty_files"]) == (11, [str(data / "nothing.jsonl")])
    for text in ("8 conversation rows", "3 preference rows", "0 bytes, left out"):
        assert text in done.output
        assert text in (tmp_path / "out" / "profile.html").read_text()
    assert "3 preference rows" in write_report(tmp_path / "out").read_text()


def test_a_benchmark_that_cannot_be_read_is_listed_and_the_others_are_looked_for(
    tmp_path: Path,
) -> None:
    good = written(tmp_path / "good.jsonl", [{"question": CHATS[0]["instruction"]}])
    page = tmp_path / "bench.jsonl"
    page.write_text("<!doctype html>")
    source = written(tmp_path / "rows.jsonl", CHATS)
    facts = facts_of(
        called(source, "--against", page, "--against", good, "--parts", "leaks", "--json")
    )
    assert [one["rows"] for one in facts["leaks"]] == [3]
    (why,) = [one["why"] for one in facts["not_looked_at"] if one["part"] == "leaks"]
    assert "is a web page" in why
    missing = called(source, "--against", tmp_path / "gone.jsonl", "--parts", "leaks")
    assert missing.exit_code != 0


def test_pairs_have_their_length_bias_and_contradictions(tmp_path: Path) -> None:
    long, short = "A long and winding answer in nine words, here.", "Short one."
    pairs = [
        {"prompt": f"Question {at}?", "chosen": a, "rejected": b}
        for at, (a, b) in enumerate([(long, short)] * 3 + [(short, long)])
    ]
    pairs.append({"prompt": "Question 0?", "chosen": short, "rejected": long})
    profile = siftune.profile(pairs, parts="pairs")
    found = profile.to_dict()["pairs"]
    assert (found["pairs"], found["prompts"], found["equal_lengths"]) == (5, 4, 0)
    assert found["longer_wins"]["value"] == pytest.approx(3 / 5)
    assert found["longer_wins"]["low"] < 0.6 < found["longer_wins"]["high"]
    assert found["contradicted"] == 2
    assert "fit needs at least 50" in found["sample"]["labels_not_judged"]
    assert "the longer answer is the chosen one in 60.0 %" in str(profile)


def test_fenced_code_is_parsed() -> None:
    blocks = ["```python\nx = 1\n```", "```python\nx = (1\n```", "```json\n{}\n```", "None."]
    found = siftune.profile([{"prompt": "Go.", "completion": one} for one in blocks], parts="code")
    facts = found.to_dict()["code"]["answer"]
    assert (facts["texts"], facts["parse"]) == (3, 2)
    assert facts["languages"] == {"python": 2, "json": 1}
    assert "answer: 3 with blocks of python 2, json 1; all parse in 2 (66.7 %)" in str(found)


def test_in_python_the_profile_is_an_object(tmp_path: Path, tiny_embedder: Path) -> None:
    found = siftune.profile(
        [*CHATS, {"instruction": 3}], model=tiny_embedder, clusters=2, parts=["clusters"]
    )
    facts = found.to_dict()
    assert (facts["data"], facts["rows"], facts["records"]) == (["rows"], 8, 9)
    assert facts["quarantined"][0]["records"] == 1
    assert len(facts["clusters"]["clusters"]) == 2
    assert found._repr_html_().startswith('<div class="profile">')
    assert "8 conversation rows of 9 records" in repr(found)
    with pytest.raises(UsageError, match="sample: expected a whole number of at least 1"):
        siftune.profile(CHATS, sample=0)
    with pytest.raises(UsageError, match="'cluster' is no part; did you mean clusters"):
        siftune.profile(CHATS, parts="cluster")


def test_markup_in_the_rows_adds_no_element() -> None:
    plain, marked = (
        siftune.profile(
            [{"instruction": f"{mark}Say it {at}.", "output": "It."} for at in (1, 1)],
            parts=["duplicates"],
        )._repr_html_()
        for mark in ("", "<script>alert(1)</script><img src=x>")
    )
    assert "<script>" not in marked
    assert "<img" not in marked
    assert marked.count("<td") == plain.count("<td")


def test_a_sample_is_drawn_by_the_seed_and_not_by_the_order(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    texts = [f"Sentence number {at} is about {'boats' if at % 2 else 'hills'}." for at in range(40)]
    rows = [{"prompt": text, "completion": "Yes."} for text in texts]
    model = str(tiny_embedder)

    def drawn(seed: int) -> set[str]:
        how = {"sample": 6, "clusters": 6, "model": model, "parts": ["clusters"]}
        facts = siftune.profile(rows, seed=seed, **how).to_dict()
        assert facts["clusters"]["rows"] == 6
        near = [row["id"] for one in facts["clusters"]["clusters"] for row in one["nearest"]]
        return set(near)

    assert drawn(0) == drawn(0) != drawn(1)


def test_typical_words_are_those_far_more_frequent_in_the_cluster() -> None:
    inside = [{"the", "boat", "sail"}, {"the", "boat", "sail"}, {"the", "boat"}, {"sail", "rope"}]
    every = profiling.looks.Counter({"the": 40, "boat": 3, "sail": 6, "rope": 1})
    weight = {"boat": 3 * np.log(3 / 4 / (3 / 50)), "sail": 3 * np.log(3 / 4 / (6 / 50))}
    assert weight["boat"] > weight["sail"]  # and `the` has 0.75 against 0.8, `rope` one row
    assert _typical(inside, every, 50) == ["boat", "sail"]


def test_a_dry_run_has_time_and_memory_and_writes_nothing(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.jsonl", CHATS * 20)
    words = ("--parts", "tasks,lengths", "--dry-run", "--out", tmp_path / "out")
    done = called(source, *words)
    assert done.exit_code == 0, done.output
    assert "160 rows, timed on the first 160" in done.output
    assert "MB of memory" in done.output
    assert "  lengths " in done.output
    assert "duplicates" not in done.output
    assert not (tmp_path / "out").exists()


def test_seconds_are_scaled_by_the_difference_of_two_trials() -> None:
    small = profiling._Trial({"tasks": 0.5, "clusters": 1.0}, 32, 0)
    large = profiling._Trial({"tasks": 1.0, "clusters": 1.5}, 512, 0)
    tasks = profiling._scaled("tasks", small, large, 4_832)
    assert tasks == pytest.approx(0.5 + (4_832 - 32) * 0.5 / 480)
    clusters = profiling._scaled("clusters", small, large, 480)  # of 32 and 256 drawn rows
    assert clusters == pytest.approx(1.0 + (480 - 32) * 0.5 / 224)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--against", "missing.jsonl"], "missing.jsonl"),
        (["--quality", "missing"], "missing"),
        (["--label", "toxic"], "name that too"),
    ],
)
def test_a_wrong_option_is_refused_before_the_rows_are_read(
    tmp_path: Path, words: list[str], text: str
) -> None:
    done = called(written(tmp_path / "rows.jsonl", CHATS), *words)
    assert done.exit_code != 0
    assert text in str(done.exception)
    assert "profile: sources" not in done.output


KINDS = [
    {"text": "Plain text of one sentence."},
    {"prompt": "Which?", "completions": ["One.", "Two."], "scores": [1.0, 0.5]},
    {"prompt": "Which?", "completion": "One.", "label": True},
    {"prompt": "Which?", "chosen": "One.", "rejected": "Two."},
    {"prompt": "Only a prompt."},
]


@pytest.mark.parametrize("row", KINDS)
def test_every_kind_of_rows_has_a_profile(row: dict[str, Any]) -> None:
    quick = ["sources", "conversations", "tasks", "lengths"]
    facts = siftune.profile([row, row], parts=quick).to_dict()
    assert facts["rows"] == 2
    assert {"sources", "conversations", "lengths"} <= facts.keys()
    assert sections_of(facts)


@pytest.mark.slow
@pytest.mark.parametrize("row", KINDS)
def test_every_part_looks_at_every_kind_of_rows(row: dict[str, Any], tiny_embedder: Path) -> None:
    facts = siftune.profile([row, row], model=tiny_embedder).to_dict()
    assert facts["duplicates"]["exact"] == 1
    assert facts["flags"]["texts"]
    assert facts["clusters"]["rows"] == 2
