"""What a text names as a judge."""

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.spec import check_judge, default_task, judge_backend, named_judge
from siftune.curate.judges.server import Server
from siftune.curate.judging.judge_stage import judge_stage


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("smollm2", "local_model", {"model": "smollm2"}),
        ("models/judge", "local_model", {"model": "models/judge"}),
        ("https://h/v1#a/b:free", "server", {"url": "https://h/v1", "model": "a/b:free"}),
        ("decision+http://h#m", "decision_server", {"url": "http://h", "model": "m"}),
        ("classifier:models/rm", "classifier", {"model": "models/rm"}),
        ("scripted:f.py:g", "scripted", {"function": "f.py:g"}),
        ("f.py:g", "scripted", {"function": "f.py:g"}),
        ("server", "server", {}),
    ],
)
def test_a_text_names_a_judge(text, name, options):
    assert named_judge(text) == (name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://me:hunter22@h/v1", r"judge https://\*\*\*@h/v1: name the model"),
        ("ftp://h/v1#m", "expected the name or folder of a model"),
        ("", "expected the name or folder of a model"),
    ],
)
def test_a_text_that_names_none_is_refused_without_its_password(text, message):
    with pytest.raises(UsageError, match=message) as refused:
        named_judge(text)
    assert "hunter22" not in str(refused.value)


def test_a_judge_is_built_with_options():
    for judge, options in (
        ("https://h/v1#m", {"key_variable": "MY_KEY"}),
        ({"backend": "https://h/v1#m", "key_variable": "MY_KEY"}, {}),
        ({"backend": "server", "url": "https://h/v1", "model": "m", "key_variable": "MY_KEY"}, {}),
    ):
        built = judge_backend(judge, options)
        assert isinstance(built, Server)
        assert (built.url, built.key_variable) == ("https://h/v1", "MY_KEY")
    assert judge_backend(built) is built


@pytest.mark.parametrize("judge", [3, None, {"url": "https://h"}])
def test_what_is_no_judge_is_refused(judge):
    with pytest.raises(UsageError, match="judge: expected the name or folder"):
        judge_backend(judge)


@pytest.mark.parametrize(
    "url", ["https://", "file:///etc/passwd", "https://h:port/v1", "https://h/v1#part"]
)
def test_a_url_that_no_server_has_is_refused(url):
    with pytest.raises(UsageError, match=r"expected the URL of a server|is no URL"):
        Server(url, "m")


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("no/such/model", "judge: no model folder no/such/model"),
        ("classifier:no/such/model", "judge: no model folder no/such/model"),
        ("fitted:nowhere", "judge: there is no folder nowhere"),
        ("scripted:nofile.py:x", "judge: nofile.py:x: there is no file nofile.py"),
        ("scripted:fair.py:x", "judge: fair.py has no 'x'"),
        ("scripted:fair.py:Without", "fair.py:Without: expected a function, got a class without"),
        ("scripted:fair.py:later", "fair.py:later: expected a function, got one of async def"),
        ("scripted:fair.py:Later", "fair.py:Later: expected a function, got one of async def"),
        ("https://h/v1", "judge https://h/v1: name the model"),
    ],
)
def test_a_judge_that_is_not_there_is_refused_before_it_is_asked(
    judge, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fair.py").write_text(FAIR)
    with pytest.raises(UsageError, match=message):
        check_judge(judge)
    check_judge("scripted:fair.py:fair")


FAIR = """
def fair(messages):
    return "A"

async def later(messages):
    return "A"

class Later:
    async def __call__(self, messages):
        return "A"

class Without:
    pass
"""


def test_a_head_of_pairs_compares_pairs_and_scores_conversations(tmp_path):
    for kind in ("pairs", "rating"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "head.json").write_text(f'{{"kind": "{kind}"}}')
    tasks = {
        (kind, rows): default_task(str(tmp_path / kind), rows)[0]
        for kind in ("pairs", "rating")
        for rows in ("preference", "conversation")
    }
    assert tasks.pop(("pairs", "preference")) == "classifier_preference"
    assert set(tasks.values()) == {"classifier_score"}


def test_a_judge_that_only_scores_is_given_no_question():
    for task in ("alpagasus", "pairwise", "listwise"):
        with pytest.raises(UsageError, match=f"task {task}: classifier:rm scores conversations"):
            judge_stage("preference", "classifier:rm", task)
    scorer, _ = judge_stage("preference", "classifier:rm", "classifier_preference")
    assert scorer == "judge_pairwise"


@pytest.mark.parametrize("cap", [float("inf"), float("nan"), -1.0])
def test_a_cap_that_is_no_amount_is_refused(cap):
    with pytest.raises(UsageError, match="max_cost: expected dollars"):
        Judge(judge_backend("server", {"url": "https://h", "model": "m"}), None, max_cost=cap)
