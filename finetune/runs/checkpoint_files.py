"""Names of the files of a checkpoint: ours, and those of transformers, PEFT and tokenizers."""

from __future__ import annotations

from typing import Final

__all__ = ["CHECKPOINT_FILES"]

_SHARD: Final = "-{number}-of-{number}"
_WEIGHTS: Final = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin")
_TOKENIZER: Final = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "chat_template.jinja", "processor_config.json"),
)
_STATE: Final = (
    *("trainer_state.json", "training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt"),
    *("scaler.pt", "rng_state.pth", "rng_state_{number}.pth"),
)
_FSDP: Final = ("pytorch_model_fsdp_{number}", "optimizer_{number}")

CHECKPOINT_FILES: Final = (
    *("sealed.json", "pending.json", "pending_{number}.json", "ppo.json"),
    *("reference.safetensors", "value_head.safetensors"),
    *_WEIGHTS,
    *(f"{name}.index.json" for name in _WEIGHTS),
    *(f"model{_SHARD}.safetensors", f"pytorch_model{_SHARD}.bin", "pytorch_model_fsdp.bin"),
    *("config.json", "generation_config.json", "adapter_config.json", "README.md"),
    *_TOKENIZER,
    *_STATE,
    *(f"{folder}/" for folder in _FSDP),
    *(
        f"{folder}/{name}"
        for folder in _FSDP
        for name in (".metadata", "__{number}_{number}.distcp")
    ),
)
"""What may be in a checkpoint that is not sealed; a sealed one has a list of its own."""
