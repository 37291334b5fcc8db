"""Convert a GGUF file to a model folder: float32 safetensors, tokenizer and chat template."""

from __future__ import annotations

from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_converter", "convert_gguf"]

_NEEDS: Final = ("torch", "transformers", "gguf")


def check_converter() -> None:
    """Refuse to start where a package for the conversion is missing.

    Raises:
        UsageError: the text names the package.
    """
    for package in _NEEDS:
        if find_spec(package) is None:
            raise UsageError(f"reading a GGUF file needs {package}: pip install 'siftune[train]'")


def convert_gguf(gguf: Path, out: Path) -> None:
    """Write the model of ``gguf`` to ``out``; every float32 value of the dequantised file is kept.

    bfloat16 would halve the folder and round the weights: a 4-bit value times its block's float16
    scale has more bits than bfloat16.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": gguf.name, "local_files_only": True}
    with quiet_transformers(), redirect_stderr(StringIO()):  # its progress bar
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
        _as_unquantised(model)
        _restore_pre_tokenizer(tokenizer, gguf)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def _as_unquantised(model: Any) -> None:
    """Remove the quantisation mark of the weights: transformers would refuse to save them."""
    del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None


def _restore_pre_tokenizer(tokenizer: PreTrainedTokenizerBase, gguf: Path) -> None:
    """Set the pre-tokenizer of the model's own tokenizer.

    GGUF has the rule by name, ``tokenizer.ggml.pre``, and transformers takes GPT-2's for every
    name: SmolLM2 would read a blank line before a digit as two tokens that are one.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    fields = GGUFReader(gguf).fields
    kind, rule = (
        fields[key].contents() if key in fields else None
        for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    )
    if kind != "gpt2":
        return
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known = {
        "gpt-2": gpt2,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
    }
    if rule not in known:
        raise UsageError(
            f"{gguf.name}: its texts are split by the rule {rule!r}, and only those of "
            f"{', '.join(known)} can be converted"
        )
    tokenizer.backend_tokenizer.pre_tokenizer = known[rule]
