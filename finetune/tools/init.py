"""Make a small causal language model: tokenizer and weights from given text alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np
import orjson

from siftune.curate.chat.templates import CHATML, CONTROL, THINK
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Count, Natural, Positive, Seed
from siftune.curate.files.atomic import digest_of
from siftune.curate.files.outputs import check_folder
from siftune.curate.rows.chat import contents
from siftune.finetune.core import distributed
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data.training_rows import load
from siftune.finetune.models.loading import device, shown
from siftune.finetune.models.precision import machine_arguments
from siftune.finetune.models.saving import save_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Init", "make_model", "make_tokenizer", "read_texts"]

_COMMAND: Final = "finetune init"


@dataclass(frozen=True)
class Init:
    """A Llama-shaped model with a byte-level BPE tokenizer, pretrained on packed text.

    The proxy model of machines without a hub, and of cheap comparisons. The learning rate warms up
    over a tenth of the steps, then falls as a cosine to a tenth. Equal text, options and seed give
    equal weights on one kind of device.

    Options:
        vocab_size: Largest number of tokens of the vocabulary; little text gives fewer.
        hidden: Width of the model's hidden states.
        layers: Number of transformer layers.
        heads: Number of attention heads.
        context: Largest number of tokens that the model takes.
        steps: Number of optimizer steps of pretraining; 0 leaves random weights.
        lr: Peak learning rate, after a warm-up of a tenth of the steps.
        batch_size: Number of blocks of ``context`` tokens in an optimizer step.
    """

    vocab_size: Count = 2048
    hidden: Count = 128
    layers: Count = 4
    heads: Count = 4
    context: Count = 256
    steps: Natural = 200
    lr: Positive = 3e-3
    batch_size: Count = 8
    log_every: Count = 10
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse blocks in which there is nothing to predict."""
        if self.context < 2:
            raise ValueError(f"context: expected at least 2 tokens, got {self.context}")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Make the model in ``out`` from the text of ``rows``: a ``.txt`` file, or text rows.

        Raises:
            UsageError: an option does not fit, or ``out`` is not of an earlier init.
            DataError: there is no text in ``rows``.
        """
        check_folder(out, _COMMAND)
        texts = read_texts(rows)
        tokenizer = make_tokenizer(texts, self.vocab_size)
        model = make_model(self, tokenizer)
        with TemporaryDirectory() as folder:
            logged = list(self._train(model, tokenizer, texts))
            lines = [orjson.dumps(line).decode() + "\n" for line in logged]
            Path(folder, "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
            metrics = {"parameters": float(model.num_parameters()), **(logged or [{}])[-1]}
            data = {"path": shown(rows), "hash": digest_of(texts), "rows": len(texts)}
            facts = {
                "stage": "init",
                "method": "pretrain",
                "base": None,
                "data": data,
                "options": asdict(self),
                "seed": self.seed,
                "metrics": metrics,
            }
            save_model(model, tokenizer, out, facts, Path(folder), command=_COMMAND)
        return TrainResult(out, len(texts), metrics)

    def _train(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
    ) -> Iterator[dict[str, float]]:
        if not self.steps:
            return
        import torch

        from siftune.finetune.runs.finite_steps import NonFiniteError, check_weights

        blocks = _blocks(tokenizer, texts, self.context)
        model.to(device()).train()  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(model.parameters(), self.lr, (0.9, 0.95), weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        order = _order(len(blocks), self.batch_size, self.seed)
        for step in range(1, self.steps + 1):
            batch = next(order)
            loss, norm = _step(model, torch.from_numpy(blocks[batch]), optimizer)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                rows = _texts_of(batch, tokenizer, texts, self.context)
                what = f"the loss is {loss} and the norm of the gradient {norm}"
                raise NonFiniteError(what, step, rows)
            schedule.step()
            if step % self.log_every == 0 or step == self.steps:
                tokens = step * self.batch_size * self.context
                distributed.progress(f"init: step {step} of {self.steps}, loss {loss:.3f}")
                yield {"step": step, "loss": loss, "tokens": tokens}
        model.to("cpu").eval()  # type: ignore[arg-type]
        check_weights(model, self.steps)

    def _rate(self, step: int) -> float:
        """The learning rate of a step, as a share of the peak."""
        warmup = max(1, self.steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return 0.1 + 0.45 * (1 + float(np.cos(np.pi * done)))


def read_texts(source: Path) -> list[str]:
    """The texts of a ``.txt`` file (blank lines part them) or of text or conversation rows.

    Raises:
        DataError: there is no text in it.
    """
    if source.suffix == ".txt":
        try:
            parts = source.read_text(encoding="utf-8").split("\n\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{source}: not a readable UTF-8 text file ({error})") from None
    else:
        parts = contents(load(source, ("text", "conversation"))["messages"]).drop_nulls().to_list()
    texts = [part for part in parts if part.strip()]
    if not texts:
        raise DataError(f"{source}: expected text to make a model from, found none")
    return texts


def make_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the ChatML control tokens; its template marks the assistant's text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(CONTROL) + len(THINK)
    if vocab_size < least:
        raise UsageError(
            f"vocab_size: expected at least {least} (the bytes and the control tokens)"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(THINK),
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in THINK])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def make_model(options: Init, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A Llama with random weights, drawn from the seed, on the CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if options.hidden % (2 * options.heads):
        raise UsageError(
            f"hidden: expected a multiple of 2 x heads ({2 * options.heads}), got {options.hidden}"
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=-(-options.hidden * 8 // 96) * 32,  # 8/3, up to a multiple of 32
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=4 * options.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model: PreTrainedModel = LlamaForCausalLM(config)
    model.eval()
    return model


def _blocks(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], context: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """All texts, parted by the beginning-of-text token, as rows of ``context`` tokens."""
    found = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    ids = [np.asarray([tokenizer.bos_token_id, *one], np.int64) for one in found["input_ids"]]
    stream = np.concatenate(ids)
    if len(stream) < context:
        stream = np.tile(stream, -(-context // len(stream)))
    return stream[: len(stream) // context * context].reshape(-1, context)


def _order(
    count: int, batch: int, seed: int
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Batches of block numbers; every block is used once before any is used again."""
    generator = np.random.default_rng(seed)
    ahead = np.empty(0, np.int64)
    while True:
        while len(ahead) < batch:
            ahead = np.concatenate([ahead, generator.permutation(count)])
        yield ahead[:batch]
        ahead = ahead[batch:]


def _texts_of(
    batch: np.ndarray[tuple[int], np.dtype[np.int64]],
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    context: int,
) -> list[str]:
    """Numbers, from 1, of the texts that the blocks of a batch are cut from."""
    found = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    ends = np.cumsum([1 + len(ids) for ids in found["input_ids"]])
    tokens = (batch[:, None] * context + np.arange(context)) % ends[-1]
    numbers = np.unique(np.searchsorted(ends, tokens, side="right"))
    return [f"text {number + 1}" for number in numbers.tolist()]


def _step(
    model: PreTrainedModel, ids: torch.Tensor, optimizer: torch.optim.Optimizer
) -> tuple[float, float]:
    """Take one step; the loss, and the norm of its gradient before clipping."""
    import torch
    import torch.nn.functional as F

    ids = ids.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=machine_arguments()["bf16"]):
        logits = model(ids[:, :-1], use_cache=False).logits
    loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item(), float(norm)
