from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from examples.demo.facts import RELATIONS
from examples.demo.rows import FAULTS, jaccard
from examples.demo.world import PLANTED, World, generate
from siftune.curate.core.errors import UsageError

SIZE = 400


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return generate(tmp_path_factory.mktemp("worlds") / "world", seed=3, size=SIZE)


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_world_replaces_a_world_and_nothing_else(tmp_path: Path) -> None:
    generate(tmp_path / "w", seed=3, size=200)
    before = World(tmp_path / "w").pool.read_bytes()
    generate(tmp_path / "w", seed=4, size=200)
    assert World(tmp_path / "w").pool.read_bytes() != before
    (tmp_path / "w/pool.jsonl").write_text("mine")
    (tmp_path / "w/notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/pool.jsonl").write_text("mine")
    for name in ("w", "other"):
        with pytest.raises(UsageError, match=name):
            generate(tmp_path / name, seed=3, size=200)
    assert (tmp_path / "other/pool.jsonl").read_text() == "mine"
    assert (tmp_path / "w/notes.txt").read_text() == "mine"


def labelled(world: World) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return list(zip(lines(world.pool), lines(world.truth), strict=True))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(
    world: World, tmp_path: Path
) -> None:
    again = generate(tmp_path / "again", seed=3, size=SIZE)
    other = generate(tmp_path / "other", seed=4, size=SIZE)
    for path in sorted(world.folder.iterdir()):
        assert (again.folder / path.name).read_bytes() == path.read_bytes()
        if path.name not in ("pool.truth.jsonl", ".siftune"):
            assert (other.folder / path.name).read_bytes() != path.read_bytes()


def test_every_kind_is_planted_in_the_stated_share(world: World) -> None:
    counts = Counter(row["kind"] for row in lines(world.truth))
    for kind, share in PLANTED.items():
        assert counts[kind] == round(SIZE * share), kind
    assert sum(counts.values()) == SIZE
    assert 0.4 <= 1 - counts["good"] / SIZE <= 0.65


def test_truth_numbers_the_lines_of_the_pool(world: World) -> None:
    assert [row["row"] for row in lines(world.truth)] == list(range(1, SIZE + 1))


def test_duplicates_are_what_they_are_called(world: World) -> None:
    rows = labelled(world)
    for row, truth in rows:
        if truth["of"] is None:
            continue
        original, original_truth = rows[truth["of"] - 1]
        assert original_truth["kind"] == "good"
        assert original_truth["meaning"] == truth["meaning"]
        text, before = (f"{each['instruction']} {each['output']}" for each in (row, original))
        if truth["kind"] == "exact_duplicate":
            assert text == before
        elif truth["kind"] == "near_duplicate":
            assert jaccard(text, before) == truth["similarity"]
            assert 0.7 <= truth["similarity"] <= 0.95
        else:
            assert truth["kind"] == "paraphrase"
            assert row["instruction"] != original["instruction"]


def test_held_out_questions_are_not_in_the_pool_but_for_the_leaks(world: World) -> None:
    asked = {row["prompt"] for row in lines(world.questions)}
    inside = [(row, truth) for row, truth in labelled(world) if row["instruction"] in asked]
    assert inside
    assert {truth["kind"] for _, truth in inside} == {"leaked"}


def test_no_row_but_a_leak_needs_a_held_out_fact(world: World) -> None:
    leaked = {truth["meaning"] for _, truth in labelled(world) if truth["kind"] == "leaked"}
    others = {
        key
        for _, truth in labelled(world)
        if truth["kind"] != "leaked"
        for key in truth["meaning"].split("+")
    }
    assert not leaked & others


def test_every_held_out_fact_is_read_but_not_as_the_question_is_worded(world: World) -> None:
    read = [row["text"] for row in lines(world.facts)]
    answered = []
    for question in lines(world.questions):
        assert not any(text.startswith(question["prompt"]) for text in read)
        others = set(_wordings(question["fact"])) - {question["prompt"]}
        answered.append(any(text.partition("\n")[0] in others for text in read))
    assert sum(answered) / len(answered) > 0.95


def _wordings(fact: str) -> list[str]:
    entity, _, name = fact.partition("/")
    return [
        ask.format(s=entity)
        for relation in RELATIONS
        if relation.name == name
        for ask in relation.asks
    ]


def test_a_question_has_one_answer(world: World) -> None:
    questions = lines(world.questions)
    assert len({question["prompt"] for question in questions}) == len(questions)
    answers: dict[str, set[str]] = {}
    for row, truth in labelled(world):
        if truth["kind"] in ("good", "leaked") and truth["meaning"].count("+") < 2:
            answers.setdefault(row["instruction"], set()).add(row["output"])
    assert all(len(found) == 1 for found in answers.values())


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_spoiled_answer_is_not_the_good_one(world: World, kind: str) -> None:
    good = {
        (row["instruction"], row["output"])
        for row, truth in labelled(world)
        if truth["kind"] in ("good", "paraphrase")
    }
    spoiled = [
        (row["instruction"], row["output"])
        for row, truth in labelled(world)
        if truth["kind"] == kind
    ]
    assert spoiled
    assert not good & set(spoiled)


def test_flipped_pairs_are_the_ones_whose_chosen_answer_is_spoiled(world: World) -> None:
    truth = lines(world.pairs_truth)
    flipped = sum(row["kind"] == "flipped" for row in truth)
    assert 0.1 < flipped / len(truth) < 0.3
    known: dict[str, str] = {}
    for row, label in zip(lines(world.pairs), truth, strict=True):
        good = row["rejected" if label["kind"] == "flipped" else "chosen"]
        assert row["chosen"] != row["rejected"]
        assert known.setdefault(row["prompt"], good) == good


def test_held_out_pairs_are_labelled_right(world: World) -> None:
    answers = {row["prompt"]: row["completion"] for row in lines(world.questions)}
    pairs = lines(world.held_out_pairs)
    assert len(pairs) == len(answers)
    assert all(answers[pair["prompt"]] == pair["chosen"] != pair["rejected"] for pair in pairs)


def test_a_world_too_small_to_plant_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 200 rows; asked for 50"):
        generate(tmp_path, size=50)
