"""Log-probabilities of a policy, and against a reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.schema import BASE, CONTENT
from siftune.curate.rows.chat import turn
from siftune.curate.rows.conversation_views import score, score_schema
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from siftune.curate.scorers.perplexity import Perplexity
from siftune.curate.scorers.policy_logp import PolicyLogp
from tests.curate.lm_reference import BOT, USER, Reference, table
from tests.tiny_models import language_model

OPTIONS = [{"model": "LM", "precision": "bf16", "reference": "LM"}]

CHAT = [(USER, "Name a colour."), (BOT, "Blue is a colour.")]
PAIR = {"prompt": CHAT[0][1], "chosen": "Blue.", "rejected": "The cat sat on the mat."}


def test_it_is_the_log_probability_of_the_answer_and_its_end(tiny_model_dir: Path) -> None:
    reference = Reference(tiny_model_dir)
    loss, _ = reference.pair(CHAT, "chat")
    tokens = len(reference.ids(CHAT[1][1] + "<|im_end|>"))
    found = PolicyLogp(str(tiny_model_dir))(table(CHAT))
    assert found.row(0) == pytest.approx((-loss, -loss * tokens), rel=1e-5)
    perplexity = Perplexity(str(tiny_model_dir), "chat")(table(CHAT))
    assert math.exp(-found[0, 0]) == pytest.approx(perplexity[0, 0], rel=1e-5)


def test_the_ratio_is_to_the_reference_and_zero_to_itself(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    other = language_model(tmp_path / "other", context=64)
    found = PolicyLogp(str(tiny_model_dir), reference=str(other))(table(CHAT))
    alone = PolicyLogp(str(other))(table(CHAT))
    expected = found[0, "policy_logp_sum"] - alone[0, "policy_logp_sum"]
    assert found[0, "policy_logp_ratio"] == pytest.approx(expected, rel=1e-9)
    own = PolicyLogp(str(tiny_model_dir), reference=str(tiny_model_dir))(table(CHAT))
    assert own[0, "policy_logp_ratio"] == 0


def pairs() -> pl.DataFrame:
    sides = {name: [[turn(BOT, PAIR[name])]] for name in ("chosen", "rejected")}
    content = {"prompt": [[turn(USER, PAIR["prompt"])]], **sides}
    base = {"id": ["a:1"], "source": ["a"], "row": [1], "kind": ["preference"]}
    rows: Any = {**base, "digest": ["0"], "extra": [None], **content}
    return pl.DataFrame(rows, schema=dict(BASE) | dict(CONTENT["preference"]))


def test_a_pair_has_the_gap_of_its_sides(tiny_model_dir: Path) -> None:
    scorer = PolicyLogp(str(tiny_model_dir), reference=str(tiny_model_dir))
    found = score(scorer, pairs())
    assert found.columns == ["id", *score_schema(scorer, "preference")]
    assert found.columns[-2:] == ["policy_logp_gap", "policy_logp_ratio_gap"]
    sides = found[0, "chosen_policy_logp"], found[0, "rejected_policy_logp"]
    assert found[0, "policy_logp_gap"] == sides[0] - sides[1] != 0
    assert "policy_logp_gap" not in score(scorer, pairs(), "chosen").columns


def test_the_gap_of_pairs_is_a_column_that_later_stages_read(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "pairs.jsonl"
    rows.write_text(pl.DataFrame([PAIR]).write_ndjson())
    stages = [
        {"score": "policy_logp", "model": str(tiny_model_dir)},
        {"select": "threshold", "by": "policy_logp_gap", "min": -100},
    ]
    done = run(parse({"source": str(rows), "stages": stages}), tmp_path / "run")
    assert done.manifest["counts"]["kept"] == 1
    assert "policy_logp_gap" in pl.read_parquet_schema(tmp_path / "run/kept.parquet")
