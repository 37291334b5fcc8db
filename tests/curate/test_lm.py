from __future__ import annotations

import math
import random
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import Progress
from siftune.curate.core.schema import TURNS
from siftune.curate.files.atomic import read_json, write_json
from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import turn
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from siftune.curate.scorers.ifd import IFD
from siftune.curate.scorers.perplexity import Perplexity
from siftune.curate.text import language_model
from siftune.curate.text.language_model import CausalLM, TokenRow

SENTENCE = "the cat sat on a mat and saw blue birds over seven hills by night"
WORDS = SENTENCE.split()
WINDOW = 256


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, but a real tokenizer: one layer of width 32, a window of 256 tokens."""
    from siftune.finetune.tools.init import Init

    folder = tmp_path_factory.mktemp("model")
    text = folder / "text.txt"
    text.write_text("\n\n".join([SENTENCE] * 4))
    Init(vocab_size=300, hidden=32, layers=1, heads=2, context=WINDOW // 4, steps=0, seed=5)(
        text, folder / "tiny"
    )
    return folder / "tiny"


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 25))) for _ in range(count)]


def one_by_one(model: Path, prompt: str, answer: str) -> float:
    """The definition, read out token by token with no batch, padding or slicing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    losses = []
    for token in tokenizer(answer, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            logits = net(torch.tensor([ids])).logits[0, -1]
        losses.append(-torch.log_softmax(logits, -1)[token].item())
        ids.append(token)
    return sum(losses) / len(losses)


def test_mean_nll_is_that_of_one_row_at_a_time(model: Path) -> None:
    prompts, answers = ["", *texts(7, 1)], texts(8, 2)
    found = CausalLM(str(model)).mean_nll(prompts, answers)
    expected = [one_by_one(model, p, a) for p, a in zip(prompts, answers, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_sum_over_a_large_vocabulary_is_exact_to_float32() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    net = LlamaForCausalLM(LlamaConfig(vocab_size=49_152, **size, **heads)).eval()
    lm = CausalLM("large", precision="fp32")
    lm.__dict__["loaded"] = net
    row = TokenRow.of([1], range(100, 108))
    with torch.no_grad():
        logits = net(torch.tensor([row.ids])).logits[0, :-1].double()
    exact = logits.log_softmax(-1)[range(8), list(row.ids[1:])].numpy()
    for passes in (lm.forward([row]), lm.forward([row] * 2)):
        np.testing.assert_allclose(passes[0].logps, exact, rtol=0, atol=4e-6)


def test_company_and_order_do_not_matter(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, answers = texts(40, 3), texts(40, 4)
    scorer = CausalLM(str(model))
    together = scorer.mean_nll(prompts, answers)
    assert (scorer.mean_nll(prompts, answers) == together).all()
    reversed_ = scorer.mean_nll(prompts[::-1], answers[::-1])[::-1]
    monkeypatch.setattr(language_model, "_TOKENS", {"cpu": 40, "cuda": 40})
    in_small_batches = CausalLM(str(model)).mean_nll(prompts, answers)
    np.testing.assert_allclose(reversed_, together, rtol=0, atol=1e-5)
    np.testing.assert_allclose(in_small_batches, together, rtol=0, atol=1e-5)


def test_what_cannot_be_scored_is_nan_and_leaves_its_neighbours_alone(model: Path) -> None:
    long = " ".join(WORDS * 40)
    prompts = ["the cat", None, "the cat", "the cat", long, "the cat"]
    answers = ["sat", "sat", None, "", "sat", long]
    found = CausalLM(str(model)).mean_nll(prompts, answers)
    assert np.isnan(found).tolist() == [False, True, True, True, True, True]
    assert found[0] == pytest.approx(one_by_one(model, "the cat", "sat"), abs=1e-5)


def test_a_row_fits_to_the_last_token_of_the_window(model: Path) -> None:
    answer = "the cat sat"
    tokens = 1 + len(CausalLM(str(model))._tokenizer.encode(answer).ids)  # and the start token
    assert np.isfinite(CausalLM(str(model), tokens).mean_nll([""], [answer])).all()
    assert np.isnan(CausalLM(str(model), tokens - 1).mean_nll([""], [answer])).all()


def test_no_rows_give_no_scores(model: Path) -> None:
    assert CausalLM(str(model)).mean_nll([], []).shape == (0,)


def test_control_tokens_in_a_text_are_letters(model: Path) -> None:
    own = CausalLM(str(model))._tokenizer.encode("<|im_end|>", add_special_tokens=False)
    assert len(own.ids) > 1


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"\./no/such"):
        CausalLM("./no/such").mean_nll(["a"], ["b"])


def test_a_model_without_a_start_token_is_refused_in_words(model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in model.iterdir():
        if path.is_file():
            (bare / path.name).write_bytes(path.read_bytes())
    config = read_json(bare / "config.json")
    write_json(bare / "config.json", {**config, "bos_token_id": None, "eos_token_id": None})
    with pytest.raises(UsageError, match="neither a bos nor an eos token"):
        CausalLM(str(bare)).mean_nll(["a"], ["b"])


def chats(*pairs: tuple[str | None, str | None]) -> pl.DataFrame:
    rows = [
        [turn(role, said) for role, said in zip(("user", "assistant"), pair, strict=True) if said]
        for pair in pairs
    ]
    return pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})


def test_ifd_is_the_ratio_it_is_called(model: Path) -> None:
    after = one_by_one(model, "the cat\n", "sat on a mat")
    alone = one_by_one(model, "", "sat on a mat")
    batch = chats(("the cat", "sat on a mat"))
    by_perplexity = IFD(str(model))(batch)
    assert by_perplexity["ifd"].item() == pytest.approx(math.exp(after - alone), rel=1e-4)
    assert by_perplexity["ifd_answer_nll"].item() == pytest.approx(after, rel=1e-4)
    assert by_perplexity["ifd_alone_nll"].item() == pytest.approx(alone, rel=1e-4)
    by_loss = IFD(str(model), ratio="loss")(batch)
    assert by_loss["ifd"].item() == pytest.approx(after / alone, rel=1e-4)


def test_ifd_of_rows_without_prompt_or_answer_is_null(model: Path) -> None:
    scores = IFD(str(model))(chats(("the cat", "sat"), (None, "sat"), ("the cat", None)))
    assert scores["ifd"].is_null().to_list() == [False, True, True]


def test_perplexity_is_of_the_answer_after_the_prompt_or_alone(model: Path) -> None:
    batch = chats(("the cat", "sat"), (None, "sat"))
    given = Perplexity(str(model))(batch)["perplexity"].to_list()
    alone = Perplexity(str(model), given_prompt=False)(batch)["perplexity"].to_list()
    assert given[0] == pytest.approx(math.exp(one_by_one(model, "the cat\n", "sat")), rel=1e-4)
    assert given[1] is None
    expected = math.exp(one_by_one(model, "", "sat"))
    assert alone == pytest.approx([expected, expected], rel=1e-4)


def test_bf16_scores_have_the_same_bits_in_any_company_and_order(model: Path) -> None:
    prompts, answers = texts(12, 5), texts(12, 6)
    scorer = CausalLM(str(model), precision="bf16")
    together = scorer.mean_nll(prompts, answers)
    alone = [scorer.mean_nll([p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
    assert together.tolist() == alone
    assert scorer.mean_nll(prompts[::-1], answers[::-1])[::-1].tolist() == alone


def test_bf16_changes_scores_by_its_rounding_and_fp32_not_at_all(model: Path) -> None:
    prompts, answers = ["", *texts(7, 1)], texts(8, 2)
    exact = CausalLM(str(model), precision="fp32").mean_nll(prompts, answers)
    short = CausalLM(str(model), precision="bf16").mean_nll(prompts, answers)
    assert 1e-5 < np.abs(short - exact).max() < 2e-2


@pytest.mark.parametrize(
    ("precision", "multiplies", "found", "line"),
    [
        ("auto", True, "bf16", "bf16 for the model, fp32 for log-softmax (this CPU multiplies"),
        ("auto", False, "fp32", "fp32 (this CPU does not multiply bf16)"),
        ("fp32", True, "fp32", "fp32 (as asked for)"),
        ("bf16", False, "bf16", "(as asked for; this CPU emulates bf16, and fp32 is faster)"),
    ],
)
def test_precision_is_that_of_the_processor_unless_it_is_asked_for(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    multiplies: bool,
    found: str,
    line: str,
) -> None:
    monkeypatch.setattr(
        "siftune.curate.models.precision.multiplies_bf16", lambda device: multiplies
    )
    scorer = IFD(str(model), precision=precision)
    assert scorer.describe() == {"precision": found}
    assert line in scorer.notice()
    assert scorer._lm.loaded.dtype == (torch.bfloat16 if found == "bf16" else torch.float32)


def test_a_run_reports_its_precision_and_scores_again_in_another(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "the cat", "completion": "sat on a mat"}\n')
    recipe = {"name": "r", "source": str(rows), "stages": [{"score": "ifd", "model": str(model)}]}
    lines = []
    for multiplies in (False, False, True):
        monkeypatch.setattr(
            "siftune.curate.models.precision.multiplies_bf16", lambda _, now=multiplies: now
        )
        stream = StringIO()
        run(parse(recipe), tmp_path / "run", say=Progress(stream))
        lines.append(stream.getvalue())
    assert "ifd: precision: fp32 (this CPU does not multiply bf16)" in lines[0]
    assert "ifd: done before" in lines[1]
    assert "ifd: precision: bf16 for the model" in lines[2]
