"""TSS: the loss under other instructions against the loss under the true one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from siftune.curate.scorers.tss import TSS
from tests.curate.lm_reference import BOT, USER, Chat, Reference, table

OPTIONS = [{"against": "HELD_OUT", "model": "LM", "precision": "bf16"}]

INSTRUCTIONS = ["Name a colour.", "Say hello.", "What is two plus two?", "the sea " * 200]
ROW: Chat = [(USER, "Say hello.\n\nto the king\n\nand the cat"), (BOT, "Hello, king!")]


@pytest.fixture
def pool(tmp_path: Path) -> str:
    path = tmp_path / "pool.jsonl"
    rows = [{"instruction": one, "input": "x", "output": "Blue."} for one in INSTRUCTIONS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def with_instruction(instruction: str) -> Chat:
    return [(USER, f"{instruction}\n\nto the king\n\nand the cat"), ROW[1]]


def test_it_is_the_loss_under_other_instructions_less_that_under_the_own(
    tiny_model_dir: Path, pool: str
) -> None:
    found = TSS(against=pool, model=str(tiny_model_dir), alternatives=4)(table(ROW))
    reference = Reference(tiny_model_dir)
    own = reference.pair(ROW, "none")[0]
    # its own instruction is no alternative, and one does not fit the window
    others = [reference.pair(with_instruction(INSTRUCTIONS[i]), "none")[0] for i in (0, 2)]
    assert found[0, "tss"] == pytest.approx(np.mean(others) - own, abs=1e-5)
    assert found[0, "tss_hardest"] == pytest.approx(min(others) - own, abs=1e-5)
    assert found[0, "tss_answer_nll"] == pytest.approx(own, abs=1e-5)


def test_alternatives_depend_on_the_row_and_the_seed_alone(pool: str) -> None:
    drawn = [
        TSS(against=pool, seed=seed, alternatives=2)._drawn("x", "row 1") for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert len({*drawn[0]}) == 2
    of_seeds = set()
    for seed in range(30):
        scorer = TSS(against=pool, seed=seed, alternatives=1)
        scorer.__dict__["_pool"] = sorted(INSTRUCTIONS)
        of_seeds |= {*scorer._drawn("x", "row")}
    assert of_seeds == {*INSTRUCTIONS}


def test_the_nearest_instructions_are_chosen_by_embedding(pool: str, tiny_embedder: Path) -> None:
    from siftune.curate.vectors.embed import Embedder

    scorer = TSS(against=pool, choose="nearest", embedder=str(tiny_embedder), alternatives=1)
    asked = ["Say hello.", "What is two plus three?"]
    pool_of = sorted(INSTRUCTIONS)
    vectors = Embedder(str(tiny_embedder)).encode([*asked, *pool_of]).vectors
    near = vectors[:2] @ vectors[2:].T
    near[0, pool_of.index("Say hello.")] = -1
    assert scorer._nearest(asked) == [[pool_of[at]] for at in near.argmax(axis=1)]


def test_without_prompt_answer_or_alternative_it_is_null(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "Say hello.", "completion": "Hello."}\n')
    rows: list[Chat] = [[(USER, "Hi")], [(BOT, "Hi")], ROW, [(USER, "Name it"), (BOT, "Blue")]]
    found = TSS(against=str(path), model=str(tiny_model_dir))(table(*rows))
    assert found["tss"].is_null().to_list() == [True, True, True, False]
