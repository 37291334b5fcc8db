"""The packaged recipes of judges: listed, and run from end to end with a scripted judge."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import PARTIAL, DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.models.lineage import lineage
from siftune.curate.rows.chat import turn
from siftune.curate.runners.forecast import Forecast, Records
from siftune.finetune.models.loading import model_hash
from siftune.finetune.models.saving import base_facts
from siftune.pipelines.cli import siftune
from siftune.pipelines.commands import pipelines
from siftune.pipelines.judge_forecast import forecast_lines, forecast_of_judges
from siftune.pipelines.preflight import recipes_of
from siftune.pipelines.recipe import PACKAGED, load
from siftune.pipelines.render import result_text
from siftune.pipelines.reports.judge_report import judged_steps
from siftune.pipelines.reports.report import write_report
from siftune.pipelines.row_steps.concat import Concat
from siftune.pipelines.row_steps.judge import Judge
from siftune.pipelines.row_steps.versus import Versus
from siftune.pipelines.run import run
from tests.tiny_models import language_model

JUDGE = f"scripted:{Path(__file__).with_name('scripted_judge.py')}:longer"
WORDS = "abcdefghijklmnop"
SFT = "{epochs: 30, lr: 2.0e-2, batch_size: 8, max_length: 64}"
DPO = "batch_size: 4, max_length: 64, held_out: 0, on_bad: drop"
PPO = "{rollouts: 1, batch_size: 4, minibatches: 1, epochs: 1, max_new_tokens: 8}"
SMALL = {
    "rlaif": [
        f"train.1.sft={SFT}",
        "train.2.sample.max_new_tokens=8",
        "train.4.reward={data: labels, batch_size: 4, on_bad: drop}",
        f"train.5.ppo={PPO}",
    ],
    "rlaif_dpo": [
        f"train.1.sft={SFT}",
        "train.2.sample.max_new_tokens=8",
        f"train.4.dpo={{data: labels, {DPO}}}",
    ],
    "constitutional_ai": [
        "train.1.sample.max_new_tokens=8",
        f"train.3.sft={{data: revised, {SFT[1:]}",
        "train.4.sample.max_new_tokens=8",
        "train.7.reward={data: hybrid, batch_size: 4, on_bad: drop}",
        f"train.8.ppo={PPO}",
    ],
    "self_rewarding": [
        f"train.1.sft={SFT}",
        "second=" + JUDGE.replace(":longer", ":lenient"),
        "train.2.sample.max_new_tokens=8",
        "rows.stages.1.test_share=0.4",
        "heldout.prompts.stages.1.test_share=0.4",
        "train.3.repeat.steps.1.sample.max_new_tokens=8",
        f"train.3.repeat.steps.3.dpo={{label: m, data: labels, {DPO}}}",
        "train.3.repeat.steps.4.sample.max_new_tokens=8",
    ],
    "con_j": [
        "pairs.stages.1.test_share=0.5",
        "heldout.pairs.stages.1.test_share=0.5",
        "train.1.judge.judge=" + JUDGE,
        "train.3.judge.judge=" + JUDGE.replace(":longer", ":speechless"),
        "train.5.dpo={label: con_j, data: judgements, batch_size: 8, held_out: 0}",
        "train.6.judge.judge=" + JUDGE,
        "train.7.judge.judge=" + JUDGE,
    ],
}


@pytest.fixture
def small(tmp_path, monkeypatch, tiny_model_dir):
    """The overrides that make a recipe small, in a folder with its rows."""
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"say {word}", "output": word} for word in WORDS]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"prompt": f"say {w}", "chosen": f"{w} {w}", "rejected": w} for w in WORDS]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))

    def overrides(name: str, base=tiny_model_dir) -> list[str]:
        source = "pairs" if name == "con_j" else "rows"
        given = [f"base={base}", f"judge={JUDGE}", f"{source}.source={source}.jsonl"]
        evaluate = "evaluate={max_new_tokens: 8}"
        return [*given, *SMALL[name], evaluate]

    return overrides


def ran(name, overrides, out, say=None):
    return run(load(PACKAGED.file(Path(name)), overrides), out, say=say)


def made(manifest, out):
    """Folders of the rows that steps made, by label."""
    return {one["label"]: out / one["path"] for one in manifest["made"]}


def test_every_recipe_is_listed_with_its_paper_and_can_be_printed(tmp_path):
    found = PACKAGED.headers
    assert set(found) == set(SMALL)
    for name, fields in found.items():
        assert set(fields) == {"does", "paper", "needs", "keeps", "leaves out", "run"}
        assert "arXiv:" in fields["paper"]
        assert fields["run"].startswith(f"siftune pipelines run {name} -o base=")
    listed = CliRunner().invoke(pipelines, ["recipes"])
    assert all(f"{name}: {found[name]['does']}" in listed.output for name in found)
    printed = CliRunner().invoke(pipelines, ["recipes", "rlaif"])
    assert printed.output.rstrip() == PACKAGED.text("rlaif")
    refused = CliRunner().invoke(pipelines, ["recipes", "rlaiv"])
    assert "did you mean rlaif" in str(refused.exception)
    with pytest.raises(UsageError, match="no recipe of that name"):
        PACKAGED.file(Path("rlaiv"))
    assert PACKAGED.file(tmp_path) == tmp_path


@pytest.mark.slow  # labels of `rlaif_dpo`, then training as in `constitutional_ai`
def test_rlaif_labels_train_a_reward_model_and_ppo(small, tmp_path):
    out = tmp_path / "out"
    manifest = ran("rlaif", small("rlaif"), out)
    assert [one["label"] for one in manifest["models"]] == ["sft", "reward", "ppo"]
    check_labels(made(manifest, out)["labels"])


def check_labels(labels):
    """The judge prefers longer answers."""
    kept = pl.read_parquet(labels / "kept.parquet")
    said = [[row[side][0]["content"] for side in ("chosen", "rejected")] for row in kept.to_dicts()]
    assert said
    assert all((len(chosen), chosen) > (len(other), other) for chosen, other in said)
    facts = json.loads((labels / "judging.json").read_text())
    assert facts["kept"] + sum(facts["left_out"].values()) >= kept.height
    length = facts["figures"].get("length")  # a tiny model may write as much for every prompt
    if length is None:
        assert "the rows do not vary" in facts["not_measured"]["length"]
    else:
        assert length["low"] < length["value"] < length["high"]
    verdicts = pl.read_parquet(labels / "verdicts.parquet")
    assert verdicts["error"].null_count() == verdicts.height


def test_calls_of_the_judges_of_a_curate_step_are_foretold(small, tiny_model_dir, tmp_path):
    """Both answers of 16 pairs are rated by two judges; then any of them may be compared."""
    stages = [
        {"score": "judge_rating", "judge": JUDGE, "panel": [JUDGE.replace("longer", "first")]},
        {"select": "random", "rows": 4},
        {"score": "judge_pairwise", "judge": JUDGE, "price_input": 1.0},
    ]
    step = {"curate": {"data": "pairs", "label": "rated", "stages": stages}}
    recipe = {"base": str(tiny_model_dir), "pairs": {"source": "pairs.jsonl"}, "train": [step]}
    Path("rated.yaml").write_text(json.dumps(recipe))
    pipeline = load(Path("rated.yaml"))
    rows = [Forecast("outputs", Records(len(WORDS), counted=True), False, None, "")]
    found = forecast_of_judges(pipeline, tmp_path / "out", {"pairs": rows})
    assert [(one.name, one.calls, one.exact, one.cost is None) for one in found] == [
        ("rated judge_rating", 32, False, True),
        ("rated judge_rating", 32, False, True),
        ("rated judge_pairwise", 32, False, False),
    ]


def test_rlaif_dpo_trains_the_policy_on_the_labels(small, tmp_path):
    out, given = tmp_path / "out", [*small("rlaif_dpo"), "heldout=null"]
    manifest = ran("rlaif_dpo", given, out)
    sft, dpo = manifest["models"]
    assert [sft["label"], dpo["label"]] == ["sft", "dpo"]
    check_labels(made(manifest, out)["labels"])
    labels = next(one for one in manifest["made"] if one["label"] == "labels")
    assert dpo["inputs"]["rows"] == labels["hash"]
    assert dpo["inputs"]["start"] == sft["hash"] != dpo["hash"]
    facts = labels["judged"]
    most = foretold("rlaif_dpo", given, tmp_path / "other")[0]["labels", "longer"]
    assert 0 < facts["asked"] + facts["cached"] <= most.calls
    assert facts["kept"] == labels["rows"] > 0
    assert (
        facts["asked"] + facts["cached"] == 2 * facts["figures"]["inconsistent"]["rows"]
    )  # orders
    lines: list[str] = []
    assert ran("rlaif_dpo", given, out, lines.append) == manifest
    assert {"labels: done before", "dpo: done before"} <= {*lines}


def foretold(name, overrides, out):
    """Forecasts of the judges' calls, by step and judge, where 16 rows are kept; and as text."""
    pipeline = load(PACKAGED.file(Path(name)), overrides)
    rows = [Forecast("outputs", Records(len(WORDS), counted=True), False, None, "")]
    found = forecast_of_judges(pipeline, out, dict.fromkeys(recipes_of(pipeline), rows))
    by_name = {(one.name, one.judge.rpartition(":")[2]): one for one in found}
    return by_name, "\n".join(forecast_lines(found))


def test_calls_of_judges_are_foretold_at_most_and_by_rounds(small, tmp_path):
    """4 answers a prompt are 2 pairs, each asked about in both orders."""
    prices = [f"train.3.judge.{one}" for one in ("price_input=1", "price_output=2", "max_cost=3")]
    found, text = foretold("rlaif", [*small("rlaif"), *prices], tmp_path / "out")
    labels = found["labels", "longer"]
    assert (labels.calls, labels.output_tokens, labels.exact) == (16 * 4, 16 * 4 * 16, False)
    assert labels.cost >= (labels.input_tokens + 2 * labels.output_tokens) / 1e6
    assert labels.cost == pytest.approx(labels.calls * labels.dearest, rel=0.01)
    assert "  labels: at most 64 calls of scripted:" in text
    cap = f"; max_cost $3, never passed while no answer costs more than ${labels.dearest:.4f}"
    assert cap in text
    assert "asked again, at most 2 times" in text

    found, text = foretold("self_rewarding", small("self_rewarding"), tmp_path / "out")
    for judge in ("longer", "lenient"):  # two rounds, and a second judge
        assert (found["labels", judge].rounds, found["labels", judge].calls) == (2, 2 * 16 * 4)
        assert found["against_first", judge].calls == 2 * 16 * 2
    assert "labels (2 rounds): at most 128 calls" in text
    assert "cost not known (set price_input and price_output)" in text
    assert "  in all: at most 384 calls, " in text

    found, text = foretold("constitutional_ai", small("constitutional_ai"), tmp_path / "out")
    assert found["revised", "longer"].calls == 16 * 4  # critique and revision, in two rounds
    found, text = foretold("con_j", small("con_j"), tmp_path / "out")
    assert "  before: 32 calls of " in text  # the pairs are given
    assert "  judgements: at most 96 calls of " in text  # and of each order with either hint


def test_constitutional_ai_revises_and_joins_human_pairs_where_there_are_any(small, tmp_path):
    given = [*small("constitutional_ai", trained(small, tmp_path)), "pairs.source=pairs.jsonl"]
    out = tmp_path / "out"
    manifest = ran("constitutional_ai", given, out)
    folders = made(manifest, out)
    revised = pl.read_parquet(folders["revised"] / "kept.parquet").to_dicts()
    for row in revised:
        extra = json.loads(row["extra"])
        assert row["messages"][-1]["content"] == f"{extra['first_answer']} b b"
        assert len(extra["principles"]) == len(extra["critiques"]) == 2
    ai, hybrid = (pl.read_parquet(folders[x] / "kept.parquet") for x in ("ai", "hybrid"))
    assert hybrid.height == ai.height + len(WORDS)
    assert hybrid["id"].is_unique().all()
    alone = load(PACKAGED.file(Path("constitutional_ai")), given[:-1])
    assert alone.pairs is None


def trained(small, tmp_path):
    """A tiny model that ends its answers."""
    text = "base: null\nrows: {source: null}\ntrain: [{sft: " + SFT + "}]\n"
    Path("sft.yaml").write_text(text)
    manifest = run(load(Path("sft.yaml"), small("rlaif")[0:3:2]), tmp_path / "sft")
    return tmp_path / "sft" / manifest["models"][0]["path"]


def answers(path, **by_prompt):
    """Ranked rows with one answer a prompt, and the model that gave it."""
    said = [
        {
            "prompt": [turn("user", prompt)],
            "completions": [[turn("assistant", text)]],
            "extra": json.dumps({"sampled_from": model, "sampled_lineage": [model]}),
        }
        for prompt, (text, model) in by_prompt.items()
    ]
    rows = [
        {"id": f"r:{at}", "source": "r", "row": at, "kind": "ranked", "digest": str(at), **one}
        for at, one in enumerate(said, 1)
    ]
    pl.DataFrame(
        rows, {k: v for k, v in schema_of("ranked").items() if k in rows[0]}
    ).write_parquet(path)
    return path


def test_answers_of_two_models_are_judged_side_by_side(small, tmp_path):
    new = answers(
        tmp_path / "new.parquet", a=("xx", "n"), b=("xx", "n"), c=("x", "n"), d=("x", "n")
    )
    old = answers(tmp_path / "old.parquet", b=("x", "o"), a=("x", "o"), c=("yy", "o"))
    facts = Versus(against=str(old))(new, tmp_path / "both")
    assert facts == {"rows": 3, "left_out": 1}
    rows = pl.read_parquet(tmp_path / "both/kept.parquet").to_dicts()
    assert [[one[0]["content"] for one in row["completions"]] for row in rows] == [
        ["xx", "x"],
        ["xx", "x"],
        ["x", "yy"],
    ]
    judged = Judge(judge=JUDGE, second=JUDGE)(tmp_path / "both/kept.parquet", tmp_path / "judged")
    assert judged["figures"]["win_rate"]["value"] == pytest.approx(2 / 3)
    assert "self_preference" in judged["not_measured"]  # the judge is neither of the two

    assert judged["kin"] == {"first": {"not known": 3}, "second": {"not known": 3}}
    assert "kin to a model that answered is not known" in judged["not_measured"]["self_preference"]


def test_kin_are_models_with_a_common_ancestor_and_only_they_have_a_self_preference(
    small, tiny_model_dir, tmp_path, monkeypatch
):
    """The judge is the base of the model that answered first; of the second nothing is known."""
    base = model_hash(tiny_model_dir)
    assert base_facts(tiny_model_dir)["ancestors"] == []
    trained = tmp_path / "trained"
    shutil.copytree(tiny_model_dir, trained)
    facts = {"base": {"hash": "parent", "ancestors": [base]}}
    (trained / "siftune.json").write_text(json.dumps(facts))
    assert lineage(trained) == [base, "parent", base]  # its weights are the base's, here
    assert base_facts(trained)["ancestors"] == ["parent", base]

    said = [["child", base], ["other"]]
    rows = tmp_path / "both.parquet"
    texts = [("aa", "b"), ("b", "aa"), ("a", "bb"), ("bb", "a")]
    answers(rows, **{w: (first, "m") for w, (first, _) in zip("abcd", texts, strict=True)})
    table = pl.read_parquet(rows).with_columns(
        extra=pl.lit(json.dumps({"sampled_lineage": said})),
        completions=pl.Series([[[turn("assistant", one)] for one in both] for both in texts]),
    )
    table.write_parquet(rows)
    monkeypatch.setattr(Judge, "_lineage", [base])
    facts = Judge(judge=JUDGE, second=JUDGE, keep_none=True)(rows, tmp_path / "judged")
    assert facts["kin"] == {"first": {"kin": 4}, "second": {"not known": 4}}
    assert "equal answers" in facts["not_measured"]["self_preference"]  # it is asked for
    step = judged_steps({"made": [{"label": "x", "rows": 4, "judged": facts}]})[0]
    assert step["kin"] == (
        "the judge and the models of the first answers: kin (a common ancestor); "
        "of the second answers: not known to be kin"
    )


JUDGE_FILE = """
from pathlib import Path
from siftune.curate.judge_calls.types import BackendError

def judge(messages):
    if Path("down").exists() and "say a" in messages[1]["content"]:
        raise BackendError("timeout")
    shown = messages[1]["content"]
    return "A" if shown.index("worse") > shown.index("better") else "B"
"""
PAIRS_RECIPE = """
base: {base}
judge: scripted:judge.py:judge
pairs: {{source: few.jsonl}}
train: [{{judge: {{data: pairs, task_options: {{ties: false}}}}}}]
"""


def test_calls_that_failed_are_made_again_by_the_same_command(small, tiny_model_dir, tmp_path):
    rows = [{"prompt": f"say {w}", "chosen": "worse", "rejected": "better"} for w in "abc"]
    Path("few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("judge.py").write_text(JUDGE_FILE)
    Path("pairs.yaml").write_text(PAIRS_RECIPE.format(base=tiny_model_dir))
    pipeline, out = load(Path("pairs.yaml")), tmp_path / "out"
    Path("down").touch()
    first = run(pipeline, out)["made"][0]
    assert (first["rows"], first["judged"]["left_out"]["timeout"]) == (2, 1)
    assert first["judged"]["to_retry"] == 1
    assert first["judged"]["cost"] is None  # prices of the judge are not known: not 0
    command = ["pipelines", "run", "pairs.yaml", "--out", str(out)]
    partial = CliRunner().invoke(siftune, command)
    listed = out / first["path"] / "unscored.jsonl"
    assert partial.exit_code == PARTIAL
    assert f"judge: not scored by its judge: 1 timeout; each is in {listed}" in partial.output
    (lost,) = map(json.loads, listed.read_text().splitlines())
    assert (lost["id"], lost["error"]) == ("few:1", "timeout")
    Path("down").unlink()
    whole = CliRunner().invoke(siftune, command)
    assert (whole.exit_code, listed.exists()) == (0, False)
    second = run(pipeline, out)["made"][0]
    assert (second["path"], second["rows"]) == (first["path"], 3)
    assert second["judged"]["asked"] == 2  # the answers that came are in the cache
    kept = pl.read_parquet(out / second["path"] / "kept.parquet").to_dicts()
    assert {row["chosen"][0]["content"] for row in kept} == {"better"}


def test_a_judge_that_only_sees_the_order_labels_nothing(small, tmp_path):
    first = JUDGE.replace(":longer", ":first")
    with pytest.raises(
        DataError, match="no labelled pair came of it: 16 inconsistent; agree: false"
    ):
        Judge(judge=first, task_options={"ties": False})(Path("pairs.jsonl"), tmp_path / "out")
    measured = Judge(judge=first, task_options={"ties": False}, keep_none=True)
    facts = measured(Path("pairs.jsonl"), tmp_path / "none")
    assert (facts["kept"], facts["figures"]["accuracy"]["value"]) == (0, 0.5)
    assert pl.read_parquet(tmp_path / "none/kept.parquet").is_empty()
    with pytest.raises(DataError, match=r"no labelled pair came of it: 16 tie$"):  # the mean is ½
        Judge(judge=first, agree=False)(Path("pairs.jsonl"), tmp_path / "out")
    facts = Judge(judge=JUDGE)(Path("pairs.jsonl"), tmp_path / "out")
    assert facts["figures"]["position"]["value"] == 0.0


OWN_TASK = """
from siftune.curate.judge_tasks.pairwise import Pairwise

class Plain(Pairwise):
    adds = {name: Pairwise.adds[name] for name in ("winner", "preference")}

    def verdict(self, item, parsed):
        found = super().verdict(item, parsed)
        return {name: found[name] for name in self.adds}
"""


@pytest.mark.parametrize("task", ["contrastive", "plain.py:Plain"])
def test_any_task_with_a_winner_and_a_preference_labels_pairs(small, tmp_path, task):
    Path("plain.py").write_text(OWN_TASK)
    facts = Judge(judge=JUDGE, task=task)(Path("pairs.jsonl"), tmp_path / "out")
    assert facts["kept"] == 16
    assert ("position" in facts["figures"]) == (task == "contrastive")


def test_a_cap_on_money_needs_prices_and_a_server_its_model():
    with pytest.raises(UsageError, match="max_cost needs price_input"):
        Judge(judge=JUDGE, max_cost=1.0)
    paid = {"http://h/v1#a": {"input": 1, "output": 1}}
    with pytest.raises(UsageError, match="max_cost: the judge http://h/v1#b has no price"):
        Judge(judge="http://h/v1#a", second="http://h/v1#b", max_cost=1.0, prices=paid)
    with pytest.raises(UsageError, match="name the model, as https://host/v1#MODEL"):
        Judge(judge="https://host/v1")


def test_a_second_server_with_the_same_name_of_a_model_is_refused():
    servers = {"judge": "http://a/v1#local", "second": "http://b/v1#local"}
    with pytest.raises(UsageError, match=r"two judges are 'server:local' .* the option name"):
        Judge(**servers).check_options()
    Judge(**servers, second_options={"name": "b"}).check_options()


def test_in_self_rewarding_the_model_of_the_round_answers_and_judges(small, tmp_path):
    given = small("self_rewarding")
    steps = load(
        PACKAGED.file(Path("self_rewarding")), [one for one in given if "judge=" not in one]
    )
    judges = [step.options["judge"] for step in steps.train if step.method == "judge"]
    assert judges == ["step:sft", "step:m-1", "step:m-1", "step:m-2"]

    out = tmp_path / "out"
    manifest = ran("self_rewarding", given, out)
    assert [one["label"] for one in manifest["models"]] == ["sft", "m-1", "m-2"]
    hashes = {one["label"]: one["hash"] for one in manifest["models"]}
    told = {one["label"]: one["inputs"]["models"] for one in manifest["made"]}
    assert told["answers-1"] == {"sft": hashes["sft"]}
    assert told["answers-2"] == {"m-1": hashes["m-1"]}
    rounds = manifest["rounds"]
    assert [(one["label"], one["round"]) for one in rounds["measured"]] == [
        ("labels-1", 1),
        ("against_first-1", 1),
        ("labels-2", 2),
        ("against_first-2", 2),
    ]
    measured = rounds["measured"]
    for at, name in ((2, "agreement"), (3, "position")):
        both = [measured[at - 2]["figures"], measured[at]["figures"]]
        assert name in measured[at]["changes"]
        # a tiny model may write as many words for every prompt, which has no interval
        assert ("length" in measured[at]["changes"]) == all("length" in one for one in both)
    for one in rounds["measured"][1::2]:
        assert "win_rate" in {**one["figures"], **one["not_measured"]}
        assert "length_controlled" in {**one["figures"], **one["not_measured"]}
    page = write_report(out).read_text(encoding="utf-8")
    assert "Drift over the rounds" in page
    lengths = any("length" in one["changes"] for one in measured[2:])
    assert ("words of an answer, times those of round 1: <b>" in page) == lengths
    assert "Biases of the judges" in page
    assert "loss of kappa with the second judge since round 1 " in result_text(manifest, out)
    kept = pl.read_parquet(made(manifest, out)["labels-1"] / "kept.parquet")
    assert (kept["margin"] > 0).all()

    lines: list[str] = []
    assert ran("self_rewarding", given, out, lines.append) == manifest
    assert all("done before" in line for line in lines if line.startswith(("answers", "labels")))


def test_con_j_learns_from_right_against_wrong_judgements(small, tmp_path):
    out = tmp_path / "out"
    base = language_model(tmp_path / "base", context=2048)  # a question of the judge fits
    manifest = ran("con_j", small("con_j", base), out)
    rows = pl.read_parquet(made(manifest, out)["judgements"] / "kept.parquet").to_dicts()
    assert rows
    for row in rows:
        right = "A" if row["id"].endswith("#given") else "B"
        assert row["chosen"][0]["content"].endswith(f"Verdict: {right}")
        assert not row["rejected"][0]["content"].endswith(f"Verdict: {right}")
        assert "is the better one" not in row["prompt"][-1]["content"]
    facts = json.loads((made(manifest, out)["judgements"] / "judging.json").read_text())
    assert facts["sampled"] == {"right": len(rows), "wrong": 0}
    assert facts["hinted"] == len(rows)
    judged = {
        name: json.loads((made(manifest, out)[name] / "judging.json").read_text())
        for name in ("after", "before_reasons", "after_reasons")
    }
    for name in ("after", "after_reasons"):
        assert judged[name]["figures"]["accuracy"]["value"] == 1.0
    none = judged["before_reasons"]  # nothing parses: counted, and the training goes on
    assert none["kept"] == 0
    assert none["left_out"]["unparsed"] == judged["after_reasons"]["kept"] > 0
    assert "accuracy" in none["not_measured"]

    told = result_text(manifest, out)
    assert f"judgements: {len(rows)} rows" in told
    assert "accuracy on the given labels 1 (" in told
    manifest["rounds"] = {"stopped": [{"label": "labels-2", "reasons": ["a", "b"]}]}
    told = result_text(manifest, out)
    assert "the rounds end at labels-2, with none of the later steps of a round: a; b" in told
    page = write_report(out).read_text(encoding="utf-8")
    assert "What the judges said" in page
    assert "<th>agreement: accuracy on given labels</th>" in page
    assert "<td>1 (" in page


def test_rows_of_several_steps_are_joined_if_they_are_of_one_kind(small, tmp_path):
    joined = tmp_path / "joined"
    Concat(also=("pairs.jsonl", None))(Path("pairs.jsonl"), joined)
    table = pl.read_parquet(joined / "kept.parquet")
    assert table["id"].to_list()[:: len(WORDS)] == ["pairs:1#1", "pairs:1#2"]
    with pytest.raises(UsageError, match=r"expected preference rows, .* has conversation"):
        Concat(also=("rows.jsonl",))(Path("pairs.jsonl"), tmp_path / "other")
