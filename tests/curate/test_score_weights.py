"""`siftune curate fit-weights`: weights of scores from proxies, with optima that are planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import siftune
from siftune.curate.cli import curate
from siftune.curate.core.errors import UsageError
from siftune.curate.heads.score_weights import NgramProxy, fit_score_weights, halves
from siftune.curate.rows.chat import text_of


def table(height: int = 400) -> pl.DataFrame:
    draw = np.random.default_rng(1)
    columns = draw.normal(size=(height, 3))
    return pl.DataFrame(
        {
            "id": [f"a:{at}" for at in range(height)],
            "digest": [f"{at * 7919 % 997:032x}" for at in range(height)],
            "a": 5 + 3 * columns[:, 0],  # scales do not matter
            "b": -columns[:, 1],
            "c": [None if at == 0 else float(one) for at, one in enumerate(columns[:, 2])],
        }
    )


@pytest.mark.parametrize("true", [(0.7, 0.3, 0.0), (0.2, 0.2, 0.6)])
def test_a_planted_weighting_is_found(true: tuple[float, ...]) -> None:
    rows = table()
    columns = np.stack([(rows["a"] - 5) / 3, -rows["b"], rows["c"].fill_null(0)], axis=1)
    quality = columns @ np.array(true)
    seen: list[int] = []

    def loss(chosen: np.ndarray) -> float:
        seen.append(len(chosen))
        return 10 - float(quality[chosen].mean())

    def check(chosen: np.ndarray) -> float:
        return 10 - float(quality[chosen].mean())

    fit = fit_score_weights(rows, ("a", "-b", "c"), 60, loss, check, proxies=40, seed=5)
    found = np.array([*fit.weights.values()])
    cosine = found @ true / np.linalg.norm(found) / np.linalg.norm(true)
    assert cosine > 0.98
    assert fit.loss <= min(fit.equal, fit.best_single)
    assert fit.loss < fit.random - 0.5
    assert fit.r2 > 0.8
    assert (fit.rows, fit.kept, set(seen)) == (399, 60, {60})
    assert len(seen) == 3 + 1 + 40 + 1  # alone, alike, drawn, the best predicted
    assert fit.by.startswith(f"{found[0]:.2g}"[:3])
    turned = [_turned(one) for one in (loss, check)]
    again = fit_score_weights(rows.reverse(), ("a", "-b", "c"), 60, *turned, 40, 5)
    assert again.weights == fit.weights


def _turned(loss: Any) -> Any:
    return lambda chosen: loss(399 - chosen)


def test_a_loss_that_follows_no_weights_has_no_r2() -> None:
    noise = np.random.default_rng(2)
    fit = fit_score_weights(
        table(), ("a", "b"), 50, lambda _: float(noise.normal()), lambda _: 7.0, 40
    )
    assert fit.r2 < 0.3
    # what chose them is not what they are reported by
    assert (fit.loss, fit.equal, fit.best_single, fit.random) == (7.0, 7.0, 7.0, 7.0)


def test_held_out_rows_are_halved_by_prompt() -> None:
    rows = siftune.read(
        [{"prompt": f"q{at % 9}", "response": f"a{at}"} for at in range(27)]
    ).to_polars()
    one, other = halves(rows, 0)
    assert (one.height, other.height) == (12, 15)
    assert not set(text_of(one, "prompt")) & set(text_of(other, "prompt"))
    assert set(halves(rows.reverse(), 0)[0]["id"]) == set(one["id"])
    assert set(halves(rows, 1)[0]["id"]) != set(one["id"])
    texts = siftune.read([{"text": f"t{at}"} for at in range(4)]).to_polars()
    assert halves(texts, 0)[0].height == 2
    with pytest.raises(UsageError, match="at least two prompts"):
        halves(rows.head(1), 0)


def test_the_ngram_proxy_by_hand() -> None:
    proxy = NgramProxy(pl.Series(["sun", "sea"]), pl.Series(["sun"]), buckets=1000)
    assert proxy(np.array([0])) == pytest.approx(-np.log(2 / 1001))
    assert proxy(np.array([1])) == pytest.approx(-np.log(1 / 1001))


def test_too_little_to_choose_from_is_refused() -> None:
    rows = table(20)
    for names, kept, more, message in (
        (("a",), 5, {}, "two different scores"),
        (("a", "b"), 20, {}, "20 rows have all scores: expected to keep fewer"),
        (("a", "b"), 5, {"proxies": 3}, "at least 8 proxies"),
        (("a", "bb"), 5, {}, "no column 'bb'"),
    ):
        with pytest.raises(UsageError, match=message):
            fit_score_weights(rows, names, kept, lambda _: 0.0, lambda _: 0.0, **more)


def test_the_command_prints_what_by_takes(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Say it", "response": f"{'sun ' * (at % 7)}{'sea ' * (at % 5)}w{at}"}
        for at in range(40)
    ]
    counts = [row["response"].count("sun") for row in rows]
    frame = siftune.read(rows).score("length").kept
    frame = frame.with_columns(suns=pl.Series(counts, dtype=pl.Float64))
    frame.write_parquet(tmp_path / "rows.parquet")
    held = (json.dumps({"prompt": f"sun {at}", "response": "sun sun sun"}) for at in range(4))
    (tmp_path / "held.jsonl").write_text("\n".join(held))
    given = [tmp_path / "rows.parquet", "--scores", "suns,-length_chars", "--keep", 8]
    given += ["--against", tmp_path / "held.jsonl", "--proxies", 8]
    done = CliRunner().invoke(curate, ["fit-weights", *map(str, given), "--json"])
    fit = json.loads(done.output)
    assert fit["weights"]["suns"] > 0.5
    text = CliRunner().invoke(curate, ["fit-weights", *map(str, given)]).output
    loss = "loss of 8 of 40 rows on held-out prompts that chose no weights:"
    assert text.startswith(f'--by "{fit["by"]}"\n{loss}\n')
    kept = siftune.read(str(tmp_path / "rows.parquet")).select("top_k", by=fit["by"], rows=8).kept
    (tmp_path / "mine.py").write_text(
        "def loss(selected, held_out):\n    assert held_out.height == 2\n"
        "    return -selected['suns'].mean()\n"
    )
    own = CliRunner().invoke(
        curate, ["fit-weights", *map(str, given), "--json", "--loss", f"{tmp_path}/mine.py:loss"]
    )
    assert json.loads(own.output)["loss"] == pytest.approx(-kept["suns"].to_numpy().mean(), abs=0.6)
