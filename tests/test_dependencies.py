"""pyproject.toml declares what the packages import; constraints.txt pins all that it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "curate": [
        "embed",
        "train",
        "judge",
        "langid",
        "lingua",
        "code",
        "schema",
        "math",
    ],  # chat templates of TRL, for what trains
    "finetune": ["train", "embed", "gym"],
    "pipelines": ["train", "embed", "report"],
    "examples": ["all"],
    "tests": ["dev"],
}
# Each build of torch requires its own: .ci/lock leaves them out too.
TORCH_BUILD = re.compile(r"cuda-|nvidia-|triton")


def declared(*extras: str) -> dict[str, Requirement]:
    """Requirements by name: those without an extra and those of ``extras``, ours followed."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found = {}
    for one in map(Requirement, lines):
        if one.name == PROJECT["name"]:
            found |= declared(*sorted(one.extras))
        else:
            found[canonicalize_name(one.name)] = one
    return found


@cache
def distributions() -> Mapping[str, Sequence[str]]:
    """Installed distributions of each top-level name that can be imported."""
    return packages_distributions()


_IMPORT = re.compile(
    r"(?m)(?:^|[;:])[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+([^\n;#]+))"
)


def written(text: str) -> set[str]:
    """Top-level names in what may be an import, or a line of a text that looks like one."""
    found = set()
    for source, names in _IMPORT.findall(text):
        parts = [source] if source else names.split(",")
        found |= {part.split()[0].partition(".")[0] for part in parts if part.strip()}
    return found


def imports(path: Path) -> Iterator[str]:
    """Top-level names that a file imports, anywhere in it."""
    left: list[Any] = [ast.parse(path.read_text())]
    while left:
        node = left.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):  # no expressions
            left += getattr(node, part, ())
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", EXTRAS)
def test_every_import_is_declared(package):
    ours = {path.name for path in ROOT.iterdir()} | set(sys.stdlib_module_names)
    names = declared(*EXTRAS[package])

    tools = {"cosmic_ray", "coverage"} if package == "tests" else set()  # of mutant_sample alone

    def unknown(found: Iterable[str]) -> set[str]:
        known = distributions()
        return {
            name
            for name in set(found) - ours - tools
            if not {canonicalize_name(one) for one in known.get(name, [name])} & set(names)
        }

    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / package).rglob("*.py")
        if unknown(written(path.read_text()))  # parsing all files takes seconds
        for name in unknown(imports(path))
    }
    assert not missing


def test_names_of_imports_are_found_without_parsing(tmp_path):
    text = "import json, yaml.x as y\nif a: import numpy; from torch.nn import (\n F,\n)\n"
    text += "from . import b  # import c\n"
    (tmp_path / "a.py").write_text(text)
    assert written(text) == set(imports(tmp_path / "a.py")) == {"json", "yaml", "numpy", "torch"}
    for path in sorted((ROOT / "curate/core").glob("*.py")):
        assert written(path.read_text()) >= set(imports(path)), path


def test_the_gpu_extra_is_embed_with_the_other_faiss():
    embed, gpu = (set(PROJECT["optional-dependencies"][name]) for name in ("embed", "gpu"))
    assert {one.partition(">=")[0] for one in embed ^ gpu} == {"faiss-cpu", "faiss-gpu-cu12"}


def pins() -> dict[str, set[str]]:
    """Version of each name in constraints.txt; several where Python or platform decide."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            one = Requirement(line)
            (clause,) = one.specifier
            assert clause.operator == "==", line
            found.setdefault(canonicalize_name(one.name), set()).add(clause.version)
    return found


def test_the_lock_names_versions_only():
    text = (ROOT / "constraints.txt").read_text()
    pinned = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in pinned if re.search(r"[/@+\\]|--|sha256|\*", line)] == []
    assert [name for name in pins() if TORCH_BUILD.match(name)] == []


def test_the_lock_is_within_the_declared_ranges():
    locked = pins()
    outside = [
        f"{name}=={version} is not {requirement.specifier}"
        for name, requirement in declared("dev").items()
        for version in sorted(locked.get(name, {"no version"}))
        if version == "no version" or not requirement.specifier.contains(version)
    ]
    assert not outside


def installed(requirement: Requirement, seen: set[str]) -> None:
    """Add the names that a requirement brings into this environment."""
    name = canonicalize_name(requirement.name)
    if name in seen and not requirement.extras:
        return
    seen.add(name)
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return
    for one in map(Requirement, lines):
        chosen = [{"extra": extra} for extra in sorted(requirement.extras | {""})]
        if one.marker is None or any(map(one.marker.evaluate, chosen)):
            installed(one, seen)


def test_the_lock_pins_all_that_is_installed_here():
    needed: set[str] = set()
    for requirement in declared("dev").values():
        installed(requirement, needed)
    free = {name for name in needed - set(pins()) if not TORCH_BUILD.match(name)}
    assert not free
