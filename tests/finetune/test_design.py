"""The example of an added objective in DESIGN.md is a loss that conforms."""

from __future__ import annotations

from pathlib import Path

import finetune
from finetune.conformance import Conformance, loss_at


def test_the_example_of_an_added_objective_conforms_and_is_dpo_without_its_margin(tmp_path):
    text = (Path(str(finetune.__file__)).parent / "DESIGN.md").read_text(encoding="utf-8")
    path = tmp_path / "margin_dpo.py"
    path.write_text(text.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    fates = {one.fate for one in Conformance()(loss_at(f"{path}:MarginDPO", {}))}
    assert "failed" not in fates
    same = Conformance(optimum="boltzmann", like="dpo")(
        loss_at(f"{path}:MarginDPO", {"gamma": 0.0})
    )
    assert {one.fate for one in same} == {"ok"}
