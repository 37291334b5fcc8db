"""Second stage of a reward model of attributes: a gate fitted to pairs, the model as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.core.intervals import with_interval
from siftune.finetune.data import training_rows
from siftune.finetune.data.comparisons import pairs_in
from siftune.finetune.evaluation.pair_accuracy import encode_sides, uncomparable, wins
from siftune.finetune.models.reward_heads import folded
from siftune.finetune.reward_models.gate import GateOptions, facts_of_gate
from siftune.finetune.reward_models.head_inputs import head_inputs, prompt_ids

__all__ = ["check_gate", "total_of"]


def check_gate(options: Any, heads: Mapping[str, float]) -> GateOptions | None:
    """The options of the gate of a `RewardModel` with these ``heads``; None without a gate.

    Raises:
        UsageError: there is no gate that they are of, or one does not fit.
    """
    if options.gate is None:
        if options.gate_options:
            raise UsageError("gate_options: they are of the gate, whose pairs gate names")
        return None
    if options.objective != "attributes":
        raise UsageError("gate: it weighs the outputs of the objective attributes; set that")
    try:
        made = GateOptions(**options.gate_options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"gate_options: {error}") from None
    made.length_in([*heads])
    return made


def total_of(
    options: Any, heads: Mapping[str, float], model: Any, tokenizer: Any, folder: Path
) -> tuple[Any, dict[str, Any], dict[str, float]]:
    """A trained model of several ``heads`` as one reward: of one output, or with a gate.

    ``options`` is a `RewardModel`; the gate is written into ``folder``. Returns the model, facts of
    the gate, and metrics.
    """
    if not heads:
        return model, {}, {}
    gate = check_gate(options, heads)
    if gate is None:
        return folded(model, [*heads.values()]), {}, {}
    facts, metrics = _gated(options, gate, heads, model, tokenizer, folder)
    model.config.num_labels = model.num_labels = len(heads)  # of which the loop has made one
    return model, {"gate": facts}, metrics


def _gated(
    options: Any,
    gate_options: GateOptions,
    heads: Mapping[str, float],
    model: Any,
    tokenizer: Any,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Facts of a gate that is fitted to its pairs, and its accuracy on held-out ones.

    Beside it is that of the total by the weights of ``heads``.
    """
    table, names = pairs_in(options.gate), [*heads]
    empty = training_rows.bad_rows(table)
    rows = training_rows.to_pairs(table.join(empty, on="id", how="anti", maintain_order="left"))
    sides = encode_sides(tokenizer, rows, tokenizer.model_max_length)
    bad = pl.concat([empty, uncomparable(rows, sides)])
    table = training_rows.drop_bad(table, bad, options.on_bad, options.gate)
    read = {row["id"]: (row, both) for row, both in zip(rows, sides, strict=True)}
    train, test = training_rows.held_out(table, options.held_out, options.seed)
    model.eval()
    fitted = _numbers(model, tokenizer, [read[key] for key in train["id"]], len(names))
    gate = gate_options.fit(names, *fitted, seed=options.seed)
    gate.save(folder)
    facts = {**facts_of_gate(gate, fitted[0]), "pairs": train.height}
    if test.is_empty():
        return facts, {}
    states, ratings, chars = _numbers(
        model, tokenizer, [read[key] for key in test["id"]], len(names)
    )
    linear = ratings @ torch.tensor([*heads.values()])
    gated = torch.stack([gate.totals(states, ratings[:, at], chars[:, at]) for at in (0, 1)], 1)
    keys = training_rows.prompt_keys(test).to_list()
    found: dict[str, float] = {}
    for name, totals in (("gate", gated), ("linear", linear)):
        right = [wins(*both) for both in totals.tolist()]
        found |= with_interval(f"eval_{name}_accuracy", right, keys)
    return facts, found


def _numbers(
    model: Any, tokenizer: Any, pairs: Sequence[Any], outputs: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States of prompts (N, H), outputs (N, 2, K) and characters (N, 2) of pairs."""
    texts = [one.ids for _, both in pairs for one in both]
    ratings = head_inputs(model, tokenizer, texts, outputs)[0].reshape(len(pairs), 2, outputs)
    asked = prompt_ids(tokenizer, [row for row, _ in pairs], tokenizer.model_max_length)
    distinct = {tuple(one): at for at, one in enumerate(dict.fromkeys(map(tuple, asked)))}
    states = head_inputs(model, tokenizer, [*distinct], outputs)[1]
    chars = [
        [training_rows.length_of(row[side]) for side in ("chosen", "rejected")] for row, _ in pairs
    ]
    return states[[distinct[tuple(one)] for one in asked]], ratings, torch.tensor(chars).float()
