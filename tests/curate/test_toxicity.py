"""Toxicity by a head that was fitted to labelled texts, and by a sequence classifier."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.cli import curate
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.toxicity import Toxicity
from tests.tiny_models import quality_head

OPTIONS = [{"model": "HEAD"}]
NO_PATHS = ["label"]

NOUNS = ("play", "song", "match", "novel", "meal", "tune", "plan", "photo", "trip", "talk")


def chats(*answers: str) -> pl.DataFrame:
    rows = [[turn("user", "WHAT?!"), turn("assistant", answer)] for answer in answers]
    return pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})


@pytest.fixture(scope="module")
def shouting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head fitted on texts alone: those in capitals are labelled toxic."""
    folder = tmp_path_factory.mktemp("toxicity")
    calm = [f"The {one} was {how}." for one in NOUNS for how in ("fine", "long", "old")]
    rows = [{"text": text, "is_toxic": "Not Toxic"} for text in calm]
    rows += [{"text": text.upper(), "is_toxic": "Toxic"} for text in calm]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    given = [
        "fit-quality",
        str(folder / "rows.jsonl"),
        "--label",
        "is_toxic",
        "--positive",
        "Toxic",
    ]
    done = CliRunner().invoke(
        curate, [*given, "--features", "simple", "--out", str(folder / "head")]
    )
    assert done.exit_code == 0, done.output
    return folder / "head"


def test_a_head_fitted_to_texts_scores_a_text_without_its_prompt(shouting: Path) -> None:
    scores = Toxicity(str(shouting))(chats("The dance was fine.", "THE DANCE WAS FINE.", " "))
    calm, loud, blank = scores["toxicity"].to_list()
    assert 0 <= calm < 0.3
    assert 0.7 < loud <= 1
    assert blank is None
    of_prompt = Toxicity(str(shouting), of="prompt")(chats("The dance was fine."))
    assert of_prompt["toxicity"].item() > 0.7


def test_of_a_classifier_the_score_is_the_probability_of_the_label(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path / "toxic"
    names = {0: "fine", 1: "toxic"}
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model_dir, num_labels=2, id2label=names, label2id={"fine": 0, "toxic": 1}
    )
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tiny_model_dir / file).exists():
            (folder / file).write_bytes((tiny_model_dir / file).read_bytes())
    shares = [Toxicity(str(folder), label)(chats("Go away.")).item() for label in names.values()]
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(UsageError, match="it has fine, toxic"):
        Toxicity(str(folder))(chats("Go away."))


def test_a_head_has_no_label(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a head has none: leave it out"):
        Toxicity(str(quality_head(tmp_path / "head")), "toxic")(chats("Go away."))
