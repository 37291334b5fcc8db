"""Language of texts: codes of plain sentences, what is too short, languages to choose from."""

from __future__ import annotations

import pickle
import sys

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.language import Detector, Language, _chosen
from siftune.curate.text.language_id import langid_model

OPTIONS = [{}, {"detector": "lingua", "languages": ("en", "de", "zh"), "min_letters": 4}]

SENTENCES = {
    "en": "The ferry leaves at noon, and we should be on the island before it gets dark.",
    "de": "Die Fähre legt mittags ab, und wir sollten vor Einbruch der Dunkelheit dort sein.",
    "fr": "Le bateau part à midi, et nous devrions arriver sur l'île avant la tombée de la nuit.",
    "es": "El barco sale al mediodía y deberíamos llegar a la isla antes de que anochezca.",
    "pl": "Prom odpływa w południe, więc powinniśmy dotrzeć na wyspę przed zmrokiem.",
    "fi": "Lautta lähtee puolelta päivin, ja meidän pitäisi olla saarella ennen pimeää.",
    "no": "Fergen går klokken tolv, og vi bør være fremme på øya før det blir mørkt.",
    "ru": "Паром отходит в полдень, и мы должны быть на острове до наступления темноты.",
    "el": "Το πλοίο φεύγει το μεσημέρι και θα φτάσουμε στο νησί πριν νυχτώσει.",
    "zh": "渡轮中午出发，我们应该在天黑之前到达那个岛上，请大家不要迟到。",
    "ja": "フェリーは正午に出発しますので、暗くなる前に島に着くはずです。",
    "ar": "تغادر العبارة عند الظهر ويجب أن نصل إلى الجزيرة قبل حلول الظلام.",
    "hi": "नाव दोपहर को निकलती है और हमें अंधेरा होने से पहले द्वीप पर पहुँच जाना चाहिए।",
}


def chats(*answers: str | None) -> pl.DataFrame:
    rows = [[turn("user", "Say it."), turn("assistant", answer)] for answer in answers]
    return pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})


@pytest.mark.parametrize("detector", ["py3langid", "lingua"])
def test_the_language_of_a_sentence_is_known(detector: Detector) -> None:
    codes = tuple(SENTENCES) if detector == "py3langid" else ("en", "de", "zh")
    scores = Language(detector=detector, languages=codes)(chats(*map(SENTENCES.get, codes)))
    assert scores["language_code"].to_list() == list(codes)
    assert scores["language_probability"].is_between(0.3, 1).all()


def test_what_is_short_or_code_has_no_language() -> None:
    code = "```python\nfor each in sorted(values, reverse=True):\n    print(each)\n```"
    scores = Language()(chats("Paris", "3.14159 26535", code, "https://example.org/some/page"))
    assert scores["language_code"].to_list() == [None] * 4
    assert scores["language_probability"].to_list() == [None] * 4
    assert Language(min_letters=3)(chats("Danke sehr"))["language_code"].item() == "de"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("雨が降りそうだ。", "ja"),
        ("明天见面吧", "zh"),
        ("오늘은 쉬고 싶다", "ko"),
        ("ฝนตกหนักมาก", "th"),
        ("वह घर पर है", "hi"),
        ("הלכתי הביתה", "he"),
        ("أين الكتاب؟", "ar"),
        ("Πού είναι;", "el"),
        ("Wir gehen heim.", "de"),
    ],
)
def test_a_short_line_has_a_language_where_its_script_shows_it(line: str, code: str) -> None:
    assert Language()(chats(line))["language_code"].item() == code


@pytest.mark.parametrize("text", ["谢", "αβ", "Ok, danke", "while (left < right) { swap(a, b); }"])
def test_a_sign_a_word_or_two_and_code_have_none(text: str) -> None:
    assert Language()(chats(text))["language_code"].item() is None


def test_what_the_detector_calls_no_language_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Language()
    monkeypatch.setitem(scorer.__dict__, "_rank", lambda _: [("zxx", 0.9), ("en", 0.1)])
    assert scorer(chats("a text of some length"))["language_code"].item() is None


def test_code_beside_a_sentence_is_left_out() -> None:
    answer = f"{SENTENCES['de']}\n```\nwhile the sun is up and we are here: print('go')\n```"
    assert Language()(chats(answer))["language_code"].item() == "de"


def test_of_the_languages_named_the_nearest_is_taken() -> None:
    assert Language(languages=("no", "ru"))(chats(SENTENCES["en"]))["language_code"].item() == "no"
    with pytest.raises(UsageError, match="'ger' is no code of the detector"):
        Language(languages=("ger", "en"))(chats(SENTENCES["en"]))
    with pytest.raises(UsageError, match="expected two or more"):
        Language(languages=("en",))(chats(SENTENCES["en"]))


def test_a_detector_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    langid_model.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[langid\]'"):
        Language().describe()


def test_the_model_is_not_pickled() -> None:
    scorer = Language()
    scorer(chats(SENTENCES["en"]))
    assert len(pickle.dumps(scorer)) < 1000
    assert "py3langid 0" in scorer.describe()["detector"]


def test_the_first_unknown_language_is_the_one_that_is_named() -> None:
    with pytest.raises(UsageError, match="'ene' is no code of the detector; did you mean en"):
        _chosen(("de", "xx", "ene"), ("de", "en"))
