"""What training may write to, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from curate.core.errors import UsageError
from curate.core.outputs import MARKER, overwriting, whole_folder
from finetune.runs import Run
from finetune.saving import save_model


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
    monkeypatch.setattr("finetune.saving.model_hash", lambda folder: "hash")
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


def test_what_is_put_into_the_work_folder_meanwhile_stays(tmp_path):
    with _run(tmp_path / "q").held():
        (tmp_path / "q.work/beside").mkdir()
        (tmp_path / "q.work/beside/metrics.jsonl").touch()
        (tmp_path / "q.work/notes.md").write_text("mine")
        (tmp_path / "q.work/checkpoint-best").mkdir()
        (tmp_path / "q.work/checkpoint-best/weights").write_text("mine")
    left = sorted(path.name for path in (tmp_path / "q.work").rglob("*") if path.is_file())
    assert left == [".lock", MARKER, "notes.md", "weights"]


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
