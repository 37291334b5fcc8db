"""Search for a reward function: a model writes them, labelled rows choose, the best is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
import polars as pl

from siftune.curate.core.errors import DataError, UsageError, closest
from siftune.curate.core.progress import report_progress
from siftune.curate.core.ranges import (
    Count,
    HeldOutShare,
    Natural,
    NonNegative,
    Positive,
    Seed,
    check_ranges,
)
from siftune.curate.core.redact import hidden
from siftune.curate.files.atomic import write_json, write_text
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.judge_calls.spec import judge_name
from siftune.curate.judge_calls.types import Item
from siftune.curate.judging.answer_judge import AnswerJudge
from siftune.finetune.code_execution.probe import check_limits
from siftune.finetune.code_execution.run import NotRunError, ProgramError
from siftune.finetune.core.intervals import with_crossed_interval, with_interval
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import training_rows
from siftune.finetune.data.comparisons import as_pairs
from siftune.finetune.data.row_extras import raw_fields
from siftune.finetune.evaluation.reward_proposals import (
    Labelled,
    Proposal,
    ProposalTask,
    reflection,
    tried,
)
from siftune.finetune.models import loading
from siftune.finetune.rewards.code_reward import RewardLimits, called, number_of
from siftune.finetune.tools.evaluate import chosen_rows

__all__ = ["ProposeReward"]

_COMMAND: Final = "finetune propose_reward"
_KINDS: Final = ("preference", "ranked", "unpaired")
_PROPOSALS: Final = "proposals.jsonl"


@dataclass(frozen=True, kw_only=True)
class ProposeReward(AnswerJudge):
    """The reward function, of ``rounds`` times ``count`` that a model writes, that fits best.

    Eureka, Ma et al. 2023, arXiv:2310.12931, for answers in place of a simulator's states; it takes
    16 functions in each of 5 rounds, and trains a policy with each. Here a function's fitness is
    the share of labelled comparisons in which the better answer has the higher reward (of rows
    labelled good or bad, each good one against each bad one: the area under the ROC curve). A tie
    counts ½, an answer without a number 0. The best function, the values of its parts and the
    errors of others are what the model is shown in the next round. A function that fails is a
    proposal with a reason, and stops nothing.

    Functions run as `code_reward` runs them, in a limited process. OUT has ``reward.py``, for
    ``--reward code_reward --reward-options 'file=OUT/reward.py'``, ``search.json`` and
    ``proposals.jsonl``, every function with its score or why it failed. The accuracy of the
    best on prompts that had no part in the choice is ``held_out_accuracy``. A search that was
    stopped asks nothing again that is in the ``cache``.

    Options:
        task: Description of the task, and of what makes an answer good, which the model reads.
        judge: Model that writes the functions: a chat model (name or folder), URL#MODEL of a
            server, or scripted:FILE.py:NAME.
        count: Number of functions in each round.
        rounds: Number of rounds; a function that is right on all comparisons ends the search.
        examples: Number of labelled comparisons that the model is shown.
        limit: Largest number of rows, drawn at random, that functions are tried on; 0 takes all.
        fields: Fields of the raw rows that functions may read; none of them may hold the label.
        max_tokens: Largest number of tokens of a function.
        temperature: Temperature at which the model writes.
        seconds: Seconds for one answer.
        memory_mb: Most memory of a process, in MiB.
        allow: Names of limits that need not hold here, such as network.
    """

    task: str
    count: Count = 8
    rounds: Count = 3
    examples: Natural = 4
    limit: Natural = 200
    held_out: HeldOutShare = 0.3
    fields: tuple[str, ...] = ()
    max_tokens: Count = 2_048
    temperature: NonNegative = 1.0
    seconds: Positive = 2.0
    memory_mb: Count = 512
    allow: tuple[str, ...] = ()
    seed: Seed = 0

    reads: ClassVar = "pairs"
    example: ClassVar = (("judge", "http://localhost:8000/v1#MODEL"), ("task", "politeness"))

    def __post_init__(self) -> None:
        """Refuse options out of range, an empty task, and a cap without prices."""
        super().__post_init__()
        check_ranges(self)
        if not self.task.strip():
            raise UsageError("task: expected a description of what makes an answer good")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Search, and write the folder ``out``.

        Raises:
            DataError: the rows have no comparison, or no function could be used; then
                ``proposals.jsonl`` has each with the reason.
            UsageError: the model cannot be asked, a limit does not hold on this machine, or
                ``out`` is not of an earlier search.
        """
        check_folder(out, _COMMAND)
        whole = self._table(rows)
        self._check_fields(whole, rows)
        table = chosen_rows(whole, self.limit, self.seed)
        seen, unseen = training_rows.held_out(table, self.held_out, self.seed)
        labelled, held = self._labelled(seen), self._labelled(unseen)
        if not labelled.comparisons:
            raise DataError(f"{rows}: no two answers, one better than the other, to try rewards on")
        check_limits(self.allow)
        self.load()
        proposals, best = self._search(labelled)
        with whole_folder(out, _COMMAND) as part:
            lines = (
                orjson.dumps(asdict(one), option=orjson.OPT_APPEND_NEWLINE) for one in proposals
            )
            (part / _PROPOSALS).write_bytes(b"".join(lines))
            facts = self._facts(rows, proposals, best, held)
            write_json(part / "search.json", facts)
            if best is not None:
                write_text(part / "reward.py", best.code.rstrip("\n") + "\n")
        if best is None:
            why = next((one.error for one in proposals if one.error), "none came")
            raise DataError(
                f"none of {len(proposals)} proposed functions could be used; {out}/{_PROPOSALS} "
                f"has each with the reason, the first: {why}"
            )
        return TrainResult(out, table.height, facts["means"])

    def _search(self, labelled: Labelled) -> tuple[list[Proposal], Proposal | None]:
        """All proposals, and the best one: of equal ones the first."""
        proposals: list[Proposal] = []
        best: Proposal | None = None
        for at in range(self.rounds):
            made = self._round(at, labelled, reflection(best, labelled, proposals[-self.count :]))
            proposals += made
            usable = [one for one in (best, *made) if one is not None and one.is_usable]
            best = max(usable, key=lambda one: one.accuracy or 0.0, default=None)
            report_progress(at + 1, self.rounds, "rounds")
            if best is not None and best.accuracy == 1:
                break
        return proposals, best

    def _round(
        self, at: int, labelled: Labelled, report: Sequence[tuple[str, str]]
    ) -> list[Proposal]:
        task = ProposalTask(
            self.task,
            self.fields,
            self.seconds,
            labelled.examples(self.examples),
            report,
            at,
            self.max_tokens,
            self.temperature,
        )
        items = [Item((), (), {"number": number}) for number in range(self.count)]
        found = []
        for number, verdict in enumerate(self.verdicts(task, items)):
            text = None if verdict.values is None else verdict.values["text"]
            if text is None:
                why = verdict.detail or verdict.error or f"over {self.max_tokens} tokens"
                found.append(Proposal(at, number, "", error=f"no answer: {why}"))
            else:
                found.append(tried(at, number, text, labelled, self._limits))
        return found

    @property
    def _limits(self) -> RewardLimits:
        return RewardLimits(self.seconds, self.memory_mb, self.allow)

    def _table(self, rows: Path) -> pl.DataFrame:
        table = training_rows.load(rows, _KINDS)
        if "completion" not in table.columns:
            table = as_pairs(table)
        bad = training_rows.bad_rows(table)
        return table.join(bad, on="id", how="anti", maintain_order="left")

    def _check_fields(self, table: pl.DataFrame, rows: Path) -> None:
        """Refuse a name of ``fields`` that no row has, which functions would read as None."""
        if not self.fields:
            return
        known: dict[str, None] = dict.fromkeys(name for raw in raw_fields(table) for name in raw)
        for name in self.fields:
            if name not in known:
                there = closest(name, known) if known else "the rows have none"
                raise UsageError(f"fields: no row of {rows} has a field {name!r}; {there}")

    def _labelled(self, table: pl.DataFrame) -> Labelled:
        """The answers of rows, as functions are given them; no label is in ``row``."""
        paired = "chosen" in table.columns
        sides = ("chosen", "rejected") if paired else ("completion",)
        read = training_rows.to_pairs(table) if paired else training_rows.to_unpaired(table)
        keys = training_rows.prompt_keys(table).to_list()
        answers = [
            (
                _text(row["prompt"]),
                _text(row[side]),
                {**{name: raw.get(name) for name in self.fields}, "prompt": row["prompt"]},
                key,
            )
            for row, raw, key in zip(read, raw_fields(table), keys, strict=True)
            for side in sides
        ]
        if paired:
            comparisons = [(at, at + 1) for at in range(0, len(answers), 2)]
        else:
            labels = table["label"].to_list()
            good = [at for at, label in enumerate(labels) if label]
            comparisons = [
                (at, other) for at in good for other, bad in enumerate(labels) if not bad
            ]
        return Labelled(
            [one[0] for one in answers],
            [one[1] for one in answers],
            [one[2] for one in answers],
            [one[3] for one in answers],
            comparisons,
        )

    def _facts(
        self,
        rows: Path,
        proposals: Sequence[Proposal],
        best: Proposal | None,
        held: Labelled,
    ) -> dict[str, Any]:
        means: dict[str, float] = {
            "proposals": len(proposals),
            "failed": sum(not one.is_usable for one in proposals),
        }
        if best is not None and best.accuracy is not None:
            means["accuracy"] = best.accuracy
            means |= self._held_out(best, held)
        return {
            "rows": loading.shown(rows),
            "options": asdict(self) | {"judge": hidden(judge_name(self.judge))},
            **self.describe(),
            "best": None if best is None else {"round": best.round, "number": best.number},
            "parts": None if best is None else best.parts,
            "means": means,
        }

    def _held_out(self, best: Proposal, held: Labelled) -> dict[str, float]:
        """Accuracy of the best function on prompts that it was not chosen by, with its interval."""
        if not held.comparisons:
            return {}
        given = (held.prompts, held.completions, held.rows)
        try:
            found = called(best.code, "reward", *given, self._limits)
        except (ProgramError, NotRunError):
            found = [(False, None)] * len(held.rows)
        right = held.right([number_of(value) if ok else None for ok, value in found])
        better, worse = (
            [held.keys[at] for at in side] for side in zip(*held.comparisons, strict=True)
        )
        if better == worse:  # both answers of each comparison are to one prompt
            return with_interval("held_out_accuracy", right, better)
        return with_crossed_interval("held_out_accuracy", right, better, worse)


def _text(turns: Iterable[Mapping[str, Any]]) -> str:
    return "\n".join(str(turn["content"] or "") for turn in turns)
