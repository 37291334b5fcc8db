from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks.precision import _fast_emulation, _made_up, _run, main


def test_scores_of_a_stranger_without_model_or_rows_are_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--scores-only", "--count", "12"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["ifd", "ifd_answer_nll", "ifd_alone_nll"]
    for line in lines:
        assert re.search(r": 12 rows, rank correlation [01]\.\d{5}, greatest difference 0\.", line)


def test_the_fast_emulation_computes_what_torch_computes_in_bf16() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=generator).bfloat16() for size in ((7, 64), (9, 64)))
    exact = functional.linear(x, weight)
    with _fast_emulation():
        found = functional.linear(x, weight)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("method", ["ifd", "sft", "dpo", "ppo"])
def test_every_method_is_timed_on_the_tokens_it_runs(
    method: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.parquet"
    _made_up(4).write_parquet(rows)
    lengths = [(10, 5)] * 4
    tokens = _run(method, "fp32", str(tiny_model_dir), rows, lengths, tmp_path / "out")
    assert tokens == {"ifd": 80, "sft": 60, "dpo": 120, "ppo": 104}[method]
