"""The five short examples run as they are, offline, and print what their first lines promise."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTED = {
    "01_curate": ["2 conversation rows kept, 3 dropped, 1 quarantined", "survivor=rows:1"],
    "02_dedup": ["near_duplicate_of_reference", "0.870968", "survivor earlier:1 of "],
    "03_select": ["top_k: mean quality 0.9", "k_center: mean quality"],
    "04_sft_dpo": ["accuracy on 2 held-out pairs: "],
    "05_reward_ppo": ["score"],
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_short_example_prints_what_it_is_about(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    example["main"](*([tmp_path] if example["main"].__code__.co_argcount else []))
    printed = capsys.readouterr().out
    assert [words for words in PRINTED[name] if words not in printed] == []


def test_there_is_an_expectation_for_each_short_example():
    assert {path.stem for path in EXAMPLES.glob("0*.py")} == set(PRINTED)
