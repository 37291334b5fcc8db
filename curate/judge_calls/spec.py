"""The judge that a text names, on the command line, in a recipe or in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from siftune.curate.core.custom_file import is_custom
from siftune.curate.core.errors import UsageError
from siftune.curate.core.redact import hidden
from siftune.curate.core.registry import build, names
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.trained import trained_judge
from siftune.curate.judge_calls.types import AsyncBackend, Backend, identity_of
from siftune.curate.models.model_files import read_object

__all__ = [
    "JUDGES",
    "TASKS",
    "check_judge",
    "costs_nothing",
    "default_task",
    "judge_backend",
    "judge_name",
    "judge_prices",
    "named_judge",
    "price_known",
    "refuse_rubric",
    "refuse_same",
]

JUDGES: Final = "curate.judges"
TASKS: Final = "curate.judge_tasks"
_FORMS: Final = (
    "the name or folder of a model or a trained judge, URL#MODEL for a server, decision+URL#MODEL, "
    "classifier:FOLDER, fitted:FOLDER, scripted:FILE.py:NAME, or backend: NAME with its options"
)
_SCORING: Final = ("classifier", "fitted")  # they score conversations, and answer no questions
_COMPARES: Final = "classifier_preference"
_SCORES: Final = "classifier_score"
_HEAD: Final = "head.json"  # of `curate fit-quality`
_CONFIG: Final = "config.json"
_WITHOUT_COST: Final = ("local_model", "classifier", "fitted")
_PREFIXES: Final = {
    "classifier:": ("classifier", "model"),
    "fitted:": ("fitted", "model"),
    "scripted:": ("scripted", "function"),
}


def judge_backend(judge: Any, options: Mapping[str, Any] | None = None) -> Backend | AsyncBackend:
    """The backend that ``judge`` is or names, with further ``options``.

    ``judge`` is a text (`named_judge`), a mapping with the name of a component as ``backend`` and
    its options, a Python function from messages to a text, or a backend.

    Raises:
        UsageError: it names none, or an option does not fit.
    """
    more = dict(options or {})
    more = {key: value for key, value in more.items() if value is not None}
    if isinstance(judge, str | Mapping):
        name, own = named_judge(judge)
        return _built(name, {**own, **more})
    if hasattr(judge, "identity"):
        return _as_it_is(judge, more)
    if callable(judge):
        return _built("scripted", {"function": judge, **more})
    raise UsageError(f"judge: expected {_FORMS}; got {type(judge).__name__}")


def check_judge(judge: Any, options: Mapping[str, Any] | None = None) -> None:
    """Refuse a judge that cannot be asked: a file, function or model that is not there.

    Raises:
        UsageError: the judge is none, or an option does not fit.
    """
    from siftune.curate.models.pretrained import load_config
    from siftune.curate.models.resolve import model_folder

    try:
        judge_backend(judge, options)
        name, own = named_judge(judge)
        if name in ("local_model", "classifier") and "model" in own:
            load_config(model_folder(own["model"]))
        elif name == "fitted" and "model" in own and not Path(own["model"]).is_dir():
            raise UsageError(f"there is no folder {own['model']}")
    except UsageError as error:
        told = str(error)
        raise UsageError(told if told.startswith("judge") else f"judge: {told}") from None


def named_judge(text: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The component, with options, that a text names, or the ``backend`` of a mapping.

    >>> named_judge("http://localhost:8000/v1#qwen3")
    ('server', {'url': 'http://localhost:8000/v1', 'model': 'qwen3'})
    >>> named_judge("smollm2")
    ('local_model', {'model': 'smollm2'})
    >>> named_judge("scripted:judges.py:longer")
    ('scripted', {'function': 'judges.py:longer'})

    A folder is a trained judge's, a quality head's, or a chat model's, by a file in it.

    Raises:
        UsageError: a text names no judge, or a folder whose model answers no questions.
    """
    if isinstance(text, Mapping):
        name, own = named_judge(str(text.get("backend", "")))
        given = {key: value for key, value in text.items() if key != "backend"}
        return name, {**own, **given}
    for prefix, (name, option) in _PREFIXES.items():
        if text.startswith(prefix):
            return name, {option: text.removeprefix(prefix)}
    if text.startswith(("http://", "https://")):
        return "server", _address(text)
    if text.startswith(("decision+http://", "decision+https://")):
        return "decision_server", _address(text.removeprefix("decision+"))
    if text in names(JUDGES):
        return text, {}
    if is_custom(text):
        return "scripted", {"function": text}
    if not text.strip() or "://" in text:
        raise UsageError(f"judge: expected {_FORMS}; got {hidden(text)!r}")
    return _kind_of_folder(text), {"model": text}


def default_task(
    judge: str | Mapping[str, Any], kind: str = "conversation"
) -> tuple[str | None, dict[str, Any]]:
    """The task that a judge was made for, with its options; None where it takes any.

    A judge that was trained on pairs compares rows of ``kind`` preference.

    >>> default_task("classifier:reward"), default_task("smollm2")
    (('classifier_score', {}), (None, {}))
    """
    name, own = named_judge(judge)
    pairs = kind == "preference" and name in _SCORING
    trained = trained_judge(own["model"]) if name in ("classifier", "local_model") else None
    if trained is not None:
        compares = pairs and trained.scale.kind == "pairs"
        return _COMPARES if compares else trained.task, dict(trained.task_options)
    if pairs and name == "fitted" and _of_pairs(Path(own["model"]) / _HEAD):
        return _COMPARES, {}
    return (_SCORES if name in _SCORING else None), {}


def _of_pairs(head: Path) -> bool:
    """Whether a quality head was fitted to pairs."""
    return head.is_file() and read_object(head).get("kind") == "pairs"


def refuse_rubric(judge: str | Mapping[str, Any], task: str) -> None:
    """Refuse a task that asks a question, for a judge that only scores conversations.

    Raises:
        UsageError: the judge is a classifier, a reward model or a quality head.
    """
    asks = task in names(TASKS) and task not in (_SCORES, _COMPARES)
    if asks and named_judge(judge)[0] in _SCORING:
        raise UsageError(
            f"task {task}: {hidden(judge_name(judge))} scores conversations and answers no "
            f"question: take the task {_SCORES}, or {_COMPARES} for pairs"
        )


def _kind_of_folder(folder: str) -> str:
    """The judge that answers with the model in ``folder``.

    Raises:
        UsageError: it is a reward model or a classifier, which has to be named so.
    """
    trained = trained_judge(folder)
    if trained is not None:
        return trained.backend
    path = Path(folder)
    if (path / _HEAD).is_file():
        return "fitted"
    if (path / _CONFIG).is_file():
        kinds = read_object(path / _CONFIG).get("architectures") or []
        if any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
            raise UsageError(
                f"judge {folder}: a reward model or classifier, which scores conversations and "
                f"answers no questions: name it classifier:{folder}"
            )
    return "local_model"


def judge_name(judge: str | Mapping[str, Any]) -> str:
    """What ``prices`` calls a judge: its text, or its ``backend``."""
    return judge if isinstance(judge, str) else str(judge.get("backend", ""))


def judge_prices(
    judges: Sequence[str | Mapping[str, Any]],
    given: Mapping[str, Mapping[str, Any]],
    usual: Prices,
) -> list[Prices]:
    """What each judge costs: as ``given`` for it, else nothing for a model here, else as ``usual``.

    >>> servers = judge_prices(["smollm2", "http://h/v1#m"], {}, Prices(0.15, 0.6))
    >>> [prices.input for prices in servers]
    [0.0, 0.15]

    Raises:
        UsageError: no judge has that text, or what is given are no prices.
    """
    names = [judge_name(one) for one in judges]
    if unknown := [name for name in given if name not in names]:
        listed = ", ".join(map(hidden, names))
        raise UsageError(f"prices: no judge is {hidden(unknown[0])}; the judges are {listed}")
    found = []
    for judge, name in zip(judges, names, strict=True):
        free = Prices() if named_judge(judge)[0] in _WITHOUT_COST else usual
        try:
            found.append(Prices(**given[name]) if name in given else free)
        except TypeError:
            raise UsageError(
                f"prices of {hidden(name)}: expected input, output (dollars a million tokens) or "
                f"most_per_call, got {given[name]}"
            ) from None
    return found


def price_known(judge: str | Mapping[str, Any], prices: Prices, given: Mapping[str, Any]) -> bool:
    """Whether ``prices`` are what a judge costs.

    None at all are known of a model here, and where ``given``, the option, names the judge.
    """
    return prices != Prices() or judge_name(judge) in given or costs_nothing(judge, prices)


def costs_nothing(judge: str | Mapping[str, Any], prices: Prices) -> bool:
    """Whether a judge is a model in this process without a price."""
    return prices == Prices() and named_judge(judge)[0] in _WITHOUT_COST


def refuse_same(judges: Sequence[Backend | AsyncBackend]) -> None:
    """Refuse judges that the cache takes for one, so that only the first would be asked.

    Raises:
        UsageError: two have one identity.
    """
    known = [identity_of(judge) for judge in judges]
    same = next((one for one in known if known.count(one) > 1), None)
    if same is not None:
        raise UsageError(
            f"two judges are {same!r} for the cache, and only one would be asked: where they are "
            "different models on two servers, give one the option name"
        )


def _address(text: str) -> dict[str, str]:
    """URL and model of ``URL#MODEL``."""
    url, _, model = text.partition("#")
    if not model:
        raise UsageError(f"judge {hidden(text)}: name the model, as {hidden(url)}#MODEL")
    return {"url": url, "model": unquote(model)}


def _built(name: str, options: Mapping[str, Any]) -> Backend | AsyncBackend:
    backend: Backend | AsyncBackend = build(JUDGES, name, options)
    return backend


def _as_it_is(judge: Any, options: Mapping[str, Any]) -> Backend | AsyncBackend:
    if options:
        raise UsageError(f"judge: {', '.join(options)}: a judge that is made has its options")
    backend: Backend | AsyncBackend = judge
    _ = identity_of(backend)
    return backend
