"""Small models that more than one test package needs."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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


_MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def _module(index: int, name: str, path: str | None = None) -> dict[str, str | int]:
    where = f"{index}_{name}" if path is None else path
    kind = f"sentence_transformers.models.{name}"
    return {"idx": index, "name": str(index), "path": where, "type": kind}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
