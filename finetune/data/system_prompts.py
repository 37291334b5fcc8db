"""System prompts by domain: a model that scores answers reads one for the domain of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.files.json_text import dump
from siftune.curate.models.resolve import model_folder
from siftune.curate.records.turns import text_turn
from siftune.finetune.data.training_rows import values_of

__all__ = ["SystemPrompts"]


@dataclass(frozen=True)
class SystemPrompts:
    """``prompts`` by the value of the column or raw field ``domain`` of a row.

    One reward model for several kinds of preferences, each named by its prompt: InternLM2, Cai et
    al. 2024, arXiv:2403.17297, section 4.2.1. A row of no domain, or of another one, is read as it
    is. A system turn that a row has follows in the same turn.
    """

    domain: str
    prompts: Mapping[str, str]

    @classmethod
    def of_model(cls, folder: str | Path) -> SystemPrompts | None:
        """What the model of a folder was trained with; None where that was without."""
        from siftune.finetune.models.loading import read_facts

        options = read_facts(folder).get("options")
        given = options if isinstance(options, dict) else {}
        domain, prompts = given.get("domain"), given.get("system_prompts")
        if isinstance(domain, str) and isinstance(prompts, dict) and prompts:
            return cls(domain, prompts)
        return None

    @classmethod
    def of_models(cls, models: Sequence[str]) -> SystemPrompts | None:
        """What all of several models were trained with.

        Raises:
            UsageError: they were trained with different ones.
        """
        first, *rest = (cls.of_model(model_folder(model)) for model in models)
        for model, own in zip(models[1:], rest, strict=True):
            if own != first:
                one, other = ("none" if it is None else dump(it.options) for it in (own, first))
                raise UsageError(
                    f"{model} and {models[0]} cannot be merged: they were trained with different "
                    f"system prompts of domains, {one} and {other}; expected reward models "
                    "trained with the same domain and system_prompts"
                )
        return first

    @property
    def options(self) -> dict[str, Any]:
        """The options of a reward model that it is trained with so."""
        return {"domain": self.domain, "system_prompts": dict(self.prompts)}

    def turns(self, turns: Sequence[Mapping[str, Any]], domain: Any) -> list[Mapping[str, Any]]:
        """The turns of a prompt, with the system prompt of ``domain`` in front.

        >>> own = SystemPrompts("topic", {"code": "Judge code."})
        >>> own.turns([{"role": "user", "content": "?"}], "code")[0]["content"]
        'Judge code.'
        """
        text = self.prompts.get(str(domain)) if domain is not None else None
        if text is None:
            return list(turns)
        if turns and turns[0]["role"] == "system":
            whole = f"{text}\n\n{turns[0]['content'] or ''}".rstrip()
            return [{**turns[0], "content": whole}, *turns[1:]]
        return [text_turn("system", text), *turns]

    def table(self, table: pl.DataFrame, source: Path | str = "rows") -> pl.DataFrame:
        """The rows, each prompt with the system prompt of its domain.

        Raises:
            UsageError: no row is of one of the domains.
        """
        domains = values_of(table, self.domain)
        if not {str(one) for one in domains if one is not None} & self.prompts.keys():
            raise UsageError(
                f"{source}: no row has {', '.join(self.prompts)} in the column or field "
                f"{self.domain!r}, which names its domain"
            )
        prompts = zip(table["prompt"].to_list(), domains, strict=True)
        made = [turns and self.turns(turns, domain) for turns, domain in prompts]
        return table.with_columns(pl.Series("prompt", made, dtype=TURNS))
