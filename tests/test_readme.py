"""What the README says is so: its tour prints what it shows."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.commands import called

ROOT = Path(__file__).parents[1]
PACKAGES = ("curate", "finetune", "pipelines", "siftune", "examples", "benchmarks")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
TOUR = re.findall(r"```console\n(\$ siftune .*?)```", PAGES["curate.md"], re.DOTALL)


def test_the_readme_is_an_entrance_of_ten_kilobytes():
    assert len(README.encode()) <= 10_000


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{n}" for n in PAGES)])
def test_links_between_pages_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_python_of_the_readme_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    code, shown = re.search(r"```python\n(.*?)```\s+```text\n(.*?)```", README, re.S).groups()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    lines = code.splitlines()
    assert lines[-1].startswith("model = sf.train.sft(")  # needs a model: not run here
    exec("\n".join(lines[:-1]), {})
    assert capsys.readouterr().out == shown
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_in_one_line(package):
    for path in (ROOT / package).rglob("*.py"):
        assert re.match(r'r?"""[^\n]{10,}', path.read_text(encoding="utf-8")), path


def test_the_tour_prints_what_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(TOUR) >= 3
    for name in ("examples",):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in TOUR:
        for part in block.split("$ ")[1:]:
            command, _, shown = part.partition("\n")
            assert _run(command, tmp_path).strip() == shown.strip(), command


def _run(command: str, folder) -> str:
    """What a command prints; those of siftune run in this process."""
    words = shlex.split(command.partition(" #")[0])
    if words[0] == "siftune":
        done = called(*words[1:])
        assert done.problem() is None, done
        return done.out
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120).stdout
