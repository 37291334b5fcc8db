"""Every export is what its trainer reads: by its own reader where installed, and by its columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from siftune.curate.core.registry import build, names
from siftune.curate.export_files.training_records import FITS
from siftune.curate.export_files.write import export
from tests.curate.export_readers import READERS, ROWS, first_prompts, ingest, rows_of, tokenizer_of

CHAT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
    "<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nAnd 3+3?<|im_end|>\n"
    "<|im_start|>assistant\n"
)

COLUMNS = {
    # https://huggingface.co/docs/trl/dataset_formats
    "trl messages": "messages",
    "trl prompt_completion": "prompt completion",
    "trl prompt_only": "prompt",
    "trl preference": "prompt chosen rejected",
    "trl unpaired": "prompt completion label",
    "trl text": "text",
    # https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md, dataset_info.json
    "llamafactory messages": "conversations system tools",
    "llamafactory prompt_only": "instruction history system tools",
    "llamafactory preference": "conversations chosen rejected system tools",
    "llamafactory unpaired": "conversations kto_tag system tools",
    "llamafactory text": "text",
    # https://docs.axolotl.ai/docs/dataset-formats and docs/rlhf.html
    "axolotl messages": "messages",
    "axolotl prompt_only": "prompt",
    "axolotl preference": "messages chosen rejected",
    "axolotl unpaired": "completion label",
    "axolotl text": "text",
    # https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html
    "ms_swift messages": "messages",
    "ms_swift prompt_only": "messages solution",
    "ms_swift preference": "messages rejected_messages",
    "ms_swift unpaired": "messages label",
    "ms_swift text": "messages",
    # openrlhf.datasets of OpenRLHF 0.11, by the options that `usage` names
    "openrlhf messages": "messages",
    "openrlhf prompt_completion": "prompt completion",
    "openrlhf prompt_only": "prompt label",
    "openrlhf preference": "prompt chosen rejected",
    "openrlhf text": "text",
    # https://verl.readthedocs.io/en/latest/preparation/prepare_data.html
    "verl messages": "messages",
    "verl prompt_only": "data_source prompt ability reward_model extra_info",
}
"""The columns that each trainer's documentation names, for each shape."""


def test_every_layout_has_its_columns_and_a_reader_here() -> None:
    layouts = {name: build("curate.exports", name, {}) for name in names("curate.exports")}
    assert set(READERS) == set(layouts)
    assert set(COLUMNS) == {
        f"{name} {shape}" for name, made in layouts.items() for shape in made.shapes
    }


def test_exports_have_the_columns_that_the_documentation_names(tmp_path: Path) -> None:
    for kind, rows in ROWS.items():
        ingest(rows, kind, tmp_path / kind / "run")
        for name, columns in COLUMNS.items():
            layout, shape = name.split()
            if shape in FITS[kind]:  # type: ignore[index]
                out = tmp_path / kind / layout / shape
                export(tmp_path / kind / "run", out, layout, shape=shape)
                assert sorted(rows_of(out).column_names) == sorted(columns.split()), name


@pytest.mark.parametrize("layout", READERS)
def test_its_trainer_reads_each_export_and_sees_the_prompt_without_the_answer(
    layout: str, tmp_path: Path
) -> None:
    try:
        found = first_prompts(layout, tokenizer_of(), tmp_path)
    except ImportError as error:
        pytest.skip(f"the reader of {layout} is not installed: {error}")
    text = found.pop("text", "A document about sums.")
    assert text.removesuffix("<|im_end|>") == "A document about sums."
    assert found
    assert set(found.values()) == {CHAT}
