"""Models with random weights in the shapes of MiniLM and SmolLM2, and tokenizers of made-up words.

They cost what the real ones cost, and need no download; what they compute means nothing. A small
model has two layers; a small language model is narrow, too, and knows the made-up words alone.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Final

from benchmarks.made_up import WORDS, vocabulary

__all__ = ["encoder", "language_model", "llama_options"]

MINILM: Final[dict[str, Any]] = {
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
SMOLLM2: Final = {"width": 576, "layers": 30, "heads": 9, "groups": 3, "vocabulary": 49_152}
_SMALL: Final = {"width": 192, "layers": 2, "heads": 3, "groups": 1, "vocabulary": WORDS + 1_000}
_WINDOW: Final = 256
_MEAN: Final = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
_SPECIAL: Final = {"unk_token": "[UNK]", "pad_token": "[PAD]"}


def llama_options(small: bool) -> dict[str, int]:
    """The shape of SmolLM2-135M, or of its small version."""
    return SMOLLM2 | (_SMALL if small else {})


def encoder(folder: Path, small: bool) -> Path:
    """A sentence-transformers folder in the shape of all-MiniLM-L6-v2, its window 256 tokens."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [*string.printable.strip(), *(f"##{one}" for one in string.printable.strip())]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = list(dict.fromkeys([*special, *letters, *vocabulary()]))
    tokenizer = Tokenizer(
        models.WordPiece({token: at for at, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=_WINDOW, sep_token="[SEP]", **_SPECIAL
    ).save_pretrained(folder)
    torch.manual_seed(0)
    layers = 2 if small else 6
    config = BertConfig(vocab_size=30_522, num_hidden_layers=layers, **MINILM)
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 384} | _MEAN)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": _WINDOW})
    _write(folder / "modules.json", [_module(0, "Transformer", ""), _module(1, "Pooling")])
    return folder


def language_model(folder: Path, small: bool) -> Path:
    """A folder of a Llama in the shape of SmolLM2-135M; a word is a token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shape = llama_options(small)
    words = dict.fromkeys(["[PAD]", "<s>", "</s>", "[UNK]", ".", *vocabulary()])
    words |= {word.capitalize(): None for word in words}
    tokens = {word: at for at, word in enumerate([*words][: shape["vocabulary"]])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **_SPECIAL
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape["vocabulary"],
            hidden_size=shape["width"],
            intermediate_size=shape["width"] * 8 // 3,
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["groups"],
            max_position_embeddings=8192,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    return folder


def _module(index: int, name: str, path: str | None = None) -> dict[str, Any]:
    where = f"{index}_{name}" if path is None else path
    kind = f"sentence_transformers.models.{name}"
    return {"idx": index, "name": str(index), "path": where, "type": kind}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
