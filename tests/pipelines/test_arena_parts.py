"""Parts of the arena without a model: recipe, selections, templates, comparison, picture."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.io.ingest import read_rows
from siftune.curate.runners.run import run as curate_run
from siftune.finetune.models import loading
from siftune.pipelines.arena import forecast
from siftune.pipelines.arena.leaks import _questions
from siftune.pipelines.arena.measures import pair_accuracy
from siftune.pipelines.arena.measures.pair_accuracy import _base
from siftune.pipelines.arena.measures.types import Asked, Values
from siftune.pipelines.arena.measuring import Measuring, _Loaded, templated
from siftune.pipelines.arena.outputs import summary_lines
from siftune.pipelines.arena.picture import effects_svg
from siftune.pipelines.arena.recipe import MEASURES, load
from siftune.pipelines.arena.results import _corrected, _Table, compare, comparisons_of, results_of
from siftune.pipelines.arena.selections import (
    budget_tokens,
    overlaps_of,
    pool_recipe,
    scoring_seconds,
    select,
)
from siftune.pipelines.arena.work import Arm, Work

RECIPE = """
base: model
pool: {source: pool.jsonl, stages: [{score: length}, {score: compression}]}
methods:
  shortest: [{top_k: {by: -length_words}}]
  odd: [{threshold: {by: length_words, max: 6}}]
  first: [{top_fraction: {by: compression, fraction: 0.5}}]
budgets: [4 rows, 30]
train: {sft: {epochs: 2}}
heldout: {people: {rows: held.jsonl, measures: [nll, length]}}
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    rows = [{"prompt": f"Thing {at}?", "completion": "word " * (1 + at % 9)} for at in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, _ = read_rows(path)
    words = [1 + at % 9 for at in range(30)]
    return table.with_columns(
        length_tokens=pl.Series(words, dtype=pl.UInt32),
        length_words=pl.Series(words, dtype=pl.UInt32),
        compression=pl.Series(np.linspace(0, 1, 30)),
    )


@pytest.fixture
def arena(tmp_path):
    path = tmp_path / "arena.yaml"
    path.write_text(RECIPE)
    return lambda *overrides: load(path, overrides)


def test_every_method_fills_the_budget_to_less_than_one_row(pool, arena):
    made = arena()
    tokens = budget_tokens(pool, "4 rows")
    assert tokens == round(4 * pool["length_tokens"].sum() / 30)
    for method in ("random", "longest", "shortest", "odd", "first"):
        found = select(made, pool, method, tokens, seed=0)
        assert found.tokens == found.rows["length_tokens"].sum()
        assert tokens - 9 < found.tokens <= tokens
        assert not found.short
    assert select(made, pool, "longest", tokens, 0).rows["length_tokens"].min() >= 9
    assert select(made, pool, "shortest", tokens, 0).rows["length_words"].max() <= 4
    assert select(made, pool, "odd", tokens, 0).rows["length_words"].max() <= 6
    assert select(made, pool, "all", tokens, 0).rows.height == 30
    # a set that is smaller than the budget is kept whole, and marked
    whole = select(made, pool, "odd", int(pool["length_tokens"].sum()), 0)
    assert whole.short
    assert whole.rows.height == pool.filter(pl.col("length_words") <= 6).height
    # one long row of the pool, which no budget has room for, hides no lack
    long = pool.with_columns(
        length_tokens=pl.when(pl.col("length_words") > 8).then(500).otherwise("length_words")
    )
    assert select(made, long, "odd", 100, 0).short
    with pytest.raises(UsageError, match=r"the pool has 1\d\d answer tokens"):
        budget_tokens(pool, "9999")


def test_seeds_draw_other_rows_at_random_and_the_same_by_score(pool, arena):
    made = arena()
    drawn = [set(select(made, pool, "random", 30, seed).rows["id"]) for seed in (0, 1, 0)]
    assert drawn[0] != drawn[1]
    assert drawn[0] == drawn[2]
    fixed = [set(select(made, pool, "shortest", 30, seed).rows["id"]) for seed in (0, 1)]
    assert fixed[0] == fixed[1]
    assert overlaps_of({"a": drawn[0], "b": drawn[2]})["a"]["b"] == 1


def test_a_method_costs_the_stages_whose_columns_it_reads(arena):
    made = arena()
    recipe = pool_recipe(made)
    assert [one.name for one in recipe.stages] == ["length", "compression"]
    assert recipe.stages[0].options["tokenizer"] == "model"
    clock = {"1:length": {"cpu_seconds": 2.0}, "2:compression": {"cpu_seconds": 30.0}}
    assert scoring_seconds(made, made.pool, clock) == {"shortest": 2, "odd": 2, "first": 30}


def test_templates_change_the_last_question_alone(pool):
    changed = templated(pool, "Please: {prompt}!")
    assert changed.schema == pool.schema
    turns = changed["messages"][3]
    assert [turn["content"] for turn in turns] == ["Please: Thing 3?!", "word " * 4]
    assert templated(pool, "{prompt}") is pool


def tables(effect: float, seeds: int = 3) -> tuple[_Table, _Table]:
    source = np.random.default_rng(0)
    base = source.standard_normal((seeds, 3, 40))
    return _Table(base + effect + 0.1 * source.standard_normal(base.shape), None), _Table(
        base, None
    )


def test_verdicts_are_named_after_correction():
    clear = compare("set/nll", "30", "good", *tables(-1.0), better="lower")
    none = compare("set/nll", "30", "same", *tables(0.0), better="lower")
    apart = compare("set/length", "30", "good", *tables(1.0), better="neither", tested=False)
    one = compare("set/nll", "30", "short", *tables(1.0, seeds=1), better="lower")
    lines = _corrected([clear, none, apart, one])
    assert [line.verdict for line in lines[:3]] == ["better", "not significant", "not tested"]
    assert lines[3].verdict == "one seed has no spread"
    assert lines[0].adjusted == pytest.approx(2 * clear.difference.p)
    low, high = lines[0].together
    assert low < clear.difference.low < clear.difference.high < high
    assert lines[0].by_template[0] <= clear.difference.effect <= lines[0].by_template[1]
    worse = _corrected([compare("set/nll", "30", "bad", *tables(1.0), better="lower")])
    assert worse[0].verdict == "worse"
    drawn = effects_svg(lines, "a title <b>")
    assert "a title &lt;b&gt;" in drawn
    assert drawn.count("<circle") == 4


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("budgets=[0]", "budgets: expected tokens, or rows as `150 rows`, got 0"),
        ("seeds=[1, 1]", "seeds: one is there more than once"),
        ("templates=['{prompt}']", "3 different ones at least"),
        ("templates=[a, b, c]", "has no {prompt}"),
        ("tested=[people/reward]", "tested: there is no 'people/reward'"),
        ("tested=[people/nll, people/nll]", "tested: one is there more than once"),
        ("heldout.people.limit=-2", "limit: expected a number of rows, 0 for all, got -2"),
        ("methods.random=[{top_k: {by: ifd}}]", "this arm is built in"),
        ("methods.odd=[{threshold: {bye: x}}]", "threshold has no option 'bye'"),
        ("heldout.people.measures=[nil]", "did you mean nll"),
        ("train={sft: {max_tokens: 3}}", "max_tokens is set by the budgets"),
        ("train={sft: {seed: 5}}", "train: seed is set by the arena: use the recipe's `seeds`"),
        ("train={sft: {model: x}}", "train: model is set by the arena: use the recipe's `base`"),
        ("sft={seed: 5}", "sft: seed is set by the arena"),
        ("sft={epochs: 3}", "sft: epochs: `sft_on_chosen` learns as many tokens as other arms"),
        ("methods.odd=[{random: {group_by: source}}]", "take the budget once a group"),
        ("methods.odd=[{label_noise: {action: flip}}]", "action: flip changes rows"),
        ("methods.odd=[{label_noise: {action: weight}}]", "action: weight changes rows"),
        ("methods.odd=[{sweet_spot: {chosen: a, rejected: b, flip: true}}]", "flip: True changes"),
        ("train={reward: {}}", "reward trains no policy"),
        ("overlap=maybe", "overlap: expected refuse, drop, allow"),
        ("expect={seeds: 1}", "expect: set all of seeds, prompts, rest"),
        ("poool=1", "unknown key 'poool'"),
    ],
)
def test_a_wrong_recipe_is_refused_in_words(arena, override, text):
    with pytest.raises(UsageError, match=None) as found:
        arena(override)
    assert text in str(found.value)


def test_a_measure_of_ones_own_is_a_function_of_answers(tmp_path, pool):
    path = tmp_path / "mine.py"
    path.write_text(
        "def shouts(answers, mark='!'):\n"
        "    return [one['completion'].count(mark) for one in answers]\n"
        "def broken(answers):\n"
        "    return [1.0]\n"
    )
    answers = [{"completion": "no!"}, {"completion": "yes"}]
    asked = Asked(pool.head(2), "base", object, None, lambda: answers)
    made = build(MEASURES, f"{path}:shouts", {})
    assert made(asked) == Values([1.0, 0.0])
    assert build(MEASURES, f"{path}:shouts", {"mark": "e"})(asked).values == [0.0, 1.0]
    assert made.better == "higher"
    with pytest.raises(UsageError, match="a number for each of the 2 rows"):
        build(MEASURES, f"{path}:broken", {})(asked)


def test_measures_of_answers_by_hand(pool):
    answers = [
        {"completion": "Blue.", "reference": "blue", "tokens": 2, "ended": True, "extra": {}},
        {"completion": "it is blue", "reference": "blue", "tokens": 4, "ended": True, "extra": {}},
        {"completion": None, "reference": "blue", "tokens": None, "ended": None, "extra": {}},
        {"completion": "a, b", "reference": None, "tokens": 3, "ended": False, "extra": {}},
    ]
    asked = Asked(pool.head(4), "base", object, None, lambda: answers)
    assert build(MEASURES, "exact_match", {})(asked).values == [1, 0, None, None]
    assert build(MEASURES, "exact_match", {"mode": "contains"})(asked).values == [1, 1, None, None]
    assert build(MEASURES, "length", {})(asked).values == [2, 4, None, 3]
    comma = {"instructions": {"punctuation:no_comma": None}}
    assert build(MEASURES, "instructions", comma)(asked).values == [1, 1, None, 0]
    chars = build(MEASURES, "reward", {"reward": "length", "options": {"target": 5}})
    assert chars.reward == "length"


def test_a_judge_is_asked_in_both_orders_and_corrected_by_gold_pairs(tmp_path, monkeypatch, pool):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(
        "def longer(question):\n"
        "    text = question.messages[-1][1]\n"
        "    if 'first' in text:\n"
        "        return 'A'\n"
        "    return 'A' if text.find('long') < text.find('short') else 'B'\n"
    )
    said = [["a long one", "short"], ["short", "a long one"], ["first", "other"], ["same", "same"]]
    own = [{"id": str(at), "question": "q", "completion": pair[0]} for at, pair in enumerate(said)]
    other = [one | {"completion": pair[1]} for one, pair in zip(own, said, strict=True)]
    own.append({"id": "4", "question": "q", "completion": None})
    other.append({"id": "4", "question": "q", "completion": "short"})
    asked = Asked(pool.head(5), "base", object, None, lambda: own, lambda: other)
    gold = [
        {"prompt": f"q{at}", "chosen": f"a long one {at}", "rejected": "short"} for at in range(40)
    ]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gold))
    made = build(MEASURES, "judge_win_rate", {"judge": "judge.py:longer", "gold": "gold.jsonl"})
    assert made(asked).values == [1.0, 0.0, 0.5, 0.5, None]
    # the judge is right on all gold pairs, shown either way round: nothing is to be corrected
    found = made.corrected([1.0] * 30 + [0.0] * 10)
    assert found["win_rate"] == pytest.approx(0.75)
    assert found["low"] < 0.75 < found["high"]
    without = build(MEASURES, "judge_win_rate", {"judge": "judge.py:longer"})
    assert without.corrected([1.0]) == "no gold pairs are given"


def test_arm_and_base_are_loaded_in_float32(monkeypatch):
    # with bf16 weights the log-ratios of two arms differ by less than their rounding
    formats = []
    monkeypatch.setattr(loading, "load_causal", lambda path, dtype: formats.append(dtype))
    monkeypatch.setattr(loading, "placed", lambda model: model)
    assert _Loaded("arm").model is _base(Asked(pl.DataFrame(), "base", object, None, tuple)) is None
    assert formats == ["float32", "float32"]


def test_margins_of_the_base_are_kept_by_both_answers(monkeypatch, tmp_path):
    # the same prompts with other answers are other pairs
    monkeypatch.setattr(pair_accuracy, "_base", lambda asked: "base")
    told = []

    def margins(asked, model):
        told.append(model)
        return [1.0] if model == "arm" else [float(len(asked.table["chosen"][0][0]["content"]))]

    monkeypatch.setattr(pair_accuracy, "_margins", margins)
    memory = {}
    for chosen in ("a", "longer", "longer"):
        row = {"prompt": "q", "chosen": chosen, "rejected": "no"}
        (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
        table, _ = read_rows(tmp_path / "pairs.jsonl")
        asked = Asked(table, "base", lambda: "arm", None, tuple, memory=memory)
        assert build(MEASURES, "pair_accuracy", {})(asked).values == [0.5 if chosen == "a" else 0.0]
    assert told == ["arm", "base", "arm", "base", "arm"]


def test_a_mixture_shares_one_budget_out(arena):
    method = "methods.mixed=[{mixture: {group_by: extra.topic, power: 0.5}}]"
    assert arena(method).methods["mixed"][0][0] == "mixture"


def test_no_arm_holds_out_rows_that_others_train_on(arena):
    overrides = ["train={dpo: {}}", "heldout.people.measures=[pair_accuracy]"]
    work = Work(arena(*overrides), Path("out"))
    arms = [Arm(method, "30", 0) for method in ("random", "sft_on_chosen")]
    assert [work.trainer(arm, 9).held_out for arm in arms] == [0, 0]
    work = Work(arena("train={dpo: {held_out: 0.2}}", overrides[1]), Path("out"))
    assert [work.trainer(arm, 9).held_out for arm in arms] == [0.2, 0.2]


HELD = [f"held:{at}" for at in range(30)]


def written(folder, method, seed, ids=HELD, templates=3, effect=0.0):
    path = folder / f"arm-{method}-30-seed{seed}" / "people.nll.json"
    path.parent.mkdir(parents=True)
    values = [[effect + 0.1 * seed + 0.3 * (at % 2) * effect for at in range(len(ids))]] * templates
    path.write_text(json.dumps({"ids": list(ids), "values": values, "weights": None}))


def test_only_values_of_this_recipe_are_read(arena, tmp_path):
    made, ids = arena("budgets=[30]", "seeds=[0, 1]"), {"people": HELD}
    for seed in (0, 1):
        written(tmp_path, "random", seed)
        written(tmp_path, "odd", seed, effect=1.0 + seed)
        written(tmp_path, "shortest", seed)
    written(tmp_path, "longest", 0, ids=[*HELD, "c"])  # before heldout.people.limit was changed
    written(tmp_path, "all", 0, templates=2)
    methods = {one.method for one in results_of(made, tmp_path, ids, None)}
    assert methods == {"odd", "shortest"}
    done = ["random-30-seed0", "random-30-seed1", "odd-30-seed0", "odd-30-seed1"]
    (line,) = results_of(made, tmp_path, ids, done)
    # longest, all, shortest, odd and first are compared: four of these are not measured yet
    assert comparisons_of(made) == 5
    assert line.adjusted == pytest.approx(min(1, 5 * line.difference.p))
    assert line.together == line.difference.corrected(5)


def test_a_printed_result_names_how_many_arms_are_missing():
    results = {"lines": [], "arms": {"measured": 1, "of": 3, "missing": ["a", "b"]}}
    assert summary_lines(results, ()) == ["not whole: 1 of 3 arms are measured"]
    results["arms"] = {"measured": 3, "of": 3, "missing": []}
    assert summary_lines(results, ()) == []


def test_a_trial_of_other_held_out_sets_is_made_again(arena, tmp_path, monkeypatch, pool):
    trials = []
    monkeypatch.setattr(forecast, "trial", lambda work: trials.append(1) or {"train": (0, 1)})

    def known(*overrides):
        work = Work(arena(*overrides), tmp_path)
        names = [*work.arena.heldout]
        vars(work).update(
            base_hash="base", tokens={"30": 30}, heldout=dict.fromkeys(names, pool.head(2))
        )
        return forecast.known_trial(work)

    known()
    assert known()["train"] == [0, 1]
    assert len(trials) == 1
    known("heldout={others: {rows: held.jsonl, measures: [nll]}}")
    assert len(trials) == 2


def test_rows_are_checked_and_all_selections_made_before_the_first_training(
    arena, tmp_path, monkeypatch, pool
):
    made = []
    monkeypatch.setattr(Work, "selection", lambda self, arm: made.append(arm.name))
    work = Work(arena(), tmp_path)
    vars(work)["pool"] = pool
    work.prepare()
    assert made == [arm.name for arm in work.arms]
    rows = '{"prompt": "q", "completion": ""}\n{"prompt": "r", "completion": "yes"}\n'
    (tmp_path / "empty.jsonl").write_text(rows)
    vars(work)["pool"], _ = read_rows(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="empty"):
        work.prepare()
    work.arena = arena("train={sft: {on_bad: drop}}")
    work.prepare()


def test_the_example_leaves_empty_answers_out(tmp_path):
    rows = '{"prompt": "q", "completion": ""}\n{"prompt": "r", "completion": "yes"}\n'
    (tmp_path / "pool.jsonl").write_text(rows)
    example = Path(__file__).parents[2] / "examples" / "arena_alpaca.yaml"
    files = [f"pool.source={tmp_path}/pool.jsonl"]
    files += [f"heldout.{name}.rows=held.jsonl" for name in ("people", "asked")]
    recipe = load(example, files).pool
    cheap = [one for one in recipe.stages if one.name in ("length", "threshold")]
    curate_run(replace(recipe, stages=tuple(cheap)), tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "kept.parquet").height == 1


def test_the_seed_and_the_answers_of_random_decide_values(arena, pool):
    measure = arena().heldout["people"].measures[0]
    keys = {
        Measuring(arena(f"seed={seed}"), {"people": pool})._key("arm", "people", measure, other)
        for seed in (0, 1)
        for other in ("random", "another")
    }
    assert len(keys) == 4


def test_another_reference_model_makes_another_arm(arena, monkeypatch):
    monkeypatch.setattr("siftune.pipelines.arena.work.model_hash", str)
    monkeypatch.setattr(Work, "selection", lambda self, arm: (None, {"hash": "rows"}))
    keys = set()
    for other in ("one", "two"):
        train = f"train={{dpo: {{ref_model: {other}}}}}"
        work = Work(arena(train, "heldout.people.measures=[pair_accuracy]"), Path("out"))
        vars(work)["tokens"] = {"30": 30}
        keys.add(work.key_of(Arm("random", "30", 0)))
    assert len(keys) == 2


def test_another_reward_model_in_the_same_folder_is_asked_again(arena, pool, tmp_path, monkeypatch):
    (tmp_path / "reward").mkdir()
    measures = f"heldout.people.measures={{reward: {{reward: {tmp_path}/reward}}}}"
    made = Measuring(arena(measures), {"people": pool})
    measure = made.arena.heldout["people"].measures[0]
    keys = set()
    for weights in ("one", "two"):
        monkeypatch.setattr(loading, "model_hash", lambda path, found=weights: found)
        keys.add(made._key("arm", "people", measure, None))
    assert len(keys) == 2


def test_a_user_turn_of_the_pool_that_is_held_out_is_a_leak_whatever_is_around_it(tmp_path):
    def of(*turns):
        return {"messages": [{"role": role, "content": text} for role, text in turns]}

    asked, done = ("user", "Who wrote the first  opera?"), ("assistant", "Peri.")
    pool = [
        of(("system", "Be brief."), asked, done),
        of(("user", "Name a river."), done, ("user", "who wrote the first opera?"), done),
        of(("user", "Name a lake."), done, ("user", "Go on."), done),
        of(("user", "Go on."), done),
    ]
    held = [
        of(("system", "You know music."), asked, done),
        of(("user", "Name a hill."), done, ("user", "Go on."), done),
    ]
    found = []
    for name, rows in (("pool.jsonl", pool), ("held.jsonl", held)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        found.append(_questions(read_rows(tmp_path / name)[0]))
    known = set.union(*found[1])
    assert [bool(own & known) for own in found[0]] == [True, True, False, False]
