"""Exports read by the trainers' own readers: the first prompt of each, decoded.

``python -m tests.curate.export_readers`` exports a few rows in every layout and shape, loads each
file with the reader of its trainer, and prints the prompt that the model is given, as text. Readers
that are not installed are named. Tried with TRL 1.16, LLaMA-Factory 0.9.5, axolotl 0.19,
ms-swift 4.6, OpenRLHF 0.11 and verl 0.9.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import orjson
import yaml

from siftune.curate.core.registry import build, names
from siftune.curate.export_files.training_records import FITS
from siftune.curate.export_files.write import export
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse

__all__ = ["READERS", "ROWS", "first_prompts", "ingest", "rows_of", "tokenizer_of"]

Row = dict[str, Any]
Reader = Callable[[Path, str, Any], str]

SYSTEM: Final = {"role": "system", "content": "Be brief."}
FIRST: Final = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
ASKED: Final = [SYSTEM, *FIRST, {"role": "user", "content": "And 3+3?"}]
GOOD: Final = {"role": "assistant", "content": "ANSWER six"}
BAD: Final = {"role": "assistant", "content": "ANSWER nine"}
ROWS: Final[Mapping[str, list[Row]]] = {
    "conversation": [{"messages": [*ASKED, GOOD]}, {"messages": FIRST}],
    "preference": [
        {"prompt": ASKED, "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": FIRST[:1], "chosen": FIRST[1:], "rejected": [BAD]},
    ],
    "text": [{"text": "A document about sums."}],
}
"""The first row of each kind has a system turn and two questions; ``ANSWER`` is in no prompt."""

_CHATML: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_of() -> Any:
    """A tokenizer of bytes with a ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(mark) for mark in ("<|im_start|>", "<|im_end|>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = _CHATML
    return tokenizer


def first_prompts(layout: str, tokenizer: Any, folder: Path) -> dict[str, str]:
    """The prompt of the first row of every shape of ``layout``, as its reader gives it."""
    found = {}
    for kind, rows in ROWS.items():
        made = folder / kind / "run"
        ingest(rows, kind, made)
        for shape in FITS[kind]:  # type: ignore[index]
            if shape in build("curate.exports", layout, {}).shapes and shape not in found:
                out = folder / kind / shape
                export(made, out, layout, shape=shape)
                found[shape] = READERS[layout](out, shape, tokenizer)
    return found


def ingest(rows: list[Row], name: str, folder: Path) -> None:
    """A finished run of ``rows`` in ``folder``."""
    folder.parent.mkdir(exist_ok=True)
    source = folder.parent / f"{name}.jsonl"
    source.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    run(parse({"name": name, "source": [str(source)], "stages": []}), folder)


def rows_of(folder: Path) -> Any:
    """The data file of an export, read by datasets."""
    from datasets import load_dataset

    path = next(folder.glob("train.*"))
    form = {".jsonl": "json", ".parquet": "parquet"}[path.suffix]
    cache = str(folder.parent / f"cache-{folder.name}")
    return load_dataset(form, data_files=str(path), split="train", cache_dir=cache)


def _templated(tokenizer: Any, turns: list[Row]) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def _start_of_last(learned: list[int]) -> int:
    """Where the last stretch of learned tokens begins."""
    return next(at for at in reversed(learned) if at - 1 not in learned)


def _trl(folder: Path, shape: str, tokenizer: Any) -> str:
    from trl.data_utils import apply_chat_template, is_conversational

    row = rows_of(folder)[0]
    if shape == "text":
        return str(row["text"])
    assert is_conversational(row)
    if shape == "messages":
        turns = {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
        return str(apply_chat_template(turns, tokenizer)["prompt"])
    return str(apply_chat_template(row, tokenizer)["prompt"])


def _llamafactory(folder: Path, shape: str, tokenizer: Any) -> str:
    loader = import_module("llamafactory.data.loader")
    parser = import_module("llamafactory.data.parser")
    template = import_module("llamafactory.data.template").TEMPLATES["qwen"]
    [name] = orjson.loads((folder / "dataset_info.json").read_bytes())
    [found] = parser.get_dataset_list([name], str(folder))
    model = SimpleNamespace(cache_dir=str(folder.parent / "lf"), hf_hub_token=None)
    data = SimpleNamespace(
        dataset_dir=str(folder), media_dir=str(folder), streaming=False, max_samples=None,
        overwrite_cache=True, preprocessing_num_workers=None, dataset_shards=None,
    )  # fmt: skip
    training = SimpleNamespace(local_process_index=0, dataloader_num_workers=0)
    row = loader._load_single_dataset(found, model, data, training)[0]
    if shape == "text":
        return str(row["_prompt"][0]["content"])
    answer = row["_response"][:1] or [{"role": "assistant", "content": ""}]
    said = [*row["_prompt"], *answer]
    prompt, _ = template.encode_oneturn(tokenizer, said, row["_system"], row["_tools"])
    return str(tokenizer.decode(prompt))


def _axolotl(folder: Path, shape: str, tokenizer: Any) -> str:
    config = import_module("axolotl.utils.dict").DictDefault(
        yaml.safe_load((folder / "axolotl.yaml").read_text())
        | {"sequence_len": 512, "chat_template": "tokenizer_default", "train_on_inputs": False}
    )
    entry, row = config.datasets[0], rows_of(folder)[0]
    kind = entry["type"]
    if shape == "prompt_only":
        return _templated(tokenizer, row["prompt"])
    if shape in ("preference", "unpaired"):
        group = {"preference": "dpo", "unpaired": "kto"}[shape]
        made = import_module(f"axolotl.prompt_strategies.{group}").load(kind, config, dataset_idx=0)
        if shape == "unpaired":
            return str(made(dict(row))["prompt"])
        return str(made[0](dict(row), tokenizer=tokenizer)["prompt"])
    strategy = import_module(f"axolotl.prompt_strategies.{kind}").load(tokenizer, config, entry)
    if shape == "text":
        made = strategy.tokenize_prompt({"text": [row["text"]]})
        return str(tokenizer.decode(made["input_ids"][0]))
    made = strategy.tokenize_prompt(dict(row))
    learned = [at for at, label in enumerate(made["labels"]) if label != -100]
    return str(tokenizer.decode(made["input_ids"][: _start_of_last(learned)]))


def _ms_swift(folder: Path, shape: str, tokenizer: Any) -> str:
    swift = import_module("swift.dataset")
    inputs = import_module("swift.template.template_inputs").TemplateInputs
    [rows, _] = swift.load_dataset([str(next(folder.glob("train.*")))], load_from_cache_file=False)
    chosen = inputs.from_dict(rows[0]).chosen
    system = [{"role": "system", "content": chosen.system}] if chosen.system else []
    said = [*system, *chosen.messages]
    if shape == "text":
        return str(said[-1]["content"])
    asked = said if shape == "prompt_only" else said[:-1]
    return _templated(tokenizer, asked)


def _openrlhf(folder: Path, shape: str, tokenizer: Any) -> str:
    sets = import_module("openrlhf.datasets")
    utils = import_module("openrlhf.datasets.utils")
    keys = {
        "messages": {"input_key": "messages"},
        "prompt_completion": {"input_key": "prompt", "output_key": "completion"},
        "preference": {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"},
        "prompt_only": {"input_key": "prompt", "label_key": "label"},
        "text": {"input_key": "text"},
    }[shape]
    data = SimpleNamespace(apply_chat_template=shape != "text", **keys)
    strategy = SimpleNamespace(
        args=SimpleNamespace(data=data), print=lambda *text: None, is_rank_0=lambda: False
    )
    rows = utils.blending_datasets(str(folder / "train.jsonl"), None, strategy)
    if shape == "prompt_only":
        return str(sets.PromptDataset(rows, tokenizer, strategy).prompts[0])
    if shape == "preference":
        made = sets.RewardDataset(rows, tokenizer, 512, strategy, is_dpo=True, num_processors=1)
        return str(made.prompts[0])
    options = {"pretrain_mode": shape == "text", "multiturn": shape == "messages"}
    made = sets.SFTDataset(rows, tokenizer, 512, strategy, num_processors=1, **options)
    return str(made.prompts[0])


def _verl(folder: Path, shape: str, tokenizer: Any) -> str:
    configs = import_module("omegaconf").OmegaConf
    path = str(folder / "train.parquet")
    if shape == "prompt_only":
        config = configs.create({"cache_dir": str(folder.parent), "max_prompt_length": 512})
        config.filter_overlong_prompts_workers = 1
        read = import_module("verl.utils.dataset.rl_dataset").RLHFDataset(path, tokenizer, config)
        row = read[0]
        assert row["reward_model"]["ground_truth"] == GOOD["content"]
        return _templated(tokenizer, row["raw_prompt"])
    pictures = "verl.models.transformers.qwen2_vl"  # does not import with transformers 5.24
    sys.modules.setdefault(pictures, ModuleType(pictures)).__dict__["get_rope_index"] = None
    reader = import_module("verl.utils.dataset.multiturn_sft_dataset").MultiTurnSFTDataset
    row = reader(path, tokenizer, configs.create({"max_length": 512, "truncation": "error"}))[0]
    learned = row["loss_mask"].nonzero().flatten().tolist()
    return str(tokenizer.decode(row["input_ids"][: _start_of_last(learned)]))


READERS: Final[Mapping[str, Reader]] = {
    "trl": _trl,
    "llamafactory": _llamafactory,
    "axolotl": _axolotl,
    "ms_swift": _ms_swift,
    "openrlhf": _openrlhf,
    "verl": _verl,
}


def main() -> None:
    """Print the first prompt of every layout and shape."""
    tokenizer = tokenizer_of()
    for layout in names("curate.exports"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = first_prompts(layout, tokenizer, Path(folder))
            except ImportError as error:
                print(f"{layout}: its reader is not installed: {error}")  # noqa: T201
                continue
        for shape, prompt in found.items():
            print(f"{layout} {shape}: {prompt!r}")  # noqa: T201


if __name__ == "__main__":
    main()
