"""Rejection sampling: of K scored answers to each prompt those to train on, or pairs of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import orjson
import polars as pl

from siftune.curate.chat.template_turns import WEIGHTS
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Count, Positive, Seed, check_ranges
from siftune.curate.core.schema import Kind, schema_of
from siftune.curate.files.atomic import hash_file, write_json
from siftune.curate.files.json_text import dump
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.rows.convert import content_digest
from siftune.curate.rows.turn_fields import fields_of, put_fields
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import training_rows
from siftune.finetune.models.loading import shown

__all__ = ["Rejection", "acceptance", "accepted"]

_COMMAND: Final = "finetune rejection"
_LEDGER: Final[Mapping[str, Any]] = {
    "id": pl.String,
    "row_id": pl.String,
    "answer": pl.Int64,
    "score": pl.Float64,
    "keep": pl.Boolean,
    "reason": pl.String,
    "detail": pl.String,
}


@dataclass(frozen=True)
class Rejection:
    """The answers to train on among the K scored ones of each prompt, and why the others are not.

    ``method`` ``best`` keeps the ``count`` answers with the highest score, one by default: best of
    K, the data of RAFT (Dong et al. 2023, arXiv:2304.06767, algorithm 1) and of Llama 3's rejection
    sampling (arXiv:2407.21783, section 4.2.2). Equal texts count once, ties go to the answer that
    was drawn first. With ``into: pairs`` the best answer is chosen and the worst rejected.

    ``rso`` is statistical rejection sampling (Liu et al. 2023, arXiv:2309.06657, algorithm 1): an
    answer of score r is accepted with the probability ``exp((r - r_max) / beta)``, r_max being the
    largest score of those that are left, in passes over these until there are ``count``. With
    enough answers those of the first pass are drawn from ``π · exp(r / beta) / Z``, the optimum of
    the KL-regularised reward, where the K answers came from π; without ``count`` there is one pass,
    and a prompt may have any number. ``beta`` to 0 is best of K, a large one keeps all. Equal texts
    are draws of their own. With ``into: pairs`` accepted answers are paired in the order of their
    acceptance, the higher score chosen, as the paper labels them by the reward.

    The data are ranked rows with scores, as ``siftune finetune sample --reward`` writes them.
    Answers of a reference model (``--opponents``) are dropped. What comes out are conversations,
    with the score as the column ``reward`` and the weight 0 on answers in the prompt, or preference
    rows.
    ``answers.parquet`` has every answer with ``keep``, ``reason`` and ``detail``, and
    ``rejection.json`` the counts.

    Options:
        method: best, the highest scores, or rso, statistical rejection sampling.
        into: What is made: answers to imitate, or pairs of a chosen and a rejected answer.
        count: Number of answers kept of each prompt; none takes 1 (best), or one pass (rso).
        beta: Temperature of the acceptance of rso, in units of the score.
        min_score: Smallest score of an answer that may be kept, such as 1 for right answers alone.
        seed: Seed of the draws of rso.
    """

    method: Literal["best", "rso"] = "best"
    into: Literal["answers", "pairs"] = "answers"
    count: Count | None = None
    beta: Positive = 0.5
    min_score: float | None = None
    seed: Seed = 0

    reads: ClassVar[tuple[Kind, ...]] = ("ranked",)
    data: ClassVar = "Data: ranked rows with scores, as `siftune finetune sample` writes them."

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise ValueError(f"min_score: expected a finite number, got {self.min_score}")
        if self.method == "best" and self.into == "pairs" and self.count is not None:
            raise ValueError(
                "count: best makes one pair of a prompt, its best and its worst answer"
            )

    @property
    def makes(self) -> Kind:
        """The kind of the rows that are made."""
        return "preference" if self.into == "pairs" else "conversation"

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Write ``kept.parquet``, ``answers.parquet`` and ``rejection.json`` to the folder ``out``.

        Raises:
            DataError: no answer has a score, or nothing is kept.
            UsageError: the rows are not ranked, or ``out`` is not of an earlier call.
        """
        check_folder(out, _COMMAND, [rows])
        table = training_rows.load(rows, self.reads)
        if "scores" not in table.columns or not table["scores"].list.drop_nulls().list.len().sum():
            raise DataError(
                f"{rows}: no answer has a score: sample with a reward "
                "(siftune finetune sample ROWS --reward ...), or score the answers"
            )
        prompts = [_Prompt.of(row) for row in table.iter_rows(named=True)]
        made = [one for prompt in prompts for one in self._taken(prompt)]
        ledger = [line for prompt in prompts for line in prompt.ledger()]
        reasons = Counter(line["reason"] for line in ledger)
        if not made:
            counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            raise DataError(f"{rows}: no answer is kept of {len(ledger):,}: {counted}")
        schema = schema_of(self.makes)
        if self.into == "answers":
            schema["reward"] = pl.Float64()
        metrics = _metrics(ledger, len(made))
        with whole_folder(out, _COMMAND) as part:
            pl.DataFrame(made, schema).write_parquet(part / "kept.parquet")
            pl.DataFrame(ledger, dict(_LEDGER)).write_parquet(part / "answers.parquet")
            facts = {
                "rows": shown(rows),
                "rows_hash": hash_file(rows) if rows.is_file() else None,
                "options": asdict(self),
                "reasons": dict(sorted(reasons.items())),
                "means": metrics,
            }
            write_json(part / "rejection.json", facts)
        return TrainResult(out, len(made), metrics)

    def _taken(self, prompt: _Prompt) -> list[dict[str, Any]]:
        """The rows made of one prompt; each of its answers gets a decision."""
        left = []
        for at, score in enumerate(prompt.scores):
            if prompt.by_reference(at):
                prompt.drop(at, "by_reference")
            elif score is None:
                prompt.drop(at, "not_scored")
            elif self.min_score is not None and score < self.min_score and self.into == "answers":
                prompt.drop(at, "below_min_score", min_score=self.min_score)
            else:
                left.append(at)
        if self.method == "rso":
            return self._of_accepted(prompt, self._accepted(prompt, left))
        return self._of_best(prompt, left)

    def _of_best(self, prompt: _Prompt, left: Sequence[int]) -> list[dict[str, Any]]:
        order = sorted(prompt.once(left), key=lambda at: (-prompt.score(at), at))
        if self.into == "pairs":
            for at in order[1:-1]:
                prompt.drop(at, "between", rank=order.index(at) + 1)
            return self._pairs(prompt, [(order[0], order[-1])] if len(order) > 1 else [], order[:1])
        kept, others = order[: self.count or 1], order[self.count or 1 :]
        for at in others:
            prompt.drop(at, "not_the_best", rank=order.index(at) + 1)
        return [prompt.answer(at, "best_of_k", rank=order.index(at) + 1) for at in kept]

    def _accepted(self, prompt: _Prompt, left: Sequence[int]) -> list[tuple[int, int]]:
        """The accepted answers with their passes; the others are dropped."""
        scores = [prompt.score(at) for at in left]
        chances = acceptance(scores, self.beta)
        found = accepted(
            scores, self.beta, self.count, lambda at, turn: prompt.draw(left[at], turn, self.seed)
        )
        over = {left[at] for at, _ in found[self.count :]} if self.count is not None else set()
        taken = [(left[at], turn) for at, turn in found[: self.count]]
        for at, chance in zip(left, chances, strict=True):
            if at in over:
                prompt.drop(at, "over_count", count=self.count)
            elif at not in dict(taken):
                prompt.drop(at, "not_accepted", probability=chance)
        return taken

    def _of_accepted(
        self, prompt: _Prompt, taken: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        if self.into == "answers":
            return [prompt.answer(at, "accepted", **{"pass": turn}) for at, turn in taken]
        order = [at for at, _ in taken]
        paired = list(zip(order[::2], order[1::2], strict=False))
        return self._pairs(prompt, paired, order[2 * len(paired) :])

    def _pairs(
        self, prompt: _Prompt, paired: Sequence[tuple[int, int]], alone: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Rows of pairs, the higher score chosen; equal scores, and what is alone, are dropped."""
        made = []
        for pair in paired:
            chosen, rejected = sorted(pair, key=lambda at: -prompt.score(at))
            if prompt.score(chosen) == prompt.score(rejected):
                for at in pair:
                    prompt.drop(at, "equal_scores")
            elif self.min_score is not None and prompt.score(chosen) < self.min_score:
                for at in pair:
                    prompt.drop(at, "below_min_score", min_score=self.min_score)
            else:
                made.append(prompt.pair(chosen, rejected))
        for at in alone:
            if at not in prompt.decided:
                prompt.drop(at, "no_other_answer")
        return made


def acceptance(scores: Sequence[float], beta: float) -> list[float]:
    """The chance of each answer in the first pass: ``exp((r - r_max) / β)``.

    >>> [round(one, 4) for one in acceptance([1.0, 0.0, 0.5], beta=0.5)]
    [1.0, 0.1353, 0.3679]
    """
    largest = max(scores, default=0.0)
    return [math.exp((score - largest) / beta) for score in scores]


def accepted(
    scores: Sequence[float],
    beta: float,
    count: int | None,
    draw: Callable[[int, int], float],
) -> list[tuple[int, int]]:
    """Numbers of the accepted answers, each with its pass (from 1), in the order of acceptance.

    Passes are made until ``count`` are accepted or none is left; None: one pass. The last one may
    accept more than ``count``, of which the first ``count`` are wanted. ``draw`` gives the uniform
    number in [0, 1) of an answer in a pass. arXiv:2309.06657, algorithm 1.
    """
    left = list(range(len(scores)))
    found: list[tuple[int, int]] = []
    turn = 0
    while left and (turn == 0 if count is None else len(found) < count):
        turn += 1
        chances = acceptance([scores[at] for at in left], beta)
        taken = [at for at, chance in zip(left, chances, strict=True) if draw(at, turn) < chance]
        found += [(at, turn) for at in taken]
        left = [at for at in left if at not in taken]
    return found


@dataclass
class _Prompt:
    """A prompt with its answers, and what was decided of each."""

    row: Mapping[str, Any]
    scores: Sequence[float | None]
    decided: dict[int, tuple[bool, str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Prompt:
        """From a ranked row.

        Raises:
            UsageError: it has another number of scores than answers.
        """
        scores = row["scores"]
        if scores is None:
            scores = [None] * len(row["completions"])
        if len(scores) != len(row["completions"]):
            raise UsageError(
                f"row {row['id']}: expected a score for each of {len(row['completions'])} answers, "
                f"got {len(scores)}"
            )
        return cls(row, [None if s is None or not math.isfinite(s) else s for s in scores])

    def score(self, at: int) -> float:
        """The score of an answer that has one."""
        found = self.scores[at]
        assert found is not None
        return found

    def by_reference(self, at: int) -> bool:
        """Whether the answer was sampled by a reference model, an opponent of the policy."""
        given = self.row.get("by_reference")
        return given is not None and bool(given[at])

    def once(self, left: Sequence[int]) -> list[int]:
        """The first answers of each text among ``left``; the others are dropped."""
        first: dict[str, int] = {}
        for at in left:
            text = repr(self.row["completions"][at])
            if first.setdefault(text, at) != at:
                self.drop(at, "same_answer", answer=first[text])
        return list(first.values())

    def draw(self, at: int, turn: int, seed: int) -> float:
        """A number in [0, 1) that depends on the seed, the row, the answer and the pass alone."""
        key = f"{self.row.get('digest')}\0{self.row['id']}\0{at}\0{turn}"
        digest = blake2b(key.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53

    def drop(self, at: int, reason: str, **detail: Any) -> None:
        """Decide that an answer is not used."""
        self.decided[at] = (False, reason, detail)

    def answer(self, at: int, reason: str, **detail: Any) -> dict[str, Any]:
        """The row of an answer that is kept."""
        self.decided[at] = (True, reason, detail)
        messages = [*self.row["prompt"], *self.row["completions"][at]]
        made = self._base(f"#{at}", "conversation") | {"messages": messages}
        made["extra"] = self._extra_of(at)
        return {**made, "reward": self.score(at), "digest": content_digest("conversation", made)}

    def pair(self, chosen: int, rejected: int) -> dict[str, Any]:
        """The row of a pair that is kept."""
        self.decided[chosen] = (True, "chosen", {"rejected": rejected})
        self.decided[rejected] = (True, "rejected", {"chosen": chosen})
        answers = self.row["completions"]
        made = self._base(f"#{chosen}-{rejected}", "preference") | {
            "prompt": self.row["prompt"],
            "chosen": answers[chosen],
            "rejected": answers[rejected],
            "score_chosen": self.score(chosen),
            "score_rejected": self.score(rejected),
            "margin": None,
            "win_probability": None,
        }
        return {**made, "digest": content_digest("preference", made)}

    def _extra_of(self, at: int) -> str | None:
        """``extra`` of a conversation: answers in the prompt were not sampled and are not learned.

        The fields of the turns become those of ``messages``; those of other answers are left out.
        """
        row = self.row
        text, prompt, answer = row.get("extra"), row["prompt"], row["completions"][at]
        extra: dict[str, Any] = orjson.loads(text) if text else {}
        fields = [*fields_of(extra, "prompt", len(prompt))]
        for place, turn in enumerate(prompt):
            if turn["role"] == "assistant":
                own = {key: one for key, one in fields[place].items() if key not in WEIGHTS}
                fields[place] = {**own, "weight": 0}
        fields += fields_of(extra, f"completions[{at}]", len(answer))
        if not any(fields):
            return text
        gone = re.compile(r"(prompt|completions\[\d+\])\.fields")
        kept = {key: one for key, one in extra.items() if not gone.fullmatch(key)}
        put_fields(kept, "messages", fields)
        return dump(kept)

    def _base(self, end: str, kind: Kind) -> dict[str, Any]:
        row = self.row
        known = {name: row.get(name) for name in ("source", "row", "extra")}
        return {"id": f"{row['id']}{end}", **known, "kind": kind}

    def ledger(self) -> list[dict[str, Any]]:
        """A line for each answer."""
        lines = []
        for at, score in enumerate(self.scores):
            keep, reason, detail = self.decided[at]
            lines.append(
                {
                    "id": f"{self.row['id']}#{at}",
                    "row_id": self.row["id"],
                    "answer": at,
                    "score": score,
                    "keep": keep,
                    "reason": reason,
                    "detail": dump(detail) if detail else None,
                }
            )
        return lines


def _metrics(ledger: Sequence[Mapping[str, Any]], made: int) -> dict[str, float]:
    own = [line for line in ledger if line["reason"] != "by_reference"]
    scored = [line["score"] for line in own if line["score"] is not None]
    kept = [line["score"] for line in ledger if line["keep"]]
    return {
        "answers": len(ledger),
        "kept": len(kept),
        "rows": made,
        "score": float(np.mean(scored)),
        "score_kept": float(np.mean(kept)),
    }
