"""What training may write to, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.output_marker import MARKER
from siftune.curate.files.outputs import overwriting, run_folder, whole_folder
from siftune.finetune.models.loading import read_facts
from siftune.finetune.models.saving import save_model
from siftune.finetune.runs import checkpoints
from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.runs.run_folders import COMPARISON_FILES


class _Model:
    """What `save_model` needs of a model or tokenizer."""

    class config:
        tie_word_embeddings = False

    def save_pretrained(self, folder, state_dict=None):
        (Path(folder) / "config.json").write_text("{}")
        (Path(folder) / "model.safetensors").write_text("weights")


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    """A model folder that `siftune finetune sft` wrote."""
    monkeypatch.setattr("siftune.finetune.models.saving.model_hash", lambda folder: "hash")
    facts = {"stage": "sft", "method": "sft", "run": "other", "seed": 0, "options": {}}
    facts |= {"data": {"rows": 1, "path": "r", "hash": "h"}, "metrics": {}, "base": None}
    save_model(_Model(), _Model(), tmp_path / "q", facts, command="finetune sft")
    return tmp_path / "q"


def _run(out: Path, stage: str = "sft") -> Run:
    return Run.of(out, {"stage": stage, "options": {}})


def test_a_model_folder_lists_what_was_written(saved):
    marker = json.loads((saved / MARKER).read_bytes())
    assert marker["command"] == "finetune sft"
    assert marker["files"] == ["README.md", "config.json", "model.safetensors", "siftune.json"]


def test_a_model_of_other_options_gives_way_with_overwrite_alone(saved):
    with pytest.raises(UsageError, match=r"made with other options or data: .*--overwrite"):
        _run(saved).finished()
    with pytest.raises(UsageError, match="was written by `siftune finetune sft`"):
        _run(saved, "reward").finished()
    with overwriting(True):
        assert _run(saved).finished() is None
        assert _run(saved, "reward").finished() is None
        (saved / "notes.md").write_text("mine")
        with pytest.raises(UsageError, match=r"notes\.md was not written by"):
            _run(saved).finished()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("content", [None, "other"])
def test_a_finished_run_with_a_changed_file_is_named_and_made_again_when_asked(
    content, name, saved, monkeypatch
):
    run = _run(saved)
    monkeypatch.setattr("siftune.finetune.runs.resumable_run.read_facts", _as(run.key))
    assert run.finished() is not None
    (saved / name).unlink() if content is None else (saved / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name} is not as this training wrote it: .*--overwrite"):
        run.finished()
    with overwriting(True):
        assert run.finished() is None


def test_a_finished_run_is_marked_again_and_its_card_may_be_edited(saved, monkeypatch):
    run, marker = _run(saved), (saved / MARKER).read_bytes()
    monkeypatch.setattr("siftune.finetune.runs.resumable_run.read_facts", _as(run.key))
    (saved / MARKER).write_bytes(marker[:5])
    (saved / "README.md").write_text("mine")
    assert run.finished() is not None
    assert (saved / MARKER).read_bytes() == marker
    assert (saved / "README.md").read_text() == "mine"


def _as(key: str):
    """`read_facts`, of the run of that key."""
    return lambda model: {**read_facts(model), "run": key}


def test_an_empty_folder_is_no_model(tmp_path):
    assert _run(tmp_path).finished() is None


def test_the_work_of_another_method_is_not_removed(tmp_path):
    with _run(tmp_path / "q").held():
        (tmp_path / "q.work/checkpoint-5").mkdir()
    with (
        pytest.raises(UsageError, match=r"q\.work was written by `siftune finetune sft`"),
        _run(tmp_path / "q", "dpo").held(),
    ):
        pass
    assert (tmp_path / "q.work/checkpoint-5").is_dir()
    with overwriting(True), _run(tmp_path / "q", "dpo").held():
        assert not (tmp_path / "q.work/checkpoint-5").exists()


def test_checkpoints_of_an_interrupted_run_stay_when_options_differ(tmp_path):
    """They may be hours of work: a mistyped option does not remove them."""
    before = {"stage": "sft", "options": {"lr": 2e-5, "lora": 4}, "base": "m", "data": "rows"}
    work = tmp_path / "q.work"
    run = Run.of(tmp_path / "q", before)
    with run.held():
        run.begin()
        _checkpoint(work, 45)
    for changed, told in (
        ({"options": {"lr": 3e-5, "lora": 4}}, r"differs in lr \(2e-05 there, 3e-05 here\): give"),
        ({"data": "others"}, "differs in the rows: give"),
        ({"base": "n", "options": {"lr": 2e-5}}, r"lora \(4 there, none here\); the model: give"),
    ):
        run = Run.of(tmp_path / "q", before | changed)
        with run.held(), pytest.raises(UsageError, match=told):
            run.finished()
        assert checkpoints.newest(work) == work / "checkpoint-45"
    with overwriting(True), run.held():
        assert run.finished() is None
        assert run.begin() is None
        assert not (work / "checkpoint-45").exists()


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit(143)])
def test_a_stop_before_the_first_checkpoint_is_told(signal, tmp_path, capsys):
    with pytest.raises((KeyboardInterrupt, SystemExit)), _run(tmp_path / "q").held():
        raise signal
    told = "stopped before the first checkpoint: nothing of this training is kept"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "q.work").exists()


def test_checkpoints_without_a_record_that_can_be_read_stay(tmp_path):
    run = _run(tmp_path / "q")
    with run.held():
        run.begin()
        _checkpoint(run.work, 5)
    (run.work / "run.json").write_text("{")
    with run.held(), pytest.raises(UsageError, match="differs in options or data"):
        run.finished()
    assert (run.work / "checkpoint-5").is_dir()


def test_what_is_put_into_the_work_folder_meanwhile_stays(tmp_path):
    with _run(tmp_path / "q").held():
        (tmp_path / "q.work/beside").mkdir()
        (tmp_path / "q.work/beside/metrics.jsonl").touch()
        (tmp_path / "q.work/notes.md").write_text("mine")
        (tmp_path / "q.work/checkpoint-best").mkdir()
        (tmp_path / "q.work/checkpoint-best/weights").write_text("mine")
    left = sorted(path.name for path in (tmp_path / "q.work").rglob("*") if path.is_file())
    assert left == [".lock", MARKER, "notes.md", "weights"]


NOT_OURS = (
    *("README.md", "logps-mine.parquet", f"logps-{'0' * 31}.parquet", "checkpoint-5/notes.txt"),
    *("checkpoint-5-old/model.safetensors", "checkpoint-5/a/model.safetensors", "beside.old/x.txt"),
    *("beside/notes.txt", "beside/evaluation/mine.jsonl", "beside.1/evaluation/step-x.jsonl"),
)


@pytest.mark.parametrize("name", NOT_OURS)
def test_overwrite_keeps_files_of_others_in_the_work_folder(name, tmp_path):
    with _run(tmp_path / "q").held():
        (tmp_path / "q.work/checkpoint-5").mkdir()
    mine = tmp_path / "q.work" / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with (
        overwriting(True),
        pytest.raises(UsageError, match="was not written by"),
        _run(tmp_path / "q", "dpo").held(),
    ):
        pass
    assert mine.read_text() == "mine"


def _checkpoint(work: Path, step: int, *, sealed: bool = True) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir()
    for name in ("model.safetensors", "trainer_state.json", "rng_state.pth"):
        (folder / name).write_text(name)
    if sealed:
        (folder / "of-a-new-version.bin").touch()
        checkpoints.seal(folder)
    return folder


@pytest.mark.parametrize("sealed", [True, False])
def test_of_a_checkpoint_only_what_training_wrote_is_removed(sealed, tmp_path):
    (tmp_path / "q.work").mkdir()
    folder = _checkpoint(tmp_path / "q.work", 5, sealed=sealed)
    (folder / "notes.txt").write_text("mine")
    checkpoints.claim(tmp_path / "q.work", "another run", {})
    left = sorted(path.name for path in folder.iterdir())
    assert left == ([MARKER, "notes.txt"] if sealed else ["notes.txt"])
    (folder / "notes.txt").unlink()
    checkpoints.remove_checkpoint(folder)
    assert not folder.exists()


def test_a_file_put_into_a_checkpoint_does_not_tear_it(tmp_path):
    folder = _checkpoint(tmp_path, 5)
    (folder / "notes.txt").write_text("mine")
    assert checkpoints.newest(tmp_path) == folder
    (folder / "model.safetensors").write_text("cut")
    assert checkpoints.newest(tmp_path) is None
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_last_two_sealed_checkpoints_are_kept(tmp_path):
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9/notes.txt").touch()
    for step in (1, 2, 3):
        _checkpoint(tmp_path, step)
        checkpoints.rotate(tmp_path)
    left = [path.name for path in checkpoints.checkpoints(tmp_path)]
    assert left == ["checkpoint-2", "checkpoint-3", "checkpoint-9"]


def test_a_file_put_beside_the_model_stays_when_training_begins_anew(tmp_path):
    run = _run(tmp_path / "q")
    with run.held():
        run.begin()
        for name in ("notes.txt", "metrics.jsonl"):
            (run.beside / name).touch()
        run.begin()
    assert [path.name for path in run.beside.iterdir()] == ["notes.txt"]


def test_overwrite_keeps_files_of_others_in_a_comparison(tmp_path):
    with run_folder(tmp_path / "c", "finetune compare", COMPARISON_FILES):
        (tmp_path / "c/dpo-1.cpu.json").touch()
    for name in ("my-1-notes.cpu.json", "a/dpo-1.cpu.json", "dpo-1x.evaluated.json"):
        (tmp_path / "c" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "c" / name).touch()
        with (
            overwriting(True),
            pytest.raises(UsageError, match="was not written by"),
            run_folder(tmp_path / "c", "finetune init", ()),
        ):
            pass
        (tmp_path / "c" / name).unlink()
        (tmp_path / "c/a").rmdir() if name.startswith("a/") else None


def test_a_link_in_the_work_folder_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with _run(tmp_path / "q").held():
        (tmp_path / "q.work/checkpoint-5").mkdir()
    (tmp_path / "q.work/checkpoint-6").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"), _run(tmp_path / "q").held():
        pass


def test_the_output_of_sampling_is_never_a_model(saved):
    with pytest.raises(UsageError, match="was written by"), whole_folder(saved, "finetune sample"):
        pass
    assert (saved / "model.safetensors").read_text() == "weights"
