"""Scores of reward models and classifiers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.scorers.classifier import Classifier
from tests.curate.lm_reference import BOT, USER, Chat, table
from tests.tiny_models import reward_model

OPTIONS = [{"model": "RM", "precision": "bf16"}]
NO_PATHS = ["label"]

CHATS: list[Chat] = [
    [(USER, "Name a colour."), (BOT, "Blue.")],
    [(USER, "the sea " * 200), (BOT, "Blue.")],
    [(USER, "Say hello.")],
    [(USER, "Say hello."), (BOT, "Hello, king!"), (USER, "Thanks")],
]


@pytest.fixture(scope="module")
def rewards(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_model(tiny_model_dir, tmp_path_factory.mktemp("rm") / "rm")


def logits(model: Path, chat: Chat) -> list[float]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": role, "content": text} for role, text in chat]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found = AutoModelForSequenceClassification.from_pretrained(model)(input_ids=ids).logits[0]
    return [float(one) for one in found]


def test_a_reward_is_the_models_number_and_a_long_row_is_counted_not_cut(rewards: Path) -> None:
    found = Classifier(str(rewards))(table(*CHATS))
    expected = [logits(rewards, CHATS[0])[0], None, None, logits(rewards, CHATS[3][:2])[0]]
    assert found["classifier"].to_list() == pytest.approx(expected, abs=1e-4)
    assert found["classifier_error"].to_list() == [None, "too_long", "no_answer", None]


@pytest.fixture(scope="module")
def classes(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("classes") / "model"
    torch.manual_seed(0)
    names = {0: "bad", 1: "fair", 2: "good"}
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model_dir, num_labels=3, id2label=names, label2id={n: i for i, n in names.items()}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(folder)
    return folder


def test_of_several_classes_the_score_is_the_probability_of_one(classes: Path) -> None:
    found = Classifier(str(classes), label="good")(table(CHATS[0]))
    shares = torch.tensor(logits(classes, CHATS[0])).softmax(0).tolist()
    assert found[0, "classifier"] == pytest.approx(shares[2], abs=1e-4)
    assert found[0, "classifier_class"] == ["bad", "fair", "good"][shares.index(max(shares))]


def test_classes_without_a_label_to_score_are_named(classes: Path) -> None:
    with pytest.raises(UsageError, match="bad, fair, good: set the option label"):
        Classifier(str(classes))(table(CHATS[0]))
    with pytest.raises(UsageError, match="expected the class great, got bad, fair, good"):
        Classifier(str(classes), label="great")(table(CHATS[0]))
