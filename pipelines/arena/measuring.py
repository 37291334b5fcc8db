"""Measuring of one arm: every measure on every held-out set under every template."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import code_of
from siftune.curate.core.schema import kind_of
from siftune.curate.files.atomic import digest_of, read_json, write_json
from siftune.finetune.data import training_rows
from siftune.pipelines.arena.measures.types import MEASURED_IN, Answer, Asked, Values
from siftune.pipelines.arena.recipe import MEASURES, Arena, Measured

__all__ = ["Measuring", "templated"]


@dataclass
class Measuring:
    """Measures of the arms of an arena, on ``tables`` of held-out rows by set."""

    arena: Arena
    tables: Mapping[str, pl.DataFrame]
    memory: dict[Any, Any] = field(default_factory=dict)

    def __call__(
        self,
        model: Path,
        key: str,
        folder: Path,
        baseline: Path | None,
        baseline_key: str | None = None,
    ) -> float:
        """Write the values of a model's arm to ``folder``; returns the CPU seconds they took.

        ``key`` identifies the model. ``baseline`` is the folder of the arm `random`,
        ``baseline_key`` identifies its model.
        """
        loaded = _Loaded(model)
        seconds = 0.0
        for name, table in self.tables.items():
            for measure in self.arena.heldout[name].measures:
                path = folder / f"{name}.{measure.label}.json"
                own = self._key(key, name, measure, baseline_key)
                if path.is_file() and read_json(path)["key"] == own:
                    continue
                start = time.process_time()
                work = partial(self._asked, name, key, loaded, folder, baseline)
                found = [self._values(measure, work(at)) for at in range(len(self.arena.templates))]
                spent = time.process_time() - start
                seconds += spent
                write_json(
                    path,
                    {
                        "key": own,
                        "ids": table["id"].to_list(),
                        "values": [one.values for one in found],
                        "weights": None if found[0].weights is None else found[0].weights,
                        "cpu_seconds": round(spent, 3),
                    },
                )
        loaded.drop()
        return seconds

    def is_done(self, key: str, folder: Path, baseline_key: str | None = None) -> bool:
        """Whether every measure of the arm is there."""
        return all(
            (path := folder / f"{name}.{measure.label}.json").is_file()
            and read_json(path)["key"] == self._key(key, name, measure, baseline_key)
            for name in self.tables
            for measure in self.arena.heldout[name].measures
        )

    def _values(self, measure: Measured, asked: Asked) -> Values:
        component = measure.made()
        kind = kind_of(asked.table)
        if kind not in component.kinds:
            wanted = " or ".join(component.kinds)
            raise UsageError(f"{measure.label}: it reads {wanted} rows, these are {kind} rows")
        found: Values = component(asked)
        if len(found.values) != asked.table.height:
            raise UsageError(
                f"{measure.label}: expected {asked.table.height} values, got {len(found.values)}"
            )
        return found

    def _key(self, key: str, name: str, measure: Measured, baseline_key: str | None) -> str:
        """What decides the values of a measure."""
        return digest_of(
            [
                *(key, baseline_key, MEASURED_IN, self.arena.seed),
                training_rows.data_hash(self.tables[name]),
                self.arena.templates,
                dict(self.arena.generate),
                asdict(measure),
                code_of(MEASURES, measure.name),
                _reward_hashes(measure.options.get("reward")),
            ]
        )

    def _asked(
        self, name: str, key: str, loaded: _Loaded, folder: Path, baseline: Path | None, at: int
    ) -> Asked:
        table = templated(self.tables[name], self.arena.templates[at])
        own = digest_of(
            [
                key,
                MEASURED_IN,
                self.arena.seed,
                training_rows.data_hash(table),
                dict(self.arena.generate),
            ]
        )
        answer = partial(self._answers, table, loaded, folder / f"{name}.answers-{at}.json", own)

        def others() -> Sequence[Answer]:
            path = None if baseline is None else baseline / f"{name}.answers-{at}.json"
            return answer() if path is None else read_json(path)["answers"]

        return Asked(
            table,
            self.arena.base,
            lambda: loaded.model,
            loaded.tokenizer,
            answer,
            others,
            int(self.arena.generate["batch_size"]),
            self.arena.seed,
            self.memory,
        )

    def _answers(
        self, table: pl.DataFrame, loaded: _Loaded, path: Path, key: str
    ) -> Sequence[Answer]:
        """The model's answers, from the file if they were given before."""
        from siftune.finetune.evaluation.generation_eval import GenerationEval

        if path.is_file() and read_json(path)["key"] == key:
            known: Sequence[Answer] = read_json(path)["answers"]
            return known
        rows = training_rows.to_prompts(table)
        asked = tuple({**row, "answer": None, "reference": None} for row in rows)
        generate = self.arena.generate
        given = GenerationEval(
            asked,
            loaded.tokenizer,
            temperature=float(generate["temperature"]),
            max_new_tokens=int(generate["max_new_tokens"]),
            batch_size=int(generate["batch_size"]),
            seed=self.arena.seed,
        )(loaded.model)
        answers = [
            {
                "id": row["id"],
                "question": one["question"],
                "prompt": one["prompt"],
                "completion": one["completion"],
                "reference": row["reference"],
                "tokens": one.get("tokens"),
                "ended": one.get("ended"),
                "extra": row["extra"],
            }
            for row, one in zip(rows, given, strict=True)
        ]
        write_json(path, {"key": key, "answers": answers})
        return answers


def _reward_hashes(reward: Any) -> list[str]:
    """Hashes of the reward models that a measure's option ``reward`` names."""
    from siftune.finetune.models.loading import model_hash
    from siftune.finetune.rewards.types import folders_of

    return [model_hash(one) for one in folders_of(reward) if Path(one).is_dir()]


@dataclass
class _Loaded:
    """A model that is loaded when a measure reads it, in `MEASURED_IN`."""

    path: Path | str

    @cached_property
    def model(self) -> Any:
        from siftune.finetune.models import loading

        return loading.placed(loading.load_causal(self.path, MEASURED_IN))

    @cached_property
    def tokenizer(self) -> Any:
        from siftune.finetune.models import loading

        return loading.load_tokenizer(self.path)

    def drop(self) -> None:
        """Free the weights."""
        self.__dict__.pop("model", None)
        gc.collect()


def templated(table: pl.DataFrame, template: str) -> pl.DataFrame:
    """Rows whose last question is written into ``template`` in place of ``{prompt}``.

    Of a conversation that is the last user turn before its last answer.
    """
    if template == "{prompt}":
        return table
    column = "prompt" if "prompt" in table.columns else "messages"

    def put(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        asked = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
        if not asked:
            return turns
        changed = dict(turns[asked[-1]])
        changed["content"] = template.replace("{prompt}", changed["content"] or "")
        return [*turns[: asked[-1]], changed, *turns[asked[-1] + 1 :]]

    made = [put(turns) for turns in table[column].to_list()]
    return table.with_columns(pl.Series(column, made, dtype=table.schema[column]))
