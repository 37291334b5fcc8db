"""Prompts, supervised rows, actor and critic of a PPO run, from rows and model folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.chat.encoding import EncodedAnswer, encode_answers, encode_prompts
from siftune.curate.core.errors import UsageError
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.tool_checks import check_calls
from siftune.finetune.models import loading
from siftune.finetune.models.adapters import add_adapter
from siftune.finetune.models.loading import check_critic
from siftune.finetune.models.lora import with_adapter
from siftune.finetune.rl.model import ActorCritic, Tokens, trunk
from siftune.finetune.rl.rollout import Prompt, stream

__all__ = ["Supervised", "actor_critic", "prompts_of", "supervised_rows"]

_CRITIC: Final = "critic"


@dataclass(frozen=True)
class Supervised:
    """Rows with known answers for the supervised term of the loss, PPO-ptx of InstructGPT.

    ``rows`` are token ids, the end token included; ``pad`` fills the batches.
    """

    ids: Sequence[str]
    rows: Sequence[EncodedAnswer]
    pad: int

    def batch(self, step: int, size: int, seed: int) -> tuple[list[str], Tokens]:
        """``size`` rows for optimizer step ``step``, from an endless shuffled order."""
        taken = stream(len(self.rows), step * size, size, seed)
        rows = [self.rows[row] for row in taken]
        tokens = Tokens.of([row.prompt for row in rows], [row.ids for row in rows], self.pad)
        scored = Tokens.of([row.prompt for row in rows], [row.mask for row in rows], 0).completions
        return [self.ids[row] for row in taken], replace(tokens, mask=scored.bool())


def prompts_of(
    table: pl.DataFrame,
    tokenizer: Any,
    room: int | None,
    on_bad: training_rows.OnBad,
    source: Path | str,
    rates: Mapping[str, float | None] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, list[Prompt]]:
    """The rows with a prompt of at most ``room`` tokens, the others with a reason, and the prompts.

    ``rates`` are pass rates by row, where these are needed.

    Raises:
        DataError: a row has no prompt or too long a one, or no pass rate where ``rates`` are given,
            and ``on_bad`` is ``refuse``.
    """
    asked = training_rows.to_prompts(table)
    preflight.refuse(check_calls(tokenizer, asked, learned=False))
    ids = encode_prompts(
        tokenizer,
        [row["prompt"] for row in asked],
        tools=[row["tools"] for row in asked],
        rows=[row["id"] for row in asked],
    )
    reasons = [_prompt_fault(row, len(each), room) for row, each in zip(asked, ids, strict=True)]
    if rates is not None:
        both = zip(asked, reasons, strict=True)
        reasons = [
            why or (None if rates[r["id"]] is not None else "no_pass_rate") for r, why in both
        ]
    bad = _bad(asked, reasons)
    used = training_rows.drop_bad(table, bad, on_bad, source)
    texts = tokenizer.batch_decode(ids)
    parts = zip(asked, texts, ids, reasons, strict=True)
    prompts = [Prompt(row, text, tuple(each)) for row, text, each, why in parts if why is None]
    return used, bad, prompts


def _prompt_fault(row: dict[str, Any], tokens: int, room: int | None) -> str | None:
    if not row["prompt"]:
        return "no_prompt"
    return "prompt_too_long" if room is not None and tokens > room else None


def _bad(rows: Sequence[dict[str, Any]], reasons: Sequence[str | None]) -> pl.DataFrame:
    bad = [(row["id"], why) for row, why in zip(rows, reasons, strict=True) if why is not None]
    return pl.DataFrame(bad, schema=training_rows.BAD_ROWS, orient="row")


def supervised_rows(
    source: str, tokenizer: Any, pad: int, room: int | None, on_bad: training_rows.OnBad
) -> Supervised:
    """The last answers of the rows of ``source``, each after its prompt, ``room`` tokens at most.

    Raises:
        DataError: a row has no answer or is too long and ``on_bad`` is ``refuse``.
    """
    table = training_rows.load(source, ("conversation", "preference"))
    table = training_rows.drop_bad(table, training_rows.bad_rows(table), on_bad, source)
    rows = training_rows.to_conversations(table)
    preflight.refuse(check_calls(tokenizer, rows))
    chats = [row["messages"] for row in rows]
    prompts, answers = [chat[:-1] for chat in chats], [chat[-1:] for chat in chats]
    tools, ids = [row["tools"] for row in rows], [row["id"] for row in rows]
    pairs = encode_answers(tokenizer, prompts, answers, tools=tools, rows=ids)
    reasons = [_answer_fault(pair, room) for pair in pairs]
    training_rows.drop_bad(table, _bad(rows, reasons), on_bad, source)
    kept = [index for index, why in enumerate(reasons) if why is None]
    return Supervised([rows[i]["id"] for i in kept], [pairs[i] for i in kept], pad)


def _answer_fault(pair: EncodedAnswer, room: int | None) -> str | None:
    if 1 not in pair.mask:
        return "no_trained_tokens"
    long = room is not None and len(pair.prompt) + len(pair.ids) > room
    return "too_long" if long else None


def actor_critic(
    policy: Any,
    tokenizer: Any,
    critic: str | None,
    lora: tuple[int, int] | None,
    seed: int,
    values: bool = True,
    on_base: bool = False,
) -> ActorCritic:
    """The policy (under adapters of ``lora`` = rank, alpha) with a critic.

    ``critic`` is the folder that the critic's own trunk starts from; None shares the policy's.
    Without ``values`` there is no critic at all; with ``on_base`` it is an adapter of its own on
    the policy's base.

    Raises:
        UsageError: that folder's tokenizer has another vocabulary than the policy's, or its model
            too few embeddings.
    """
    if lora is not None:
        policy = with_adapter(policy, *lora, seed)
    if on_base and lora is not None:
        add_adapter(policy, _CRITIC, *lora, seed=seed + 1)
        return ActorCritic(policy, adapter=_CRITIC)
    if critic is None:
        return ActorCritic(policy, values=values)
    if loading.load_tokenizer(critic).get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"critic_model {critic} has another vocabulary than the policy, whose tokens it reads: "
            "start it from a model with the same tokenizer"
        )
    own, head = trunk(critic)
    check_critic(policy, own, critic)
    return ActorCritic(policy, own, head)
