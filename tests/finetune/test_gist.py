"""GIST beside numpy's singular value decomposition of whole gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siftune.finetune.scorers.gist import GIST
from tests.curate.lm_reference import table
from tests.finetune.influence_rows import CHATS, TARGETS, jsonl

NO_PATHS = ("subtask",)
SLOW_CONTRACTS = True
OPTIONS = [
    {
        "model": "LM",
        "against": "HELD_OUT",
        "template": "none",
        "precision": "fp32",
        "warmup": 0.2,
        "epochs": 1,
        "rank": 1,
        "dimension": 32,
    }
]


@pytest.mark.parametrize(
    ("components", "subtask"), [pytest.param(2, None, marks=pytest.mark.slow), (2, "extra.task")]
)
def test_it_equals_its_definition(
    tiny_model_dir: Path, tmp_path: Path, components: int, subtask: str | None
) -> None:
    gist = GIST(
        model=str(tiny_model_dir),
        against=str(jsonl(tmp_path / "target.jsonl", TARGETS)),
        precision="fp32",
        warmup=0.5,
        epochs=2,
        rank=2,
        dimension=None,
        components=components,
        subtask=subtask,
    )
    model, rows = gist.adapted(), [row for row in gist._each(table(*CHATS)) if row]
    targets, task_of = gist._targets()
    checkpoints = gist.train(model, gist.drawn(rows), None)
    found: Any = 0
    for one in checkpoints:
        model.weights = one.state.weights
        each, other = (
            np.array([model.gradient(row).numpy() for row in some]) for some in (rows, targets)
        )
        basis = np.linalg.svd(other, full_matrices=False)[2][:components]
        means = [
            other[[at for at, one in enumerate(task_of) if one == task]].mean(axis=0) @ basis.T
            for task in sorted(set(task_of))
        ]
        cosines = [
            [(row @ m) / np.linalg.norm(row) / np.linalg.norm(m) for m in means]
            for row in each @ basis.T
        ]
        found = found + one.rate / sum(each.rate for each in checkpoints) * np.array(cosines)
    scores = gist(table(*CHATS))["gist"].to_numpy()
    np.testing.assert_allclose(scores, found.max(axis=1), rtol=0.02, atol=1e-3)
    assert len(set(scores.tolist())) == len(CHATS)
