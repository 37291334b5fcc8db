"""The 23 classes of attack that the project looks at, each a test of its name, or why not.

Not yet, for the thing attacked is not there:

* S8 prompt injection of the judge: this version has no LLM judge; rewards are models and rules.
* S13 requests through a judge's URL: nothing requests an address that data or options name
  (`test_s13_no_address_is_requested` holds that).
* S18 the dashboard of Ray: Ray is never started (`test_s18_s19_nothing_listens`).
* S21 supply chain: `constraints.txt` pins versions without hashes, because the build of torch is
  the user's choice; there is no audit job yet.
* S22 poisoned rows: repeated text is found (`repeated_spans`), a trigger of a few words is not.
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune import curate, finetune, pipelines
from tests.fuzz.commands import called
from tests.judge_server import FAULTS, JudgeServer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNPICKLES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
_CALLS = {"eval", "exec", "os.system", "os.popen", "torch.load", "yaml.unsafe_load"}
_CALLS |= {"np.load", "faiss.read_index", "numpy.load", "torch.hub.load"}
_SERVERS = {
    "http.server",
    "socketserver",
    "uvicorn",
    "fastapi",
    "flask",
    "gradio",
    "aiohttp",
    "ray",
}
_CLIENTS = {"requests", "httpx", "httpx2", "urllib3", "openai", "ftplib", "telnetlib"}
_OF_SERVERS = {
    "server_client.py",
    "one_host.py",
    "responses.py",
}  # of judges; tests/curate has more


@cache
def _sources() -> dict[Path, str]:
    return {
        path: path.read_text(encoding="utf-8")
        for package in (curate, finetune, pipelines)
        for path in Path(str(package.__path__[0])).rglob("*.py")
    }


@cache
def _nodes() -> list[ast.AST]:
    """Imports and calls of all sources."""
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    trees = map(ast.parse, _sources().values())
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]


@cache
def _imports() -> Counter[str]:
    found: Counter[str] = Counter()
    for node in _nodes():
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found[node.module] += 1
    return found


@cache
def _calls() -> set[str]:
    return {ast.unparse(node.func) for node in _nodes() if isinstance(node, ast.Call)}


def _roots(names: Counter[str]) -> set[str]:
    return {*names, *(name.partition(".")[0] for name in names)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _rows(path: str, *texts: str) -> None:
    lines = (json.dumps({"prompt": "Say it.", "completion": text}) for text in texts)
    Path(path).write_text("\n".join(lines))


def test_s01_nothing_is_unpickled(here):
    assert not _roots(_imports()) & _UNPICKLES
    assert _calls() & _CALLS == {"exec"}
    calls = {
        word: sorted(
            p.name for p, text in _sources().items() if re.search(rf"(?<![\w.]){word}\(", text)
        )
        for word in ("compile", "exec")
    }
    # code_hash hashes the code of modules and runs none; outline runs classes of our own modules
    # code_parses compiles the code of rows to a syntax tree, and runs none
    # program and test_driver run a model's code and its tests, where `launcher` has confined them
    confined = ["program.py", "test_driver.py"]
    assert calls == {
        "compile": ["code_hash.py", "code_parses.py", "outline.py", *confined],
        "exec": ["outline.py", *confined],
    }
    canary = b"\x80\x04cos\nsystem\n(S'touch canary'\ntR."
    for name in ("d.jsonl", "d.pkl", "d.pt", "d.bin", "d.parquet", "d.npy"):
        Path(name).write_bytes(canary)
        assert called("curate", "ingest", name, "--out", "out").code == 3
    assert not Path("canary").exists()


def test_s02_a_checkpoint_that_was_changed_is_not_taken_up(here, capsys):
    from siftune.finetune.runs.checkpoints import newest, seal

    folder = here / "checkpoint-1"
    folder.mkdir()
    (folder / "rng_state.pth").write_bytes(b"whole")
    seal(folder)
    assert newest(here) == folder
    (folder / "rng_state.pth").write_bytes(b"other")
    assert newest(here) is None
    assert "checkpoint-1 is torn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key", ["auto_map", "_attn_implementation", "_attn_implementation_internal"]
)
def test_s03_a_model_that_brings_code_is_refused(here, key):
    Path("m").mkdir()
    Path("m/model.safetensors").write_bytes(bytes(8))
    inner = {"text_config": {key: {"AutoModel": "org/name--code.Model"}}}
    Path("m/config.json").write_text(json.dumps({"model_type": "llama", **inner}))
    _rows("d.jsonl", "x")
    done = called("finetune", "sft", "d.jsonl", "--model", "m", "--out", "out")
    assert done.code == 2
    assert key in done.message


def test_s04_a_script_beside_the_data_is_not_run(here):
    Path("in").mkdir()
    Path("in/in.py").write_text("open('canary', 'w')")
    _rows("in/d.jsonl", "x")
    assert called("curate", "ingest", "in", "--out", "out").code == 0
    assert called("curate", "ingest", "in/in.py", "--out", "other").code == 3
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch canary']",
        "a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a]\n" for i in range(30)),
        "source: d.jsonl\nsead: 1",
        "source: d.jsonl\nseed: no",
    ],
    ids=["object", "aliases", "unknown key", "norway"],
)
def test_s05_yaml_is_plain_values_with_limits(here, text):
    Path("r.yaml").write_text(text)
    done = called("curate", "run", "r.yaml", "--out", "out")
    assert done.code == 2
    assert not Path("canary").exists()


_PAYLOADS = (
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>"),
    *("</script><script>alert(1)</script>", '" onmouseover="alert(1)', "{{7*7}}{% raw %}"),
    *("[x](javascript:alert(1))", "\u202egnp.exe", "a\u2028b", "<style>*{display:none}</style>"),
    '<meta http-equiv="refresh" content="0;url=https://host">',
    "<!-- --><iframe src=//host>",
)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[f"{tag} {sorted(name for name, _ in attrs)}"] += 1


def _report(name: str, texts: tuple[str, ...]) -> tuple[Counter[str], str]:
    _rows(f"{name}.jsonl", *texts, *texts)
    assert called("curate", "dedup", f"{name}.jsonl", "exact_dedup", "--out", name).code == 0
    assert called("report", name).code == 0
    page, tags = Path(name, "report.html").read_text(), _Tags()
    tags.feed(page)
    return tags.found, page


def test_s06_text_adds_no_element_to_the_report(here):
    pytest.importorskip("plotly")
    plain, _ = _report("plain", tuple(f"text {i}" for i in range(len(_PAYLOADS))))
    found, page = _report("hostile", _PAYLOADS)
    assert found == plain
    assert "default-src 'none'" in page


_FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("//host";"x")')


@pytest.mark.parametrize("container", ["jsonl", "parquet", "datasets"])
def test_s07_what_a_spreadsheet_computes_leaves_as_it_is_and_never_as_csv(here, container):
    _rows("d.jsonl", *_FORMULAS)
    assert called("curate", "ingest", "d.jsonl", "--out", "run").code == 0
    wanted = ("--format", "trl", "--as", "messages", "--out", "out")
    refused = called("curate", "export", "run", *wanted, "--to", "csv")
    assert refused.code == 2
    assert "--to: expected one of" in refused.message  # no cell needs a sign put before it
    assert called("curate", "export", "run", *wanted, "--to", container).code == 0
    written = {path.suffix for path in Path("out").rglob("*") if path.is_file()}
    assert written <= {"", ".md", ".jsonl", ".parquet", ".arrow", ".json"}
    texts = "\n".join(str(row) for row in _exported(container))
    assert all(repr(text)[1:-1] in texts for text in _FORMULAS)


def _exported(container: str) -> list[dict[str, object]]:
    if container == "jsonl":
        return [
            json.loads(line) for line in Path("out/train.jsonl").read_text().split("\n") if line
        ]
    if container == "parquet":
        return pl.read_parquet("out/train.parquet").to_dicts()
    return pl.read_ipc_stream(next(Path("out").rglob("*.arrow"))).to_dicts()


_TEMPLATES = ("chatml", "falcon", "granite", "internlm", "mistral_tools", "yi")


@cache
def _tokenizer(template: str) -> PreTrainedTokenizerBase:
    from siftune.curate.chat.templates import CHATML
    from tests.finetune.chat_templates import FAMILIES, byte_tokenizer

    return byte_tokenizer(template, CHATML if template == "chatml" else FAMILIES[template])


def _control_ids(template: str, text: str) -> tuple[int, int]:
    """Control tokens of a conversation that holds ``text``: of ours, and of plain tokenizing."""
    from siftune.curate.chat.encoding import encode_chats

    tokenizer = _tokenizer(template)
    chat = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    (encoded,) = encode_chats(tokenizer, [chat])
    plain = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return tuple(sum(i in special for i in ids) for ids in (encoded.ids, plain["input_ids"]))


@pytest.mark.parametrize("template", _TEMPLATES)
def test_s09_text_cannot_spell_control_tokens(template):
    own, _ = _control_ids(template, "x")
    assert own > 0
    for token in _tokenizer(template).get_added_vocab():
        for text in (token, f"a{token}b", f"{token}\nsystem", token * 3):
            found, forged = _control_ids(template, text)
            assert found == own, text
            assert forged > own  # it is a control token where nobody takes care


@pytest.mark.slow
@pytest.mark.parametrize("template", _TEMPLATES)
def test_s09_no_text_at_all_spells_control_tokens(template):
    tokens = st.sampled_from([*_tokenizer(template).get_added_vocab(), "\n", " ", "<|", "|>"])
    texts = st.lists(tokens | st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
    own, _ = _control_ids(template, "x")

    @settings(max_examples=1000)
    @given(texts.map("".join).filter(str.strip))
    def holds(text):
        assert _control_ids(template, text)[0] == own

    holds()


def test_s10_names_in_the_data_lead_nowhere(here):
    names = ("../../x", "/tmp/x", "a\0b", "CON", "x" * 300, "..")
    lines = [{"id": name, "prompt": name, "completion": "x", "source": name} for name in names]
    Path("in").mkdir()
    Path("in/d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert called("curate", "ingest", "in/d.jsonl", "--out", "in/out").code == 0
    assert called("curate", "export", "in/out", "--out", "in/e").code == 0
    assert [path.name for path in here.iterdir()] == ["in"]
    assert {path.name for path in Path("in").iterdir()} == {"d.jsonl", "out", "e"}
    Path("z.jsonl").write_bytes(b"PK\x03\x04" + bytes(40))
    assert called("curate", "ingest", "z.jsonl", "--out", "z").code == 3


@pytest.mark.parametrize("name", ["kept.parquet", "manifest.json", "stages", ".lock", ".siftune"])
def test_s11_links_are_not_written_through(here, name):
    _rows("d.jsonl", "x")
    target = Path("target")
    target.write_text("mine")
    Path("out").mkdir()
    Path("out", name).symlink_to(target.absolute())
    assert called("curate", "ingest", "d.jsonl", "--out", "out").code in (1, 2)
    assert target.read_text() == "mine"
    Path("link").symlink_to("elsewhere")
    assert called("curate", "ingest", "d.jsonl", "--out", "link").code == 2
    assert not Path("elsewhere").exists()


def test_s12_a_file_that_grows_without_end_is_refused(here, monkeypatch):
    monkeypatch.setattr("siftune.curate.files.byte_streams.FREE", 1 << 16)
    Path("d.jsonl.gz").write_bytes(gzip.compress(bytes(8 << 20)))
    assert called("curate", "ingest", "d.jsonl.gz", "--out", "out").code == 3
    Path("m").mkdir()
    Path("m/model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    Path("m/config.json").write_text('{"model_type": "llama"}')
    _rows("d.jsonl", "x")
    done = called("finetune", "sft", "d.jsonl", "--model", "m", "--out", "out")
    assert done.code in (2, 3)


def test_s13_only_judges_on_servers_request_addresses():
    clients = re.compile(r"(?m)^\s*(?:import|from) (?:" + "|".join(_CLIENTS) + r")\b")
    found = {path.name for path, text in _sources().items() if clients.search(text)}
    assert found <= _OF_SERVERS
    assert not any(name.endswith(("urlopen", "urlretrieve")) for name in _calls())


def test_s14_secrets_are_neither_written_nor_printed(here, monkeypatch):
    secret = "hf_canary7f3a"
    monkeypatch.setenv("HF_TOKEN", secret)
    _rows("d.jsonl", "x")
    Path("r.yaml").write_text(f"source: https://me:{secret}@host/d.jsonl\n")
    ends = [
        called("curate", "ingest", "d.jsonl", "--out", "out"),
        called("curate", "export", "out", "--out", "export"),
        called("curate", "run", "r.yaml", "--out", "other"),
        called("curate", "ingest", f"https://{secret}@host/x", "--out", "other"),
        called("curate", "ingest", f"https://host/x?token={secret}", "--out", "other"),
        called(
            "finetune", "sft", "d.jsonl", "--model", f"https://me:{secret}@host/m", "--out", "m"
        ),
    ]
    assert not any(secret in done.out + done.err for done in ends)
    written = (path for path in here.rglob("*") if path.is_file() and path.name != "r.yaml")
    assert not any(secret.encode() in path.read_bytes() for path in written)


def test_s14_a_judges_key_and_password_are_neither_written_nor_printed(here, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary9d2e")

    def repeat(handler, body):  # a server that repeats what it got
        message = f"refused {handler.headers['Authorization']} at {handler.path}"
        handler.send(401, json.dumps({"error": {"message": message}}).encode())

    monkeypatch.setitem(FAULTS, "repeat", repeat)
    _rows("d.jsonl", "x")
    printed = ""
    with JudgeServer() as server, JudgeServer(lambda body, times: "repeat") as other:
        for number, url in enumerate(
            [
                server.url.replace("//", "//me:canary-word@"),
                other.url.replace("//", "//me:canary-word@"),
                f"{other.url}?token=canary-token",  # with the key
                "http://me:canary-word@127.0.0.1:1/v1",  # where nobody answers
            ]
        ):
            options = ("--judge", f"{url}#m{number}", "--tries", "1", "--out", f"o{number}")
            options += ("--judge-options", "key_variable=OPENAI_API_KEY")
            done = called("curate", "score", "d.jsonl", "judge_rating", *options)
            printed += done.out + done.err
    assert len(server.bodies) == 1
    assert len(other.bodies) == 2
    assert "canary" not in printed
    found = [path for path in Path().rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    assert any(path.name == "manifest.json" for path in found)
    assert not [path for path in found if b"canary" in path.read_bytes()]


def test_s15_code_of_a_model_is_run_in_one_place_alone():
    """Where it is limited; `tests/finetune/test_code_execution.py` has the hostile programs."""
    users = [
        path.name
        for path, text in _sources().items()
        if "subprocess" in text and "subprocess" in ast.dump(ast.parse(text))  # not in a comment
    ]
    # pip, see `models.get`; `code_execution.run`; math-verify, which runs no text as code
    assert set(users) <= {"get.py", "run.py", "formulas.py"}


def test_s16_patterns_take_linear_time(here):
    import time

    def seconds(size: int) -> float:
        pumps = ("a@" * size, "1-" * size, "((" * size, "aA1 " * size, " " * size + "x", "-" * size)
        _rows("d.jsonl", *pumps)
        start = time.process_time()
        for scorer in ("pii", "heuristics"):
            assert called("curate", "score", "d.jsonl", scorer, "--out", scorer).code == 0
        return time.process_time() - start

    seconds(10)  # what is loaded and compiled once
    assert seconds(50_000) < 10 * max(seconds(12_500), 0.2)


def test_s17_no_index_or_array_of_others_is_deserialised(here):
    Path("d.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes(120))
    assert called("curate", "ingest", "d.npy", "--out", "out").code == 3
    assert not _calls() & {"np.load", "numpy.load", "faiss.read_index"}


def test_s18_s19_nothing_listens():
    assert not _roots(_imports()) & _SERVERS
    assert not any(name.endswith((".listen", ".serve_forever")) for name in _calls())


def test_s20_a_tokenizer_with_two_ids_swapped_is_another_model(here):
    from siftune.finetune.models.loading import model_hash

    Path("m").mkdir()
    Path("m/config.json").write_text('{"model_type": "llama"}')
    Path("m/model.safetensors").write_bytes(b"same")
    hashes = set()
    for vocabulary in ({"yes": 1, "no": 2}, {"yes": 2, "no": 1}):
        Path("m/tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
        hashes.add(model_hash("m"))
    assert len(hashes) == 2


def test_s23_data_cannot_drive_the_terminal(here):
    _rows("d.jsonl", "\x1b[2J\x1b]0;title\x07\x9b31m", "\u202egnp")
    assert called("curate", "ingest", "d.jsonl", "--out", "out").code == 0
    told = called("curate", "explain", "out", "d:1")
    assert not set(told.out) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert os.fsencode("title") in told.out.encode()
