"""The key of a stage or model changes with the code that it runs, and with no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from siftune.curate.core import code_hash as hashing
from siftune.curate.core.cache_folders import code_caches
from siftune.curate.core.code_hash import REPORTING, code_hash, imported_files
from siftune.curate.core.registry import names, source_of
from siftune.curate.runners.plan import plan
from siftune.curate.runs.recipe import GROUPS, Spec, parse
from siftune.curate.runs.stage_store import ingest_code, stage_code
from siftune.finetune.runs.resumable_run import _own_code
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.trainers.preference import Preference
from siftune.pipelines.steps import code_used

ROOT = Path(__file__).parents[2]

ONE = '''"""A module."""
from typing import TYPE_CHECKING

from pack.two import VALUE

if TYPE_CHECKING:
    from pack.types import T


def f(x):
    """Doubles."""
    from pack import three

    return x * VALUE + three.OTHER  # why


class C:
    """A class."""
    x = {1, 2, "a"} == {3}
'''


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pack"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "one": ONE,
        "two": "from . import four\nVALUE = 2\n",
        "three": "OTHER = 3\n",
        "four": "DEEP = 4\n",
        "types": "T = int\n",
        "beside": "B = 1\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_comments_docstrings_and_lines_do_not_count(pack: Path) -> None:
    before = code_hash("pack.one")
    text = "# first\n\n" + ONE.replace("Doubles.", "Twice.\n\n    More.").replace("# why", "# so")
    (pack / "one.py").write_text(text)
    assert code_hash("pack.one") == before
    (pack / "two.py").write_text("# a comment\nfrom . import four\n\nVALUE = 2\n")
    (pack / "types.py").write_text("T = str\n")
    (pack / "beside.py").write_text("B = 2\n")
    assert code_hash("pack.one") == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("one", "x * VALUE", "x + VALUE"),
        ("one", '{1, 2, "a"}', '{1, 2, "b"}'),
        ("two", "VALUE = 2", "VALUE = 2.0"),
        ("three", "OTHER = 3", "OTHER = 4"),  # which a function imports
        ("four", "DEEP = 4", "DEEP = 5"),  # two imports away, by a relative import
    ],
)
def test_what_a_module_computes_counts_and_what_its_imports_do(
    pack: Path, module: str, old: str, new: str
) -> None:
    before = code_hash("pack.one")
    path = pack / f"{module}.py"
    path.write_text(path.read_text().replace(old, new))
    assert code_hash("pack.one") != before


def test_a_class_may_move_where_it_knows_its_line() -> None:
    trees = [hashing.ast.parse(f"{lines}@d\nclass C:\n    x = 1\n") for lines in ("", "\n" * 9)]
    for tree in trees:
        hashing._without_lines(tree)
    first, moved = (tree.body[0] for tree in trees)
    assert first.lineno == moved.lineno == 1


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for name in ("curate", "finetune"):
        left_out = shutil.ignore_patterns("__pycache__", "*.md")
        shutil.copytree(ROOT / name, root / "siftune" / name, ignore=left_out)
    shutil.copy(ROOT / "siftune" / "__init__.py", root / "siftune")
    return root


@pytest.fixture
def tree(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, whose code is hashed in place of ours; edits of it are undone."""
    monkeypatch.setattr(hashing, "_folder_of", lambda name: copy / name.replace(".", "/"))
    yield copy / "siftune"
    for path, text in EDITED.items():
        path.write_text(text, encoding="utf-8")
    EDITED.clear()


EDITED: dict[Path, str] = {}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    EDITED.setdefault(path, text)
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


STAGES = [
    Spec("score", "length"),
    Spec("score", "heuristics"),
    Spec("select", "top_k", {"by": "length_words", "rows": 2}),
    Spec("select", "exact_dedup"),
    Spec("select", "quota", {"by": "source", "rows": 1}),
]


def stage_keys() -> dict[str, str]:
    return {spec.name: stage_code(spec) for spec in STAGES} | {"ingest": ingest_code(["alpaca"])}


def changed(before: dict[str, str]) -> set[str]:
    after = stage_keys()
    return {name for name in before if before[name] != after[name]}


def test_a_comment_anywhere_remakes_no_stage(tree: Path) -> None:
    before = stage_keys()
    for path in [*sorted(tree.rglob("*.py"))[::5], tree / "curate/core/schema.py"]:
        edit(path, "\n", "\n# a comment\n")
    edit(tree / "curate/core/progress.py", "__all__ =", "x = 1\n__all__ =")  # it only reports
    assert changed(before) == set()


def test_a_stage_is_remade_for_its_own_code_and_what_it_imports(tree: Path) -> None:
    before = stage_keys()
    edit(tree / "curate/selectors/quota.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert changed(before) == {"quota"}
    (tree / "curate/formats/new.py").write_text('"""A format."""\nX = 1\n')
    edit(tree / "curate/formats/sharegpt.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert changed(before) == {"quota"}
    edit(tree / "curate/formats/alpaca.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert changed(before) == {"quota", "ingest"}
    edit(tree / "curate/rows/conversation_views.py", "def score(", "OTHER = 1\n\n\ndef score(")
    assert changed(before) == {"quota", "ingest", "length", "heuristics"}
    edit(tree / "curate/rows/table.py", "BATCH =", "OTHER = 1\nBATCH =")
    assert changed(before) == set(before)


def test_only_the_changed_stage_and_those_after_it_have_other_keys(
    tree: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b c"}\n' * 3)
    stages = [
        {"score": "length"},
        {"select": "exact_dedup"},
        {"score": "heuristics"},
        {"select": "top_k", "by": "length_words", "rows": 2},
    ]
    recipe = parse({"source": str(rows), "stages": stages})

    def keys() -> list[str]:
        made = plan(recipe, tmp_path / "out")
        return [made.ingest_key, *(step.key for step in made.steps)]

    before = keys()
    (tree / "curate/formats/new.py").write_text('"""A format that these rows have not."""\n')
    edit(tree / "curate/selectors/exact_dedup.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [
        *(True, True),  # ingest, length
        *(False, False, False),
    ]


@pytest.mark.parametrize("group", GROUPS.values())
def test_no_component_depends_on_the_file_of_another(group: str) -> None:
    roots = hashing._roots(["siftune"])
    components = ("scorers", "selectors", "formats", "exports")
    for name in names(group):
        own = source_of(group, name)
        found = imported_files([own], roots)
        others = {one.name for one in found if one.parent.name in components} - {own.name}
        assert others == set(), name


def test_modules_that_only_report_are_there() -> None:
    root = hashing._folder_of("siftune").parent
    assert [name for name in REPORTING if not (root / name).is_file()] == []


def test_a_checkout_without_links_has_the_same_hash(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hashing, "_folder_of", lambda name: copy / name.replace(".", "/"))
    linked = code_hash("siftune.curate.selectors.top_k")
    apart = tmp_path / "siftune"
    apart.mkdir()
    places = {"siftune": apart, "siftune.pipelines": apart / "none"}
    monkeypatch.setattr(
        hashing, "_folder_of", lambda name: places.get(name) or copy / name.replace(".", "/")
    )
    assert code_hash("siftune.curate.selectors.top_k") == linked


def test_a_changed_loss_or_reward_retrains_its_models_alone(tree: Path) -> None:
    trainers = {
        "dpo": Preference("m", loss="dpo"),
        "ipo": Preference("m", loss="ipo"),
        "both": Preference("m", loss="ipo", also={"dpo": 0.5}),
        "ppo": PPO(model="m", reward="length", reward_options={"target": 3}),
    }

    def keys() -> dict[str, str]:
        return {name: code_used(one) for name, one in trainers.items()}

    def other() -> set[str]:
        return {name for name, key in keys().items() if key != before[name]}

    before = keys()
    edit(tree / "finetune/losses/pair/dpo.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert other() == {"dpo", "both"}
    edit(tree / "finetune/rewards/length.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert other() == {"dpo", "both", "ppo"}
    edit(tree / "curate/selectors/top_k.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    edit(tree / "finetune/losses/pair/cpo.py", "@dataclass", "OTHER = 1\n\n\n@dataclass")
    assert "ipo" not in other()
    edit(tree / "finetune/scoring/logps.py", "def ", "OTHER = 1\n\n\ndef ")
    assert other() == set(trainers)


def test_a_users_component_has_the_code_of_ours_that_checks_it_in_its_key(
    tree: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def f(response): return 1\ndef loss(logps): return logps.gap\n")
    trained = Preference("m", loss=f"{mine}:loss")

    def keys() -> list[str]:
        return [
            stage_code(Spec("score", f"{mine}:f")),
            stage_code(Spec("select", f"{mine}:f")),
            code_used(trained),
            *_own_code({"loss": f"{mine}:loss"}),
            *_own_code({"reward": f"{mine}:f"}),
            *_own_code({"reward": {"a": 1, "b": {"reward": f"{mine}:f"}}}),
            *_own_code({"advantage": f"{mine}:f", "policy_loss": f"{mine}:f"}),
        ]

    before = keys()
    edit(tree / "curate/rows/custom_rows.py", "__all__ =", "OTHER = 1\n__all__ =")
    found = [one == other for one, other in zip(before, keys(), strict=True)]
    assert found == [False, False, *[True] * 6]
    edit(tree / "finetune/losses/custom_losses.py", "__all__ =", "OTHER = 1\n__all__ =")
    edit(tree / "finetune/core/reward_functions.py", "__all__ =", "OTHER = 1\n__all__ =")
    edit(tree / "finetune/advantages/types.py", "__all__ =", "OTHER = 1\n__all__ =")
    edit(tree / "finetune/policy_losses/types.py", "__all__ =", "OTHER = 1\n__all__ =")
    assert not any(one == other for one, other in zip(before, keys(), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        *("import json, helper", "import json; import helper", "import helper as h"),
        *("from helper import (\n    x,\n    y,\n)", "def f():\n    import helper"),
        *("from . import helper", "from .helper import x", "from package.inner import x"),
        *("from package import inner", "import package.inner", "try: import helper\nfinally: pass"),
        "if TYPE_CHECKING:\n    import other\nelse:\n    import helper",
    ],
)
def test_all_that_a_users_file_imports_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for name in ("mine", "helper", "other", "package/__init__", "package/inner/__init__"):
        (tmp_path / f"{name}.py").write_text(text if name == "mine" else "x = 1\n")
    found = imported_files([tmp_path / "mine.py"], {"": tmp_path})
    names = {path.relative_to(tmp_path).as_posix() for path in found} - {"mine.py"}
    packages = {"package/__init__.py", "package/inner/__init__.py"}
    beside = {"__init__.py"} if text.startswith("from .") else set()
    assert names - beside == (packages if "package" in text else {"helper.py"})


def test_stored_hashes_are_those_of_the_files(
    pack: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hashing, "_HOME", pack)
    for text in (None, "[3]", "{"):  # none, and files of other or damaged content
        stored = hashing._Stored([tmp_path / "stored.json"])
        if text is not None:
            stored.paths[0].write_text(text)
        monkeypatch.setattr(hashing, "_stored", lambda stored=stored: stored)
        hashing._code_of.cache_clear()
        before = code_hash("pack.one")
        assert set(json.loads(stored.paths[0].read_text())) >= {str(pack / "one.py")}
    monkeypatch.setattr(hashing, "_compiled", None)  # it is not computed again
    stored = hashing._Stored([tmp_path / "none.json", *stored.paths])
    monkeypatch.setattr(hashing, "_stored", lambda: stored)
    hashing._code_of.cache_clear()
    code_hash("pack.one")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    (pack / "two.py").write_text("from . import four\nVALUE = 22\n")
    assert code_hash("pack.one") != before


def test_of_an_installed_package_nothing_is_stored_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIFTUNE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place, users = tmp_path / "site-packages/siftune", tmp_path / "cache/siftune/code"
    place.mkdir(parents=True)
    monkeypatch.setattr(hashing, "_HOME", place)

    def folders() -> list[Path]:
        return [path.parent for path in hashing._stored.__wrapped__().paths]

    assert folders() == [place / "__pycache__", users]  # a checkout has its own
    (tmp_path / "site-packages/siftune-0.1.0.dist-info").mkdir()
    assert folders() == [users, place / "__pycache__"]
    module = place / "one.py"
    module.write_text("A = 1\n")
    stored = hashing._stored.__wrapped__()
    stored.add(str(module), [6, 1, "a"])
    stored.add(str(tmp_path / "removed.py"), [1, 1, "b"])
    stored.save()
    assert [*place.iterdir()] == [module]
    (file,) = users.iterdir()
    assert json.loads(file.read_text()) == {str(module): [6, 1, "a"]}


def test_without_a_home_folder_code_is_stored_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        raise RuntimeError

    for name in ("SIFTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert code_caches(tmp_path) == [tmp_path / "__pycache__"]
