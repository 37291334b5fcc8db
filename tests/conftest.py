"""Small models that more than one test package needs."""

from __future__ import annotations

import gc
import json
import os
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

gc.disable()  # what collecting imports stays; to look through it takes a third of the time
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["SIFTUNE_STAGE_CACHE"] = ""  # a test finds no stages of another one

# A change is judged by the same examples; a busy machine is no fault, pytest's timeout is enough.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))  # `default` looks further

SENTENCES = [
    "The cat sat on the mat and looked at the sea.",
    "What is the capital of France? The capital of France is Paris.",
    "What is two plus two? Two plus two is four.",
    "Say hello to the king. Hello, king!",
    "Name a colour. Blue is a colour, red is another.",
    "user assistant system question answer yes no good bad long short",
]


def pytest_collection_finish() -> None:
    """Search for garbage again from here on."""
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def what_stays_is_not_searched_for_garbage() -> None:
    """Leave the imported modules and collected tests out of `gc.collect`.

    A trainer of transformers collects at its end, and would go through the millions of objects
    that torch and pytest hold for as long as the process lives: a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def fp32_unless_asked() -> Iterator[None]:
    """``precision: auto`` is fp32 in tests, on a processor that multiplies bf16 too.

    Of the session, since fixtures of a module train before those of a function are made.
    """
    with pytest.MonkeyPatch.context() as own:  # a test may undo the patches of its `monkeypatch`
        own.setattr("curate.core.precision.multiplies_bf16", lambda device: False)
        yield


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: BERT of width 32, two layers, random weights.

    Its tokens are letters, digits and signs; its window is 64 tokens, two of them special.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-embedder"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.printable.strip()]
    tokenizer = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, sep_token="[SEP]", **special
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 32} | _MEAN)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 64})
    _write(folder / "modules.json", [_module(0, "Transformer", ""), _module(1, "Pooling")])
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model folder: Llama of width 32, one layer, some 300 tokens, random weights."""
    from finetune.init import Init

    folder = tmp_path_factory.mktemp("models")
    text = folder / "text.txt"
    text.write_text("\n\n".join(SENTENCES))
    Init(vocab_size=320, hidden=32, layers=1, heads=2, context=128, steps=0)(text, folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def tiny_reward_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved reward model with the tiny model's tokenizer and trunk, and a random head."""
    from finetune.models import load_reward, load_tokenizer
    from finetune.saving import save_model

    out = tmp_path_factory.mktemp("models") / "tiny-reward"
    facts = {"stage": "reward", "method": "none", "seed": 0}
    save_model(load_reward(tiny_model_dir), load_tokenizer(tiny_model_dir), out, facts)
    return out


_MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def _module(index: int, name: str, path: str | None = None) -> dict[str, str | int]:
    where = f"{index}_{name}" if path is None else path
    kind = f"sentence_transformers.models.{name}"
    return {"idx": index, "name": str(index), "path": where, "type": kind}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
