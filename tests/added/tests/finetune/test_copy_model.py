"""A new trainer is a command and a method of pipelines."""

from siftune.finetune.core.methods import TRAINERS, reads_of
from siftune.pipelines.recipe import Step
from siftune.pipelines.steps import trainer_of


def test_it_is_a_method_of_pipelines_that_reads_rows(tmp_path):
    assert TRAINERS["copy_model"] == "copy_model"
    assert reads_of("copy_model") == "rows"
    (tmp_path / "model").mkdir()
    step = Step("copy", "copy_model", "base", "rows")
    trainer = trainer_of(step, {"model": str(tmp_path / "model"), "reward": None})
    assert trainer(tmp_path, tmp_path / "out").model.is_dir()
