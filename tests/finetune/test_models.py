from __future__ import annotations

import json
from pathlib import Path

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.vectors.embed_model import find_model
from siftune.finetune.models.loading import load_causal, resolve, shown


def folder(path: Path, config: object, tokenizer: object | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"")
    if tokenizer is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return path


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"_attn_implementation_internal": "someone/kernel"},
        {"text_config": {"auto_map": {"AutoConfig": "evil.Config"}}},
    ],
)
def test_a_configuration_that_asks_for_code_is_refused(tmp_path: Path, config: object) -> None:
    with pytest.raises(UsageError, match=r"config\.json: the key .* runs? code"):
        resolve(folder(tmp_path, config))


def test_a_tokenizer_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer_config\.json"):
        resolve(folder(tmp_path, {}, {"auto_map": {"AutoTokenizer": ["evil.T", None]}}))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no \.safetensors weights"):
        resolve(tmp_path)


def test_a_missing_folder_and_one_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model folder"):
        resolve(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"no config\.json"):
        resolve(tmp_path)


def test_an_absolute_path_is_not_published() -> None:
    assert shown("/secret/place/runs/sft") == "runs/sft"
    assert shown("/sft") == "sft"


def test_minilm_is_the_packaged_model_unless_a_folder_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = folder(tmp_path / "packaged", {})
    monkeypatch.setattr("siftune.curate.models.resolve.require", lambda model: packaged)
    monkeypatch.setattr("siftune.curate.vectors.embed_model.require", lambda model: packaged)
    find_model.cache_clear()
    monkeypatch.chdir(tmp_path)
    assert resolve("minilm") == packaged
    assert find_model("minilm") == find_model(None) == packaged
    own = folder(tmp_path / "minilm", {})
    assert resolve("minilm").resolve() == own
    find_model.cache_clear()  # of what this test made of it


def test_an_embedding_model_is_called_one_and_not_a_damaged_model(tiny_embedder: Path) -> None:
    with pytest.raises(UsageError, match=r"is an embedding model \(BertModel\): .* smollm2"):
        load_causal(tiny_embedder)
