"""Small models with random weights, made in a moment and saved as folders."""

from __future__ import annotations

import json
import string
from pathlib import Path

__all__ = [
    "SENTENCES",
    "embedder",
    "gated_reward_model",
    "language_model",
    "quality_head",
    "reward_model",
]

SENTENCES = [
    "The cat sat on the mat and looked at the sea.",
    "What is the capital of France? The capital of France is Paris.",
    "What is two plus two? Two plus two is four.",
    "Say hello to the king. Hello, king!",
    "Name a colour. Blue is a colour, red is another.",
    "user assistant system question answer yes no good bad long short",
]


def embedder(folder: Path) -> Path:
    """A sentence-transformers folder: BERT of width 32, two layers.

    Its tokens are letters, digits and signs; its window is 64 tokens, two of them special.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

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


def language_model(folder: Path, context: int = 128) -> Path:
    """A Llama of width 32, one layer, some 300 tokens; ``text.txt`` beside it is their source."""
    from siftune.finetune.tools.init import Init

    text = folder.parent / "text.txt"
    text.write_text("\n\n".join(SENTENCES))
    Init(vocab_size=320, hidden=32, layers=1, heads=2, context=context, steps=0)(text, folder)
    return folder


def reward_model(model: Path, folder: Path) -> Path:
    """A reward model with the tokenizer and trunk of a language model, and a random head."""
    from siftune.finetune.models.loading import load_reward, load_tokenizer
    from siftune.finetune.models.saving import save_model

    facts = {"stage": "reward", "method": "none", "seed": 0}
    save_model(load_reward(model), load_tokenizer(model), folder, facts)
    return folder


def gated_reward_model(model: Path, folder: Path) -> Path:
    """A model of two attributes with random heads, and a random gate."""
    import torch

    from siftune.finetune.models.loading import load_reward, load_tokenizer
    from siftune.finetune.reward_models.gate import Gate

    made, names = load_reward(model, classes=["helpful", "short"]), ("helpful", "short")
    made.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)
    width = made.config.hidden_size
    layer = (torch.randn(2, width, generator=torch.Generator().manual_seed(1)), torch.zeros(2))
    zeros, ones = torch.zeros(width), torch.ones(width)
    Gate(names, "short", torch.tensor([0.5, 0]), zeros, ones, (layer,), 1.0, 1.0).save(folder)
    return folder


def quality_head(folder: Path) -> Path:
    """A head of ratings from 1 to 5 on simple features, with weights that fit nothing."""
    import numpy as np

    from siftune.curate.heads.features import Features
    from siftune.curate.heads.head import Head
    from siftune.curate.judge_stats.calibration import Calibrator

    features = Features("simple")
    weights = np.linspace(-0.5, 0.7, features.width)
    folder.mkdir()
    Head("rating", features, weights, 0.1, Calibrator("platt", slope=1.0), 1.0, 5.0).write(folder)
    return folder


_MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def _module(index: int, name: str, path: str | None = None) -> dict[str, str | int]:
    where = f"{index}_{name}" if path is None else path
    kind = f"sentence_transformers.models.{name}"
    return {"idx": index, "name": str(index), "path": where, "type": kind}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
