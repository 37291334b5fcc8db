"""Losses of answers by their definition, for tests of scorers under a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import polars as pl
import torch

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn

__all__ = ["BOT", "USER", "Chat", "Reference", "table"]

USER, BOT = "user", "assistant"
Chat: TypeAlias = list[tuple[str, str]]


def table(*chats: Chat) -> pl.DataFrame:
    rows = [[turn(role, text) for role, text in chat] for chat in chats]
    return pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})


class Reference:
    """Losses by the definition: one row at a time, float64, no batch, padding or cache."""

    def __init__(self, model: str | Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.known: dict[str, tuple[float, float]] = {}

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def loss(self, context: list[int], answer: list[int]) -> float:
        with torch.no_grad():
            logits = self.net(torch.tensor([context + answer])).logits[0].log_softmax(-1)
        start = len(context) - 1
        return -sum(logits[start + i, one].item() for i, one in enumerate(answer)) / len(answer)

    def losses(self, chat: Chat, template: str, answers: str) -> list[tuple[float, float]]:
        """The loss of each scored answer after all before it, and alone."""
        ends = [i for i, (role, text) in enumerate(chat) if role == BOT and text and i]
        return [
            self.pair(chat[: i + 1], template) for i in (ends if answers == "mean" else ends[-1:])
        ]

    def pair(self, chat: Chat, template: str) -> tuple[float, float]:
        """The loss of the last answer after all before it, and alone."""
        key = f"{template}{chat}"
        if key not in self.known:
            self.known[key] = self._pair(chat, template)
        return self.known[key]

    def _pair(self, chat: Chat, template: str) -> tuple[float, float]:
        answer, start = chat[-1][1], [self.tokenizer.bos_token_id]
        if template == "none":
            before = "\n\n".join(text for _, text in chat[:-1])
            context, alone = [*start, *self.ids(before + "\n")], start
            said = self.ids(answer)
        else:
            turns = [{"role": role, "content": text} for role, text in chat[:-1]]
            write = self.tokenizer.apply_chat_template
            context = self.ids(write(turns, add_generation_prompt=True, tokenize=False))
            alone = self.ids("<|im_start|>assistant\n")
            said = self.ids(answer + "<|im_end|>")
        return self.loss(context, said), self.loss(alone, said)
