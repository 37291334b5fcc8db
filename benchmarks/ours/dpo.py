"""A few steps of DPO on random tokens: by our trainer, by TRL's, and by TRL's with plain logits."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.worker import Facts, Options, peak_mb, serve, timed
from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.collator import AnswerCollator

END, PAD = 2, 0
"""Tokens that end and that pad."""


def work(options: Options) -> Facts:
    """Options: way (siftune, siftune-unshared, trl, trl-plain), prompt, answer, pairs, steps.

    The model has ``layers``, ``width``, ``vocabulary``, and ``heads`` (4) and ``groups`` of keys
    (4), if they are given; ``device`` is cpu, with ``threads`` (1), or cuda.
    """
    torch.set_num_threads(options.get("threads", 1))
    with tempfile.TemporaryDirectory() as folder:
        trainer = _ours(options, folder) if "siftune" in options["way"] else _trl(options, folder)
        return _measured(trainer, options)


def list_work(options: Options) -> Facts:
    """Forward and backward of K answers to one prompt, as a list or as all K(K-1)/2 pairs."""
    from siftune.finetune.data.packing import share_prefixes
    from siftune.finetune.scoring.logps import score_answers

    torch.set_num_threads(1)
    model, count, facts = llama(options), options["answers"], Facts()
    if options["way"] == "list" and (why := share_prefixes(model)) is not None:
        raise RuntimeError(why)
    draw = torch.Generator().manual_seed(1)
    prompt = _tokens(options["prompt"], options, draw)
    answers = [_tokens(options["answer"], options, draw) for _ in range(count)]
    pairs = [(answers[a], answers[b]) for a in range(count) for b in range(a + 1, count)]
    with timed(facts):
        if options["way"] == "list":  # a batch of pairs is laid out as a list of rows: any will do
            rows = [*answers, answers[-1]] if count % 2 else answers
            half = len(rows) // 2
            pairs = list(zip(rows[:half], rows[half:], strict=True))
        for at in range(0, len(pairs), 7):
            batch = AnswerCollator(PAD)(
                [AnswerRow(str(n), prompt, [*both]) for n, both in enumerate(pairs[at : at + 7])]
            )
            score_answers(model, batch)["policy"].sum().backward()
    facts["tokens"] = (
        options["prompt"] + count * options["answer"]
        if options["way"] == "list"
        else 2 * math.comb(count, 2) * (options["prompt"] + options["answer"])
    )
    return facts


def cost_of(trainer: Any, options: Options) -> Facts:
    """Seconds and greatest extra memory of the training of a trainer, ours or a peer's."""
    facts: Facts = {}
    forget_peak()
    before = resident_mb()
    with timed(facts):
        trainer.train()
    facts["extra_mb"] = peak_mb() - before
    if on_gpu(options):
        facts["gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return facts


def _measured(trainer: Any, options: Options) -> Facts:
    facts = cost_of(trainer, options)
    facts["losses"] = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    pair = 2 * (options["prompt"] + options["answer"])
    facts["tokens"] = options["pairs"] * options["steps"] * pair
    return facts


def on_gpu(options: Options) -> bool:
    """Whether the options ask for a GPU."""
    return bool(options.get("device", "cpu") == "cuda")


def forget_peak() -> None:
    """Let the kernel count the greatest resident memory from here (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident_mb() -> float:
    """Memory that this process holds now."""
    words = Path("/proc/self/status").read_text(encoding="utf-8").split()
    return int(words[words.index("VmRSS:") + 1]) / 1024


def llama(options: Options, seed: int = 0) -> Any:
    """A Llama from its config, the same for every way and ``seed``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    width = options["width"]
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=options["vocabulary"],
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=options["layers"],
            num_attention_heads=options.get("heads", 4),
            num_key_value_heads=options.get("groups", 4),
            max_position_embeddings=2048,
            pad_token_id=PAD,
            bos_token_id=1,
            eos_token_id=END,
            tie_word_embeddings=False,
        )
    )


def _tokens(count: int, options: Options, draw: torch.Generator) -> list[int]:
    found: list[int] = torch.randint(3, options["vocabulary"], (count,), generator=draw).tolist()
    return found


def _pairs(options: Options) -> list[AnswerRow]:
    draw = torch.Generator().manual_seed(1)
    return [
        AnswerRow(
            str(at),
            _tokens(options["prompt"], options, draw),
            [_tokens(options["answer"], options, draw) for _ in range(2)],
        )
        for at in range(options["pairs"] * options["steps"])
    ]


def _settings(options: Options, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": options["pairs"],
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": not on_gpu(options),
        "disable_tqdm": True,
        "seed": 3,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "bf16": False,
        "gradient_checkpointing": False,
        "lr_scheduler_type": "constant",
    }


def _ours(options: Options, folder: str) -> Any:
    from transformers import TrainingArguments

    from siftune.finetune.data.packing import share_prefixes
    from siftune.finetune.losses.pair.dpo import DPO
    from siftune.finetune.scoring.logps import answer_with_scores
    from siftune.finetune.scoring.reference import Frozen
    from siftune.finetune.training.pair_loop import PairTrainer

    policy, reference = llama(options), llama(options).requires_grad_(False)
    if options["way"] == "siftune":
        for model in (policy, reference):
            if (why := share_prefixes(model)) is not None:
                raise RuntimeError(why)
    answer_with_scores(policy)
    args = TrainingArguments(**_settings(options, folder))
    return PairTrainer(
        policy,
        DPO(),
        Frozen(reference),
        args,
        _pairs(options),
        [],
        AnswerCollator(PAD),
        ("entropy", "top1", "logits"),  # what TRL shows too
        options["micro_tokens"],
    )


def _trl(options: Options, folder: str) -> Any:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    if options["way"] == "trl-plain":
        plain_head()
    rows = [
        {"prompt_ids": pair.prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        for pair in _pairs(options)
        for chosen, rejected in [pair.answers]
    ]

    class Ready(DPOTrainer):
        """TRL's own, its rows tokenized already."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    args = DPOConfig(**_settings(options, folder), max_length=None)
    return Ready(
        model=llama(options),
        ref_model=llama(options),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(),
    )


def _tokenizer() -> Any:
    """One that is asked for nothing but its padding."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": PAD, "<s>": 1, "</s>": END}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def plain_head() -> None:
    """In place of TRL's fused head: all logits at once and a log-softmax, its other values too."""
    from trl.trainer import utils

    inside: Any = utils
    inside._ChunkedLogProbFunction = _Plain


class _Plain:
    @staticmethod
    def apply(
        hidden: torch.Tensor, weight: torch.Tensor, bias: Any, labels: torch.Tensor, *_: Any
    ) -> tuple[torch.Tensor | None, ...]:
        logits = torch.nn.functional.linear(hidden, weight, bias)
        logps = torch.log_softmax(logits, -1)
        with torch.no_grad():
            entropy = -(logps.exp() * logps).sum(-1)
            top1 = logits.argmax(-1) == labels
            mean = logits.mean(-1)
        return logps.gather(1, labels[:, None])[:, 0], entropy, None, mean, top1


def _do(options: Options) -> Facts:
    return list_work(options) if options["way"] in ("list", "pairs") else work(options)


if __name__ == "__main__":
    serve(_do)
