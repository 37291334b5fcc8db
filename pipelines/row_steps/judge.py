"""Preference rows from the answers to each prompt, labelled by an LLM judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import Kind, schema_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import whole_folder
from siftune.curate.judge_calls.spec import judge_backend, named_judge, refuse_same
from siftune.curate.judge_calls.types import Item, Question, Task, Verdict
from siftune.curate.judge_stats.agreement import cohen_kappa
from siftune.curate.judge_stats.intervals import Estimate, mean
from siftune.curate.judge_stats.pair_biases import pair_biases
from siftune.curate.judging.judge_task import judge_task
from siftune.curate.judging.pairs import PairsOf, answer_pairs, pair_name
from siftune.curate.judging.row_items import items_of
from siftune.curate.models.lineage import lineage
from siftune.curate.rows.convert import content_digest
from siftune.finetune.data import training_rows
from siftune.pipelines.judge_lineage import kin_facts, kin_of_pairs, own_answers
from siftune.pipelines.judge_options import JudgeOptions, Outcomes, estimated, questions_of

__all__ = ["Judge"]

_COMMAND: Final = "pipelines judge"
_Asked: TypeAlias = tuple[int, tuple[int, ...], Item]  # the row, and which of its answers
_Label: TypeAlias = tuple[int, tuple[int, ...], Any]  # better answer first; what it has, or why not
_MODELS_HERE: Final = ("local_model", "classifier")
_NO_LINEAGE: Final = "whether the judge is kin to a model that answered is not known"
_ONE_MODEL: Final = "no row has an answer of the judge beside one of another model"
_AGREE: Final = "; agree: false takes the mean of both orders"
_SIDES: Final = {"first": 1.0, "second": 0.0, "tie": 0.5}


@dataclass(frozen=True, kw_only=True)
class Judge(JudgeOptions):
    """Preference rows: of two answers the one that the judge prefers is chosen.

    A task that compares two answers (``pairwise``, ``constitution_preference``) is asked about the
    first and the second answer, the third and the fourth … (``pairs: all``: about any two), each
    pair in both orders. A pair whose
    orders disagree, or that is a tie, is left out; with ``agree: false`` the mean preference of
    both orders decides, as in RLAIF, arXiv:2309.00267. A task that rates one answer (``additive``)
    is asked about each: the best is chosen, the worst rejected (arXiv:2401.10020), and equal
    ratings are a tie. Pairs that are given (preference rows) are labelled anew.

    ``kept.parquet`` has the pairs, with the judge's preference as ``win_probability`` or its
    ratings as scores; ``verdicts.parquet`` has every verdict or the reason why there is none.
    ``judging.json`` counts what was left out, by reason, and has the figures of the round with
    their intervals: length of the answers in words, biases by position and length, inconsistent
    pairs, agreement with the ``second`` judge (Cohen's kappa), and with the labels of given pairs;
    of rows of the step ``versus`` the win rate of the first model, the same had both answers one
    length (``length_controlled``), and self-preference.

    Options:
        task: Task that compares two answers or rates one; `siftune curate judges` lists them.
        pairs: Which answers to a prompt are compared: neighbours, the first and second, the third
            and fourth …; or all, any two.
        agree: Keep only pairs of which both orders agree; false takes the mean of both.
        keep_none: Go on where no pair got a label, as where only the figures are wanted.
        second: Another judge, asked the same, whose labels no model is trained on.
        second_options: Options of the second judge.
    """

    task: str = "pairwise"
    pairs: PairsOf = "neighbours"
    agree: bool = True
    keep_none: bool = False
    second: str | None = None
    second_options: Mapping[str, Any] = field(default_factory=dict)

    reads: ClassVar[tuple[Kind, ...]] = ("ranked", "preference")
    makes: ClassVar = "preference"

    @property
    def _judges(self) -> tuple[str, ...]:
        """The texts that name the judges."""
        return (self.judge,) if self.second is None else (self.judge, self.second)

    def check_options(self) -> None:
        """Refuse a task without a label for pairs, and two servers that the cache takes for one."""
        _ = self._rates
        if self.second is not None and "server" in named_judge(self.second)[0]:
            second = judge_backend(self.second, self.second_options)
            if "server" in named_judge(self.judge)[0]:
                refuse_same([self.backend, second])

    def __call__(self, rows: Path, out: Path) -> Mapping[str, Any]:
        """Write the folder ``out``; returns what was counted and measured.

        Raises:
            DataError: no pair got a label.
        """
        table = training_rows.load(rows, self.reads)
        listed = [_answers(row) for row in table.iter_rows(named=True)]
        shown = list(items_of(table))
        asked = self._asked(shown)
        items = [item for _, _, item in asked]
        ids = [table["id"][at] for at, _, _ in asked]
        outcomes = Outcomes()
        verdicts = list(self.verdicts(self._task, items, ids, outcomes))
        others: list[Verdict] = []
        if self.second is not None:
            second = judge_backend(self.second, self.second_options)
            given = (self.second, second, self._task, items, ids, outcomes)
            others = list(self._verdicts(*given))
        pairs = self._rated(asked, verdicts) if self._rates else self._compared(asked, verdicts)
        kept = []
        for at, places, label in pairs:
            if isinstance(label, str):
                outcomes.left_out[label] += 1
            else:
                kept.append(self._row(table.row(at, named=True), listed[at], places, label))
        lost = sum(not self._places(len(answers)) for answers in listed)
        outcomes.left_out["too_few_answers"] += lost
        outcomes.kept = len(kept)
        if not self.keep_none:
            advice = _AGREE if outcomes.left_out["inconsistent"] else ""
            outcomes.refuse_none(rows, "labelled pair", advice)
        facts = {
            **outcomes.facts(),
            "judge": self.backend.identity,
            "task": self.task,
            "judge_lineage": self._lineage,
            **kin_facts(kin_of_pairs(self._lineage, items)),
            **self._figures(table, shown, asked, verdicts, others),
        }
        with whole_folder(out, _COMMAND) as part:
            pl.DataFrame(kept, schema_of("preference")).write_parquet(part / "kept.parquet")
            self._verdict_table(ids, asked, verdicts).write_parquet(part / "verdicts.parquet")
            outcomes.write_unscored(part)
            write_json(part / "judging.json", facts)
        return facts

    def foresee(self, items: Sequence[Item]) -> tuple[list[Item], dict[str, list[Question]]]:
        """The pairs of example rows, each with a label, and what both judges are asked."""
        asked = [item for _, _, item in self._asked(items)]
        questions = questions_of(self._task, asked)
        made = asked
        if self._rates:
            lists = [item for item in items if len(item.answers) > 1]
            made = [replace(item, answers=item.answers[:2]) for item in lists]
        return made, dict.fromkeys(self._judges, questions)

    def _asked(self, items: Sequence[Item]) -> list[_Asked]:
        """What is judged of each row: pairs of its answers, or each of them."""
        return [
            (at, places, Item(item.prompt, tuple(item.answers[i] for i in places), item.extra))
            for at, item in enumerate(items)
            for places in self._places(len(item.answers))
        ]

    @property
    def _second_options(self) -> Mapping[str, Any]:
        return self.second_options

    @cached_property
    def _task(self) -> Task:
        return judge_task(self.task, self.task_options)

    @cached_property
    def _rates(self) -> bool:
        """Whether the task rates one answer, and does not compare two."""
        adds = self._task.adds
        if self._task.answers == 2 and {"winner", "preference"} <= adds.keys():
            return False
        if self._task.answers == 1 and next(iter(adds.values())) == pl.Float64:
            return True
        raise UsageError(
            f"task {self.task}: expected one that compares two answers, such as pairwise, or rates "
            "one, such as additive"
        )

    def describe(self) -> dict[str, Any]:
        """What the labels depend on besides the options."""
        other = None if self.second is None else judge_backend(self.second, self.second_options)
        second = None if other is None else other.identity
        return {**super().describe(), "second": second, "task": self.code_of_tasks(self.task)}

    def _places(self, count: int) -> list[tuple[int, ...]]:
        """Which of the answers to a prompt are judged together."""
        if self._rates:
            return [(at,) for at in range(count)] if count > 1 else []
        return list(answer_pairs(count, self.pairs))

    def _compared(self, asked: Sequence[_Asked], verdicts: Sequence[Verdict]) -> Iterator[_Label]:
        """Of each pair its answers, the better one first, and the preference; or why not."""
        for (at, places, _), verdict in zip(asked, verdicts, strict=True):
            if verdict.values is None:
                yield at, places, verdict.error or "unscored"
                continue
            value = float(verdict.values["preference"])
            if self.agree:
                side = _SIDES[verdict.values["winner"]]
            else:
                side = 0.5 if value == 0.5 else float(value > 0.5)
            if side == 0.5:
                agreed = not self.agree or verdict.values.get("consistent", True)
                yield at, places, "tie" if agreed else "inconsistent"
            else:
                yield at, places[:: 1 if side else -1], (value if side else 1 - value,)

    @staticmethod
    def _rated(asked: Sequence[_Asked], verdicts: Sequence[Verdict]) -> Iterator[_Label]:
        """Of each prompt its best and its worst answer with their ratings; or why not."""
        found: dict[int, list[tuple[float, int]]] = {}
        errors: dict[int, str] = {}
        for (at, (place,), _), verdict in zip(asked, verdicts, strict=True):
            scores = found.setdefault(at, [])
            if verdict.values is None:
                errors[at] = verdict.error or "unscored"
            else:
                scores.append((float(next(iter(verdict.values.values()))), place))
        for at, scores in found.items():
            if len(scores) < 2:
                yield at, (), errors[at]
                continue
            best, worst = max(scores, key=lambda one: (one[0], -one[1])), min(scores)
            tied = best[0] == worst[0]
            yield at, (best[1], worst[1]), "tie" if tied else (best[0], worst[0])

    def _row(
        self,
        base: Mapping[str, Any],
        answers: Sequence[Any],
        places: tuple[int, ...],
        label: tuple[float, ...],
    ) -> dict[str, Any]:
        """A preference row: ``label`` is the preference, or the ratings of both."""
        extra = {**orjson.loads(base["extra"] or "{}"), "judged_by": self.backend.identity}
        several = len(answers) > 2 and not self._rates
        scores = (
            dict(zip(("score_chosen", "score_rejected"), label, strict=True)) if self._rates else {}
        )
        row = {
            **{name: base[name] for name in ("source", "row", "prompt")},
            "id": f"{base['id']}#{pair_name(places, self.pairs)}" if several else base["id"],
            "kind": "preference",
            "extra": orjson.dumps(extra, option=orjson.OPT_SORT_KEYS).decode(),
            "chosen": answers[places[0]],
            "rejected": answers[places[1]],
            **dict.fromkeys(("score_chosen", "score_rejected", "margin", "win_probability")),
            **scores,
        }
        if self._rates:
            row["margin"] = label[0] - label[1]
        else:
            row["win_probability"] = label[0]
        row["digest"] = content_digest("preference", row)
        return row

    def _verdict_table(
        self,
        ids: Sequence[str],
        asked: Sequence[_Asked],
        verdicts: Sequence[Verdict],
    ) -> pl.DataFrame:
        """One row a verdict: the id, the numbers of the answers, the values or the error."""
        values = {
            name: pl.Series(name, [one.values and one.values[name] for one in verdicts], dtype=kind)
            for name, kind in self._task.adds.items()
        }
        return pl.DataFrame(
            {
                "id": ids,
                "answers": [list(places) for _, places, _ in asked],
                **values,
                "error": pl.Series([one.error for one in verdicts], dtype=pl.String),
                "detail": [one.detail for one in verdicts],
            }
        )

    def _figures(
        self,
        table: pl.DataFrame,
        shown: Sequence[Item],
        asked: Sequence[_Asked],
        verdicts: Sequence[Verdict],
        others: Sequence[Verdict],
    ) -> dict[str, Any]:
        """Figures by their names in `Round`, and more, each with its interval, or why not."""
        prompts = [at for at, _, _ in asked]
        mine = self._numbers(verdicts)
        measures = {"length": lambda: _length(shown)}
        theirs = self._numbers(others) if others else None
        if theirs is not None:
            how: Any = "quadratic" if self._rates else "none"
            measures["agreement"] = lambda: cohen_kappa(mine, theirs, prompts, weights=how)
        found = estimated(measures)
        found["not_measured"]["self_preference"] = _ONE_MODEL
        if self._rates:
            return found
        kin = kin_of_pairs(self._lineage, [item for _, _, item in asked])
        own = None if kin is None else own_answers(kin)
        labelled = "chosen" in table.columns
        words = [[len(text.split()) for text in item.answers] for _, _, item in asked]
        biases = pair_biases(
            mine,
            first_position=self._if_added(verdicts, "first_position"),
            consistent=self._if_added(verdicts, "consistent"),
            lengths=[first for first, _ in words],
            other_lengths=[second for _, second in words],
            gold=theirs,
            gold_consistent=self._if_added(others, "consistent") if others else None,
            own=own,
            prompts=prompts,
            rates=labelled or own is not None,
        )
        names = {"position_bias": "position", **({"win_rate": "accuracy"} if labelled else {})}
        figures = {names.get(name, name): asdict(one) for name, one in biases.figures.items()}
        unknown = {names.get(name, name): why for name, why in biases.not_estimable.items()}
        without = {**found["not_measured"], **unknown}
        if "self_preference" in figures:
            del without["self_preference"]
        elif kin is not None and self._lineage is None:
            without["self_preference"] = _NO_LINEAGE
        return {"figures": {**found["figures"], **figures}, "not_measured": without}

    @cached_property
    def _lineage(self) -> list[str] | None:
        """The judge's model and its ancestors; None of a judge that is no model here."""
        name, options = named_judge(self.judge)
        return lineage(options["model"]) if name in _MODELS_HERE else None

    def _if_added(self, verdicts: Sequence[Verdict], name: str) -> Any:
        """A value of the verdicts as numbers; None where the task, one of the user's, has none."""
        return _column(verdicts, name) if name in self._task.adds else None

    def _numbers(self, verdicts: Sequence[Verdict]) -> Any:
        """The verdicts as numbers: a rating, or the first answer's score; NaN where there is none.

        With ``agree`` that is the score of both orders' winner, else of the mean preference.
        """
        if self._rates:
            return _column(verdicts, next(iter(self._task.adds)))
        if not self.agree:
            return (np.sign(_column(verdicts, "preference") - 0.5) + 1) / 2
        values = [None if one.values is None else one.values["winner"] for one in verdicts]
        return np.array([np.nan if one is None else _SIDES[one] for one in values], float)


def _answers(row: Mapping[str, Any]) -> list[Any]:
    """The turns of each answer of a row."""
    if "completions" in row:
        return list(row["completions"] or ())
    return [row["chosen"], row["rejected"]]


def _column(verdicts: Sequence[Verdict], name: str) -> Any:
    """A value of the verdicts as numbers; NaN where there is none."""
    return np.array(
        [np.nan if one.values is None else float(one.values[name]) for one in verdicts], float
    )


def _length(items: Sequence[Item]) -> Estimate:
    """The mean number of words of an answer, by prompts."""
    counts = [(len(text.split()), at) for at, item in enumerate(items) for text in item.answers]
    return mean([count for count, _ in counts], [at for _, at in counts])
