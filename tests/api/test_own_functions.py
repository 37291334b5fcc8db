"""A user's own functions as scorers, selectors, losses and rewards."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch

import siftune as sf
from siftune.curate.core.custom import name_and_options
from siftune.finetune.losses.types import PairLogps

TEXT = "the cat sat on a mat and looked at the wide blue sea beyond the old town wall"
RECORDS = [
    {"prompt": f"Write {n} words.", "response": " ".join(TEXT.split()[:n])}
    for n in (2, 9, 5, 12, 5, 16, 3)
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


def vowels(response: str) -> int:
    """Vowels of the answer."""
    return sum(letter in "aeiou" for letter in response)


def short(table: pl.DataFrame) -> pl.Series:
    """Rows of few vowels."""
    return table["vowels"] < 10


def test_a_function_is_a_scorer_and_a_selector(file):
    rows = sf.read(file).score(vowels).select(short)
    assert rows.kept["vowels"].to_list() == [2, 5, 5, 3]
    assert set(rows.dropped["reason"]) == {"not_short"}
    assert sf.scorer(vowels)(pl.DataFrame(RECORDS[:2]))["vowels"].to_list() == [2, 11]
    assert sf.selector(short)(rows.kept)["keep"].all()
    assert sf.selector(short)(pl.DataFrame({"vowels": [3, 30]}))["keep"].to_list() == [True, False]


def test_a_function_of_texts_is_called_with_frames_of_any_layout():
    alpaca = pl.DataFrame({"instruction": ["Hi", "Ho"], "output": ["a b", "c"]})
    assert sf.scorer(vowels)(alpaca)["vowels"].to_list() == [1, 0]
    wide = sf.selector(lambda prompt, response: len(response) > len(prompt))
    assert wide(alpaca)["keep"].to_list() == [True, False]


def test_a_function_in_a_file_is_named_by_its_path(file, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("def long(response: str, least: int = 3) -> bool:\n    ")
    with code.open("a") as lines:
        lines.write("return len(response.split()) >= least\n")
    rows = sf.read(file).select(f"{code}:long", least=9)
    assert rows.kept["row"].to_list() == [2, 4, 6]
    assert sf.run(rows.recipe, tmp_path / "out").kept.equals(rows.kept)


def test_a_function_that_is_defined_anew_is_run_anew_under_its_own_name():
    rows = sf.read(RECORDS)
    least = 3

    def rule(response: str) -> bool:
        return len(response.split()) >= least

    first = rows.select(rule)
    least = 9
    assert [len(first), len(rows.select(rule))] == [6, 3]

    def rule(response: str) -> bool:
        return True

    again = rows.select(rule)
    assert len(again) == 7
    assert set(again.decisions["stage"]) == {"1:rule"}


def test_what_a_function_uses_by_name_counts_and_its_place_does_not():
    rows = sf.read(RECORDS)
    wanted = {9}

    def rule(response: str) -> bool:
        return len(response.split()) in wanted

    assert len(rows.select(rule)) == 1
    wanted.add(12)
    two = rows.select(rule)
    assert len(two) == 2
    both = rows.select(lambda response: "sea" in response).select(
        lambda response: "old" in response
    )
    assert len(both) == 1

    def rule(response: str) -> bool:  # the same again, as a cell that is run once more
        return len(response.split()) in wanted

    assert rows.select(rule).recipe == two.recipe


PAIRS = [
    {"prompt": f"Say {word} {n}", "chosen": f"The {word} is good", "rejected": f"bad {word}"}
    for n, word in enumerate(TEXT.split()[:8])
]
QUICK = {"epochs": 1, "batch_size": 4, "held_out": 0, "lr": 1e-3, "max_length": 64}


def mine(logps: PairLogps, beta: float = 0.1) -> torch.Tensor:
    """DPO, written by a user."""
    return -torch.nn.functional.logsigmoid(beta * logps.gap)


def test_a_function_is_a_loss_on_plain_tensors():
    given = {"policy": (torch.tensor([-6.0]), torch.tensor([-9.0])), "ref": (-5, -7)}
    ours = sf.loss(sf.losses.DPO(beta=1.0))(**given).loss
    assert torch.equal(sf.loss(mine, beta=1.0)(**given).loss, ours)
    assert torch.equal(sf.loss("dpo", beta=1.0)(**given).loss, ours)
    assert ours.dtype == torch.float32


def test_preferences_are_trained_by_a_function_as_by_the_loss_it_is(tiny_model_dir, tmp_path):
    found = {}
    for name, loss in (("own", mine), ("ours", sf.losses.DPO(beta=0.2))):
        beta = {"beta": 0.2} if name == "own" else {}
        out = tmp_path / name
        trained = sf.train.prefer(PAIRS, loss=loss, model=tiny_model_dir, out=out, **beta, **QUICK)
        found[name] = trained.metrics["loss"]
    assert found["own"] == found["ours"]
    with pytest.raises(sf.UsageError, match=r"has no option 'betta'; did you mean beta"):
        sf.train.prefer(PAIRS, loss=mine, betta=1, model=tiny_model_dir, out=tmp_path / "x")


def test_a_loss_that_is_not_finite_stops_the_training_with_its_rows(tiny_model_dir, tmp_path):
    def broken(logps: PairLogps) -> torch.Tensor:
        return logps.gap * float("nan")

    with pytest.raises(sf.SiftuneError, match=r"the loss is nan at step 1, on rows .*no model"):
        sf.train.prefer(PAIRS, loss=broken, model=tiny_model_dir, out=tmp_path / "m", **QUICK)


def brevity(completion: str, most: int = 8) -> float:
    """1 for nothing said, 0 from ``most`` characters on."""
    return max(0.0, 1 - len(completion) / most)


def test_a_function_is_a_reward(tiny_model_dir, tmp_path):
    assert sf.reward(brevity)(["Hi"], ["four"]) == [0.5]
    trained = sf.train.ppo(
        [{"prompt": pair["prompt"]} for pair in PAIRS],
        model=tiny_model_dir,
        reward=brevity,
        reward_options={"most": 4},
        out=tmp_path / "ppo",
        rollouts=1,
        batch_size=4,
        minibatches=1,
        epochs=1,
        max_new_tokens=4,
    )
    assert 0 <= trained.metrics["objective/score"] <= 1


class Fixed:
    """Gives every row the same score."""

    def __init__(self, value: float) -> None:
        self.value = value

    def fixed(self, response: str) -> float:
        """The value."""
        return self.value


def test_methods_of_two_objects_are_two_scorers():
    rows = sf.read(RECORDS)
    for value in (1.0, 2.0, 1.0):
        assert set(rows.score(Fixed(value).fixed).kept["fixed"]) == {value}


def test_a_function_runs_again_once_an_object_that_it_uses_has_changed():
    rows, cfg = sf.read(RECORDS), SimpleNamespace(v=1)

    def scored(response: str) -> float:
        return cfg.v

    for value in (1, 2, 1):
        cfg.v = value
        assert set(rows.score(scored).kept["scored"]) == {value}
    cfg.v = 3
    assert set(rows.score(scored).select("random", rows=1).kept["scored"]) == {3}


def test_a_function_of_what_has_no_text_runs_wherever_it_is_given():
    rows, lock, calls = sf.read(RECORDS), threading.Lock(), []

    def locked(response: str) -> float:
        with lock:
            return len(calls)

    with pytest.warns(UserWarning, match=r"locked uses 'lock' \(lock\), which cannot be compared"):
        first = rows.score(locked)
    calls.append(1)
    assert first.select("top_k", by="locked", rows=1).kept["locked"].to_list() == [0]
    assert set(rows.score(locked).kept["locked"]) == {1}


def weighted(response: str, weight: float = 1.0) -> float:
    """Words of the answer, by a weight."""
    return weight * len(response.split())


def test_a_component_made_of_a_function_is_taken_where_the_function_is():
    rows = sf.read(RECORDS)
    scored = rows.score(sf.scorer(weighted, weight=2.0))
    assert scored.kept["weighted"].to_list() == [4, 18, 10, 24, 10, 32, 6]
    assert scored.recipe["stages"] == rows.score(weighted, weight=2.0).recipe["stages"]
    kept = scored.select(sf.selector(lambda response, least: len(response) > least, least=40))
    assert set(kept.decisions["stage"]) == {"2:lambda"}
    assert 0 < len(kept) < len(rows)
    assert sf.scorer(sf.scorer(weighted))(pl.DataFrame(RECORDS[:1]))["weighted"].to_list() == [2]
    name, options = name_and_options(sf.loss(mine, beta=0.3))
    assert (name.rpartition(":")[2], options) == ("mine", {"beta": 0.3})
    assert name_and_options(sf.reward(brevity))[1] == {"most": 8}


SCORED = [
    {"prompt": "a", "response": "b", "score": 1, "embedding": [1.0, 0.0]},
    {"prompt": "c", "response": "d", "score": 2.5, "embedding": [0.0, 1.0]},
    {"prompt": "e", "response": "f", "score": 3, "embedding": [0.9, 0.1], "note": "x"},
]


@pytest.mark.parametrize("source", [SCORED, pl.from_dicts(SCORED, infer_schema_length=None)])
def test_fields_of_the_raw_rows_are_columns_of_the_frame(source):
    rows = sf.read(source)
    kept = rows.select(lambda table: table["extra.score"] > 2).kept
    assert kept["id"].to_list() == ["rows:2", "rows:3"]
    with pytest.raises(sf.UsageError, match=r'"score" not found; it is given .*extra\.score'):
        rows.select(lambda table: table["score"] > 2)
    noted = rows.select(lambda table: table["extra.note"].is_null())
    assert len(noted) == 2

    def total(table):
        return table["extra.embedding"].list.sum()

    with pytest.raises(sf.UsageError, match=r"a field of the raw rows as 'extra\.NAME'"):
        rows.score(total)
    total.needs = ("extra.embedding",)
    assert rows.score(total).kept["total"].to_list() == [1.0, 1.0, 1.0]


def test_vectors_among_the_raw_fields_are_embeddings():
    rows = sf.read(SCORED)
    far = rows.select("k_center", embedding="extra.embedding", rows=2)
    assert "rows:2" in far.kept["id"].to_list()
    assert len(rows.dedup("semantic", embedding="extra.embedding", threshold=0.9)) == 2
    with pytest.raises(sf.UsageError, match=r"a field 'embedding' of the raw rows is extra\.emb"):
        rows.select("k_center", rows=2)
    with pytest.raises(sf.UsageError, match=r"expected a list of numbers a row .*, found 1"):
        rows.select("k_center", embedding="extra.score", rows=2)


def both(prompt: str, response: str):
    return {"longer": len(response) > len(prompt), "size": len(response)}


def test_a_function_of_one_row_may_add_several_columns(file):
    with pytest.raises(sf.UsageError, match=r"a dict with 'both' a row, .*`adds` .*'longer'"):
        sf.read(file).score(both)
    both.adds = {"longer": bool, "size": int}
    rows = sf.read(file).score(both)
    assert rows.kept["size"].to_list()[:2] == [7, 34]
    assert rows.kept["longer"].to_list()[:2] == [False, True]
    both.adds = ("longer", "size")
    with pytest.raises(sf.UsageError, match=r"its `adds` are .*expected a type for each column"):
        sf.read(file).score(both)


def test_a_function_of_a_frame_takes_frames_of_any_library():
    def size(frame: pl.DataFrame) -> pl.Series:
        return frame["response"].str.len_chars()

    frame = pl.DataFrame(RECORDS)
    rows = sf.read(RECORDS)
    sizes = [len(one["response"]) for one in RECORDS]
    for given in (RECORDS, frame.lazy(), frame.to_pandas(), frame.to_arrow(), rows):
        assert sf.scorer(size)(given)["size"].to_list() == sizes
        kept = sf.selector(lambda frame: size(frame) > 20)(given)
        assert kept["keep"].to_list() == [one > 20 for one in sizes]
    with pytest.raises(sf.UsageError, match="expected a frame"):
        sf.scorer(size)(5)


def test_errors_of_functions_are_whole_and_have_no_number_of_ours():
    def fails(response: str) -> int:
        raise ValueError("oh\n\nno")

    with pytest.raises(sf.UsageError, match=r"line \d+: ValueError: oh no$"):
        sf.scorer(fails)(RECORDS)

    async def waits(response: str) -> int:
        return 1

    with pytest.raises(sf.UsageError, match=r"expected a function, got one of async def"):
        sf.scorer(waits)
    for plus in (1, 2):
        with pytest.raises(sf.UsageError, match=r"^[^#]* needs the option 'n': n=VALUE$"):
            sf.read(RECORDS).score(lambda response, n, plus=plus: n + plus)


def test_what_is_no_function_is_shown_as_it_was_given():
    with pytest.raises(sf.UsageError, match=r"^expected a function or a class, got 5$"):
        sf.scorer(5)
    space = {}
    exec("def nothing(frame): pass", space)  # as in a notebook: of no file
    scorer = sf.scorer(space["nothing"])
    with pytest.raises(sf.UsageError, match=r"^nothing: expected a score"):
        scorer(pl.DataFrame(RECORDS))


def test_a_recipe_that_only_this_process_can_run_says_so(file, tmp_path):
    assert "source_help" not in sf.read(file).recipe
    rows = sf.read(RECORDS).select("random", rows=2)
    assert "rows.save(FOLDER) has a source that stays" in rows.recipe["source_help"]
    assert len(sf.run(rows.recipe, tmp_path / "again")) == 2
    saved = rows.save(tmp_path / "saved").recipe
    assert "source_help" not in saved
    assert Path(saved["source"][0]).is_relative_to(tmp_path / "saved")
