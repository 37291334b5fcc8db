"""The tour runs without torch, and its notebook is made of it.

`python -m tests.examples.test_tour` writes the notebook anew.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parents[2] / "examples" / "tour.py"
NOTEBOOK = TOUR.with_suffix(".ipynb")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook() -> dict[str, Any]:
    """The cells of the tour, executed: what a cell prints last is its output."""
    head, *cells = re.split(r"(?m)^# %% ", TOUR.read_text())
    space: dict[str, Any] = {"__name__": "tour"}
    made = [{"cell_type": "markdown", "metadata": {}, "source": lines(title_of(head))}]
    for count, cell in enumerate(cells, 1):
        told, _, code = cell.partition("\n")
        made.append({"cell_type": "markdown", "metadata": {}, "source": [told]})
        made.append(executed(code.strip(), count, space))
    kernel = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}


def title_of(head: str) -> str:
    first, _, rest = str(ast.get_docstring(ast.parse(head))).partition("\n\n")
    return f"# {first}\n\n{rest.partition('`tour.ipynb`')[0].strip()}"


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def executed(code: str, count: int, space: dict[str, Any]) -> dict[str, Any]:
    """A cell with its output; what the script prints at its end is shown by a notebook itself."""
    outputs = []
    *body, last = ast.parse(code).body
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        (shown,) = last.value.args
        exec(compile(ast.Module(body, []), str(TOUR), "exec"), space)
        value = eval(compile(ast.Expression(shown), str(TOUR), "eval"), space)
        data = {"text/plain": lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = lines(value._repr_html_())
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}}
        outputs = [{**result, "data": data}]
        code = "\n".join(
            [*code.splitlines()[: last.lineno - 1], str(ast.get_source_segment(code, shown))]
        )
    else:
        exec(compile(code, str(TOUR), "exec"), space)
    cell = {"cell_type": "code", "execution_count": count, "metadata": {}}
    return {**cell, "outputs": outputs, "source": lines(code)}


def written(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def test_the_notebook_is_the_tour_with_what_it_prints():
    assert written(notebook()) == NOTEBOOK.read_text(), "run `python -m tests.examples.test_tour`"


def test_the_tour_has_ten_lines_and_needs_no_torch():
    probe = "import runpy, sys; runpy.run_module('examples.tour', run_name='__main__')\n"
    probe += "assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=TOUR.parents[1]
    )
    assert done.returncode == 0, done.stderr
    assert "1 near_duplicate" in done.stdout
    code = TOUR.read_text().partition("\n# %% ")[2]
    code = re.sub(r"(?ms)^RAW = \[.*?^\]\n", "", code)
    own = [line for line in code.splitlines()[1:] if line and not line.startswith("#")]
    assert len(own) == 10


if __name__ == "__main__":
    NOTEBOOK.write_text(written(notebook()))
