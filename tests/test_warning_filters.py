"""Warnings are errors where our own modules cause them, and only there."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("curate", "finetune", "pipelines")  # installed as siftune.curate and so on
FOLDERS = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")}
OURS = sorted(f"siftune.{name}" if name in PARTS else name for name in FOLDERS)
CATEGORIES = [DeprecationWarning, FutureWarning, ResourceWarning, RuntimeWarning, UserWarning]


def warn_from(module: str, category: type[Warning]) -> None:
    """Execute a warning in a module of that name."""
    code = compile("warnings.warn('old', category)", f"/lib/{module}.py", "exec")
    exec(code, {"__name__": module, "warnings": warnings, "category": category})


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("package", OURS)
def test_a_warning_from_our_module_is_an_error(package, category):
    for module in (package, f"{package}.core.deep.module"):
        with pytest.raises(category, match="old"):
            warn_from(module, category)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", ["transformers.utils", "numpy", "curated_data", "curate.io"])
def test_a_warning_from_a_library_is_reported_and_no_error(module, category):
    with warnings.catch_warnings(record=True) as reported:
        warn_from(module, category)
    assert [str(one.message) for one in reported] == ["old"]


def test_a_library_that_deprecates_our_call_is_an_error():
    library = {"__name__": "library", "warnings": warnings}
    exec("def old():\n    warnings.warn('call new()', FutureWarning, stacklevel=2)", library)
    with pytest.raises(FutureWarning, match="call new"):
        library["old"]()
