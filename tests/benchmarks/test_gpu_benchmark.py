"""The benchmark of a GPU: its table and checks from given figures, and all parts on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu


def found(**changed: Any) -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = {part.name: {"why": "left out"} for part in asked()}
    facts["limits"] = {"search_fp32_tflops": 40.0, "copy_gb_s": 1000.0}
    facts["k_center"] = {"wall": 2.0, "equal": True, "flops": 8e12, "bytes": 5e11, "gpu_mb": 1500.0}
    facts["embedding"] = {"wall": 4.0, "tokens": 1_000, "least_cosine": 0.9995}
    facts["dpo"] = {"wall": 3.0, "tokens": 600, "losses": [0.69, 0.60]}
    facts["dpo by TRL"] = {"wall": 6.0, "tokens": 600, "losses": [0.69, 0.6009]}
    return facts | changed


def asked() -> list[gpu.Part]:
    return gpu.parts(1.0, "cuda")


def test_shares_are_of_the_limits_that_were_measured_in_the_same_run() -> None:
    lines = list(gpu.table(asked(), found()))
    assert "| k_center | 1,000,000 | 2.00 | 500,000 rows/s | 10.0% | 25.0% | 1,500 |" in lines
    assert "| embedding | 100,000 | 4.00 | 250 tokens/s |  |  |  |" in lines
    assert "| ifd | | not measured: left out | | | | |" in lines
    assert "| limit: copy_gb_s | | | 1,000.00 | | | |" in lines


def test_what_differs_from_the_cpu_or_from_trl_is_named() -> None:
    assert gpu.checks(found()) == {
        "k_center: decisions equal": True,
        "embedding: cosine ≥ 0.999": True,
        "dpo: losses within 0.001 of dpo by TRL": True,
    }
    wrong = found(embedding={"least_cosine": 0.9}, dpo={"losses": [0.69, 0.61]})
    assert [name for name, same in gpu.checks(wrong).items() if not same] == [
        "embedding: cosine ≥ 0.999",
        "dpo: losses within 0.001 of dpo by TRL",
    ]


def test_nothing_is_measured_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "_gpu", lambda: None)
    assert gpu.main([]) == 2
    assert "no GPU is found here" in capsys.readouterr().out


def test_a_part_has_no_time_once_the_clock_is_out() -> None:
    clock = gpu.Clock(0.0, gpu=False)
    assert gpu.run(asked()[0], clock) == {"why": "no time was left"}


@pytest.mark.slow
def test_every_part_runs_on_the_cpu_and_agrees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    words = ["--cpu", "--scale", "0.01", "--minutes", "40", "--out", str(out)]
    assert gpu.main(words) == 0, capsys.readouterr().out
    figures = json.loads(out.read_bytes())
    assert len(figures["checks"]) == 7
    assert all(figures["checks"].values())
    assert "not measured" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_clock_ends_its_part() -> None:
    clock = gpu.Clock(0.3, gpu=False)
    part = gpu.Part("embedding", "benchmarks.ours.gpu", dict(asked()[1].options), 40.0)
    assert gpu.run(part, clock)["why"].startswith("stopped by its clock after")
