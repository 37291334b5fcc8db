"""The benchmark of the judge's engine, on few rows."""

from __future__ import annotations

import pytest

from benchmarks import judge


def table(printed: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]


def test_rows_are_judged_and_taken_from_the_cache(capsys: pytest.CaptureFixture[str]) -> None:
    judge.main(["--rows", "30", "--http-rows", "0"])
    head, _, row = table(capsys.readouterr().out)
    assert row[:2] == ["scripted, in process", "30"]
    assert len(row) == len(head)
    assert all(float(cell.replace(",", "")) > 0 for cell in row[2:])


@pytest.mark.slow
def test_the_command_is_measured_in_a_process_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge.main(["--rows", "0", "--http-rows", "0", "--command-rows", "40", "80"])
    head, _, *rows = table(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [["the command", "40"], ["the command", "80"]]
    for row in rows:
        assert len(row) == len(head)
        assert float(row[2].replace(",", "")) > 0
        assert 50 < float(row[6].replace(",", "")) < 2_000
