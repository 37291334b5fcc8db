"""Answer prompts K times, score the answers, and keep them as ranked rows with win rates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.ranges import Count, Natural, Positive, Seed, Share, check_ranges
from siftune.curate.core.schema import KINDS, schema_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.models.lineage import lineage
from siftune.curate.rows.chat import turn
from siftune.curate.rows.pass_rates import FILE as PASS_RATES
from siftune.curate.rows.pass_rates import pass_rates
from siftune.finetune.core import distributed
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.generation.sampled_lists import (
    NUMBERS,
    Scored,
    add_prompt,
    attribute_means,
    win_numbers,
)
from siftune.finetune.models import loading
from siftune.finetune.models.loading import check_same_size
from siftune.finetune.models.precision import Precision, frozen_dtype, precision_used, report
from siftune.finetune.rewards.several import parts_of, total_of
from siftune.finetune.rewards.types import check_fields, load, reward_of
from siftune.finetune.tools.evaluate import chosen_rows

if TYPE_CHECKING:
    from siftune.finetune.rewards.types import Reward

__all__ = ["SAMPLED_FROM", "SAMPLED_LINEAGE", "Sample"]

SAMPLED_FROM: Final = "sampled_from"
"""In ``extra``: the hash of the model whose samples a row holds."""
SAMPLED_LINEAGE: Final = "sampled_lineage"
"""In ``extra``: the same, then the hashes of the models that it was trained from."""

_COMMAND: Final = "finetune sample"
_CUT: Final = "cut off at the most tokens"
_EMPTY: Final = "empty"
_PASSED: Final = 1.0
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Sample:
    """``count`` answers of ``model`` to each prompt of the rows, as ranked rows.

    Each is drawn from random numbers of its own (``seed``, its row, its number); one that was cut
    off at ``max_new_tokens``, or is empty, is left out. The ``reward`` gives the ``scores``;
    without one answers have none, and all are kept. Of several rewards with weights ``scores`` are
    the sum, and ``attributes`` the score of each. Each prompt is asked once, however many rows have
    it.

    With each answer come the numbers that losses on own samples read, by Bradley-Terry on the
    scores over ``scale``: ``win_rate``, how often it beats another of its list (``spo``, ``dno``);
    ``win_probability``, how often it beats an opponent (``nash_md``);
    ``by_reference``, 1 where ``reference`` gave it (``xpo``). ``opponents`` answers a prompt are
    drawn from ``model^(1 - mixture) · reference^mixture``, token by token; without them the other
    answers of the list are the opponents. Opponents from the reference itself (``mixture`` 1) join
    the list. ``precision`` is that of the models, as in `tools.evaluate`.

    An answer's comparison with itself is not in its ``win_rate``, nor in the ``win_probability`` of
    an opponent in the list (a single one keeps ½). Were it counted, as a draw, the
    rates of n answers would lie closer to ½, by ``(n - 1) / n``. A loss on rates lands on
    ``π · exp(rate / β)``, so a β chosen for rates that count it is ``n / (n - 1)`` times as large
    for these: 4/3 of it for lists of four, twice for pairs.

    ``pass_rates.parquet`` has the pass rate of every prompt that was asked, also of those without a
    list, for each row that asks it: the share of ``model``'s own answers whose score is at least
    ``pass_score``. An answer that was cut off or is empty does not pass; one that the reward cannot
    score does not count. `siftune curate score ROWS pass_rate --samples OUT` joins it to the rows.

    A round of self-play is then: sample with the policy, train a step on what was sampled
    (``siftune finetune spo SAMPLES --model POLICY``), and again with what came out.

    Options:
        model: Model that answers: a folder, a name of `siftune models list`, or a name on the hub.
        count: Number of answers to each prompt.
        temperature: Temperature at which answers are sampled.
        reference: Model that opponents are sampled from, mixed with ``model`` by ``mixture``.
        opponents: Number of opponents' answers to each prompt; 0 takes the other answers as
            opponents.
        mixture: Share of ``reference`` in the mixture that opponents are sampled from; 1 is
            ``reference`` alone.
        scale: Number that scores are divided by before Bradley-Terry turns them into win rates.
        pass_score: Smallest score of an answer that passes; 1, which exact_match and other checks
            give, unless set.
        batch_size: Number of answers sampled at once.
        precision: Number format of all models: fp32, bf16, or bf16 where the processor multiplies
            it (auto).
    """

    model: str
    reward: str | Mapping[str, Any] | None = None
    reward_options: Mapping[str, Any] = field(default_factory=dict)
    count: Count = 4
    temperature: Positive = 1.0
    max_new_tokens: Count = 64
    reference: str | None = None
    opponents: Natural = 0
    mixture: Share = 1.0
    scale: Positive = 1.0
    pass_score: float | None = None
    limit: Natural = 0
    batch_size: Count = 32
    seed: Seed = 0
    precision: Precision = "auto"

    reads: ClassVar = KINDS
    makes: ClassVar = "ranked"

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        if bool(self.opponents) != (self.reference is not None):
            raise ValueError("opponents and reference go together: one is set, the other is not")
        if self.pass_score is not None and not math.isfinite(self.pass_score):
            raise ValueError(f"pass_score: expected a finite number, got {self.pass_score}")
        if self.reward is None and self.pass_score is not None:
            raise ValueError("pass_score: needs a reward, whose scores it is compared with")
        if self.reward is None and self.opponents:
            raise ValueError("opponents: they need a reward, by whose scores they win or lose")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Write ``kept.parquet`` and ``sampling.json`` to the folder ``out``.

        Raises:
            DataError: no prompt got two scored answers; without a reward, ``count`` 1 needs one.
            UsageError: an option, the reward or a model does not fit, or ``out`` is not of an
                earlier sampling.
        """
        check_folder(out, _COMMAND)
        table = training_rows.load(rows, KINDS)
        report(self.precision, ["the models"])
        reward = None
        if self.reward is not None:
            reward = reward_of(self.reward, self.reward_options, self.precision)
        asking = table.select("id", training_rows.prompt_keys(table))
        once = table.filter(asking["prompt_key"].is_first_distinct())
        table = chosen_rows(once, self.limit, self.seed)
        asked = training_rows.to_prompts(table)
        if self.reference is not None and 0 < self.mixture < 1:
            check_same_size(self.model, self.reference, "reference")
        tokenizer = loading.load_tokenizer(self.model)
        preflight.refuse(preflight.check_tokenizer(tokenizer))
        if reward is not None:
            check_fields(reward, [{**row, "finished": True} for row in asked])
            load(reward)
        own, failed, theirs, lost = self._drawn(asked, tokenizer)
        drawn_answers = len(asked) * (self.count + self.opponents)
        scored = [self._scored(reward, asked, drawn) for drawn in (own, theirs)]
        lists = [
            self._row(row, first, second)
            for row, first, second in zip(
                table.select("id", "source", "row").rows(named=True), *scored, strict=True
            )
        ]
        kept = [row for row in lists if row is not None]
        lost["without a score"] = sum(map(len, (*own, *theirs))) - sum(
            len(one) for both in scored for one in both
        )
        why = self._why(lost, drawn_answers)
        if not kept:
            raise DataError(f"{rows}: no prompt got {self._enough}: {why}")
        if len(kept) < table.height:
            distributed.notify(
                f"left out: {table.height - len(kept):,} of {table.height:,} prompts, without "
                f"{self._enough}: {why}"
            )
        facts = self._facts(rows, table.height, kept, lost)
        schema = {**schema_of("ranked"), **dict.fromkeys(NUMBERS, pl.List(pl.Float64))}
        known = {row["id"]: row for row in asked}
        for row in kept:
            add_prompt(row, known[row["id"]])
        with whole_folder(out, _COMMAND) as part:
            pl.DataFrame(kept, schema).write_parquet(part / "kept.parquet")
            write_json(part / "sampling.json", facts)
            if reward is not None:
                keys = training_rows.prompt_keys(table)
                rates = self._pass_rates(keys, asking, scored[0], failed)
                rates.write_parquet(part / PASS_RATES)
        return TrainResult(out, len(kept), facts["means"])

    def _drawn(
        self, asked: Sequence[Mapping[str, Any]], tokenizer: Any
    ) -> tuple[list[list[str]], list[int], list[list[str]], Counter[str]]:
        """Of each prompt the model's answers, its cut off or empty ones counted, the opponents'.

        And why others are left out.
        """
        from siftune.finetune.generation.mixture_policy import mixed

        dtype = frozen_dtype(self.precision)
        policy: Any = loading.placed(loading.load_causal(self.model, dtype))
        lost: Counter[str] = Counter()
        own, failed = self._answers(policy, tokenizer, asked, self.count, "", lost)
        if self.reference is None:
            return own, failed, [[] for _ in asked], lost
        reference: Any = loading.placed(loading.load_causal(self.reference, dtype))
        rest = tokenizer, asked, self.opponents, "opponent", lost
        if self.mixture == 1:
            return own, failed, self._answers(reference, *rest)[0], lost
        with mixed(policy, reference, self.mixture) if self.mixture else nullcontext():
            return own, failed, self._answers(policy, *rest)[0], lost

    def _answers(
        self,
        model: Any,
        tokenizer: Any,
        asked: Sequence[Mapping[str, Any]],
        count: int,
        who: str,
        lost: Counter[str],
    ) -> tuple[list[list[str]], list[int]]:
        """The answers that ended, by prompt, and the number of those cut off or empty.

        All that are left out are counted in ``lost``, by why.
        """
        from siftune.finetune.evaluation.generation_eval import GenerationEval

        many = [{**row, "id": f"{row['id']}#{who}{at}"} for row in asked for at in range(count)]
        generation_eval = GenerationEval(
            tuple(many),
            tokenizer,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        found = [(_left_out(one), one["completion"]) for one in generation_eval(model)]
        lost.update(reason for reason, _ in found if reason)
        groups = [found[at : at + count] for at in range(0, len(found), count)]
        ended = [[said for reason, said in group if not reason] for group in groups]
        failed = [sum(reason in (_CUT, _EMPTY) for reason, _ in group) for group in groups]
        return ended, failed

    def _pass_rates(
        self,
        asked: pl.Series,
        asking: pl.DataFrame,
        own: Sequence[Sequence[Scored]],
        failed: Sequence[int],
    ) -> pl.DataFrame:
        """The rates of prompts with the keys ``asked``, for each of the rows ``asking``."""
        least = _PASSED if self.pass_score is None else self.pass_score
        scores = [[one.score for one in answers if one.score is not None] for answers in own]
        # weighted sums of full scores are below 1 by rounding: .6 + .3 + .1
        passed = [sum(score >= least - _ROUNDING for score in some) for some in scores]
        samples = [len(some) + more for some, more in zip(scores, failed, strict=True)]
        rates = pass_rates(passed, samples).with_columns(asked)
        return asking.join(rates, on=asked.name, maintain_order="left").drop(asked.name)

    @staticmethod
    def _scored(
        reward: Reward | None, asked: Sequence[Mapping[str, Any]], drawn: Sequence[Sequence[str]]
    ) -> list[list[Scored]]:
        """The answers that have a score, with it; without a reward all."""
        if reward is None:
            return [[Scored(said) for said in answers] for answers in drawn]
        flat = [(row, said) for row, answers in zip(asked, drawn, strict=True) for said in answers]
        texts = ["\n".join(str(one["content"]) for one in row["prompt"]) for row, _ in flat]
        rows = [{**row, "finished": True} for row, _ in flat]  # what was cut is left out
        parts = parts_of(reward, texts, [said for _, said in flat], rows)
        totals = total_of(reward, parts)
        scored = (
            Scored(said, totals[at], {name: own[at] for name, own in parts.items()})
            for at, (_, said) in enumerate(flat)
        )
        found = [[next(scored) for _ in answers] for answers in drawn]
        return [[one for one in answers if one.score is not None] for answers in found]

    def _row(
        self,
        base: Mapping[str, Any],
        own: Sequence[Scored],
        theirs: Sequence[Scored],
    ) -> dict[str, Any] | None:
        """A ranked row but for its prompt; None of too few answers, or where no opponent came."""
        joined = [*own, *theirs] if self.mixture == 1 else own
        if len(joined) < self._least or (self.opponents and not theirs):
            return None
        numbers = dict.fromkeys(("scores", *NUMBERS))
        if self.reward is not None:
            numbers = win_numbers(own, theirs, self.scale, in_list=self.mixture == 1)
        return {
            **base,
            "kind": "ranked",
            "extra": {SAMPLED_FROM: self._lineage[0], SAMPLED_LINEAGE: self._lineage},
            "completions": [[turn("assistant", one.text)] for one in joined],
            "attributes": [one.attributes for one in joined] if self._several else None,
            **numbers,
        }

    @cached_property
    def _lineage(self) -> list[str]:
        return lineage(self.model)

    @property
    def _several(self) -> bool:
        return isinstance(self.reward, Mapping)

    @property
    def _least(self) -> int:
        """The number of answers that a prompt needs: two, to be compared, unless one was asked."""
        return 2 if self.reward is not None else min(2, self.count)

    @property
    def _enough(self) -> str:
        least = "two answers" if self._least == 2 else "an answer"
        return least if self.reward is None else f"{least} with a score"

    def _why(self, lost: Mapping[str, int], drawn: int) -> str:
        """What became of the answers that are left out, and what to do."""
        counted = ", ".join(f"{count:,} {reason}" for reason, count in lost.items() if count)
        raised = "--max-new-tokens" if lost.get(_CUT) else "--count"
        return (
            f"of {drawn:,} answers {counted or 'none'} (--max-new-tokens {self.max_new_tokens}, "
            f"--count {self.count}); raise {raised}"
        )

    def _facts(
        self,
        rows: Path,
        asked: int,
        kept: Sequence[Mapping[str, Any]],
        lost: Mapping[str, int],
    ) -> dict[str, Any]:
        means: dict[str, float] = {
            "prompts": asked,
            "answers": sum(len(row["completions"]) for row in kept),
        }
        if self.reward is not None:
            scores = [score for row in kept for score in row["scores"]]
            means["score"] = float(np.mean(scores))
            means["best"] = float(np.mean([max(row["scores"]) for row in kept]))
        if self._several:
            means |= attribute_means(one for row in kept for one in row["attributes"])
        return {
            "model": {"path": loading.shown(self.model), "hash": loading.model_hash(self.model)},
            "rows": loading.shown(rows),
            "options": {**asdict(self), "model": loading.shown(self.model)},
            "precision": precision_used(self.precision),
            "means": means,
            "left_out": {
                "prompts": asked - len(kept),
                "answers": {reason: count for reason, count in sorted(lost.items()) if count},
            },
        }


def _left_out(answer: Mapping[str, Any]) -> str:
    """Why an answer is no sample of the model; empty where it is one."""
    if answer["completion"] is None:
        return "to prompts that do not fit the model"
    if not answer.get("ended"):
        return _CUT
    return "" if answer["completion"].strip() else _EMPTY
