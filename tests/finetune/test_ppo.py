"""PPO end to end on a tiny model: what must hold in every rollout, and what must not matter."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import schema_of
from siftune.curate.files.outputs import overwriting
from siftune.curate.models.token_ids import end_ids
from siftune.curate.rows.chat import turn
from siftune.curate.text import sampling
from siftune.curate.text.sampling import Sampling
from siftune.finetune.models import loading
from siftune.finetune.models.lora import with_adapter
from siftune.finetune.models.saving import save_model
from siftune.finetune.rewards.text_share import TextShare
from siftune.finetune.rewards.types import reward_of
from siftune.finetune.rl import collector as collecting
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.collector import Collector
from siftune.finetune.rl.kl import kl_k1, kl_k3
from siftune.finetune.rl.model import ActorCritic, Tokens, policy_scores
from siftune.finetune.rl.prepare import prompts_of
from siftune.finetune.rl.rollout import Rollout, stream
from siftune.finetune.runs import checkpoints
from siftune.finetune.scoring.lm_head import TILE
from siftune.finetune.trainers.ppo import PPO

ASKED = [
    "What is the capital?",
    "Say hello.",
    "Name a colour, a good one.",
    "Two plus two?",
    "Yes?",
]
SMALL: dict[str, Any] = {
    "reward": "text_share",
    "reward_options": {"text": "e"},
    "rollouts": 3,
    "batch_size": 8,
    "minibatches": 2,
    "micro_batch": 3,
    "epochs": 1,
    "max_new_tokens": 8,
    "lr": 1e-3,
    "critic_lr": 1e-3,
    "save_every": 1,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = [
        {
            "id": f"asked:{at}",
            "source": "asked",
            "row": at,
            "kind": "conversation",
            "digest": str(at),
            "messages": [turn("user", text), turn("assistant", "yes, the good one")],
        }
        for at, text in enumerate(ASKED)
    ]
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pl.DataFrame(table, schema=schema_of("conversation")).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def gpt2_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Absolute positions and dropout: what a wrong position id or a training mode would change."""
    tokenizer = loading.load_tokenizer(tiny_model_dir)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=32,
        n_layer=1,
        n_head=2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():  # random weights hardly ever end a turn, and know no positions
        model.transformer.wpe.weight.mul_(30)
        model.transformer.ln_f.bias.fill_(1)
        model.lm_head.weight[tokenizer.eos_token_id] += 2.7 / 32
    out = tmp_path_factory.mktemp("models") / "gpt2"
    save_model(model, tokenizer, out, {"stage": "test", "seed": 0})
    return out


def ppo(model: Path, **options: Any) -> PPO:
    built: PPO = build("finetune.trainers", "ppo", {"model": str(model), **SMALL, **options})
    return built


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def facts(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "siftune.json").read_text())
    return read


# ---- the whole run


@pytest.fixture(scope="module")
def toy(tiny_model_dir: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy") / "out"
    torch.set_num_threads(1)
    ppo(
        tiny_model_dir,
        rollouts=8,
        batch_size=48,
        minibatches=2,
        micro_batch=24,
        epochs=4,
        temperature=1.0,
        lr=2e-2,
        critic_lr=3e-3,
        kl_coef=1e-3,
        kl_stop=None,
        schedule="constant",
        save_every=100,
    )(rows, out)
    return out


def test_a_toy_reward_rises_more_than_tenfold(toy: Path) -> None:
    scores = [line["objective/score"] for line in metrics(toy)]
    assert len(scores) == 9  # one a rollout, and one of the policy that is saved
    assert scores[0] < 0.06
    assert scores[-1] > 10 * scores[0]


def test_the_ratio_of_the_first_pass_is_one_to_the_last_bit_in_every_rollout(toy: Path) -> None:
    assert [line["policy/first_ratio_deviation"] for line in metrics(toy)[:-1]] == [0.0] * 8


def test_k1_and_k3_tell_the_same_story_and_the_first_kl_is_zero(toy: Path) -> None:
    lines = metrics(toy)
    assert lines[0]["objective/kl"] == lines[0]["objective/kl_k3"] == 0
    for line in lines[1:4]:
        assert line["objective/kl_k3"] == pytest.approx(line["objective/kl"], rel=0.35)


def test_the_folder_loads_with_plain_transformers_and_says_where_it_comes_from(
    toy: Path, tiny_model_dir: Path
) -> None:
    told = facts(toy)
    assert told["base"]["hash"] == loading.model_hash(tiny_model_dir)
    assert told["data"]["rows"] == len(ASKED)
    assert told["stopped"] is None
    assert told["metrics"]["objective/score"] == metrics(toy)[-1]["objective/score"]
    assert AutoModelForCausalLM.from_pretrained(toy).config.model_type == "llama"
    assert not toy.with_name("out.work").exists()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)  # what the global generator holds must not matter
        ppo(tiny_model_dir, rollouts=1, seed=seed)(rows, tmp_path / name)
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


# ---- stopping and going on


def interrupted(monkeypatch: pytest.MonkeyPatch, at_call: int) -> None:
    """Let the reward raise at its n-th call, as a kill would."""
    calls = iter(range(1, 1000))
    own = TextShare.__call__

    def call(self: TextShare, *args: Any) -> list[float | None]:
        if next(calls) == at_call:
            raise KeyboardInterrupt
        return own(self, *args)

    monkeypatch.setattr(TextShare, "__call__", call)


RESUMED: dict[str, dict[str, Any]] = {
    "full": {"kl_target": 0.1, "kl_horizon": 50},
    "lora": {"lora": 2, "lr": 1e-2},
    "shared": {"critic": "shared", "schedule": "cosine"},
}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, marks=pytest.mark.slow if name == "full" else (), id=name)
        for name, options in RESUMED.items()
    ],
)
def test_a_resumed_run_equals_the_unbroken_one(
    options: dict[str, Any],
    tiny_model_dir: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = ppo(tiny_model_dir, ptx_coef=0.5, ptx_rows=str(rows), **options)
    trainer(rows, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        interrupted(patch, at_call=4)
        with pytest.raises(KeyboardInterrupt):
            trainer(rows, tmp_path / "cut")
    assert checkpoints.newest(tmp_path / "cut.work") == tmp_path / "cut.work/checkpoint-4"
    torch.manual_seed(99)
    torch.rand(7)
    trainer(rows, tmp_path / "cut")
    for name in ("model.safetensors", "metrics.jsonl", "siftune.json"):
        unbroken = (tmp_path / "unbroken" / name).read_bytes()
        assert (tmp_path / "cut" / name).read_bytes() == unbroken, name


def test_a_torn_checkpoint_is_told_and_the_one_before_it_is_used(
    tiny_model_dir: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = ppo(tiny_model_dir)
    trainer(rows, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        interrupted(patch, at_call=4)
        with pytest.raises(KeyboardInterrupt):
            trainer(rows, tmp_path / "cut")
    torn = tmp_path / "cut.work/checkpoint-4/optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:-9])
    trainer(rows, tmp_path / "cut")
    said = capsys.readouterr()
    assert "checkpoint-4 is torn" in said.err
    assert "going on from" in said.err
    assert said.out == ""
    assert same(tmp_path / "unbroken", tmp_path / "cut")


def test_checkpoints_of_other_options_are_not_taken_up(
    tiny_model_dir: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ppo(tiny_model_dir, lr=2e-3)(rows, tmp_path / "fresh")
    with monkeypatch.context() as patch:
        interrupted(patch, at_call=4)
        with pytest.raises(KeyboardInterrupt):
            ppo(tiny_model_dir)(rows, tmp_path / "cut")
    with pytest.raises(UsageError, match=r"differs in lr .*--overwrite"):
        ppo(tiny_model_dir, lr=2e-3)(rows, tmp_path / "cut")
    with overwriting(True):
        ppo(tiny_model_dir, lr=2e-3)(rows, tmp_path / "cut")
    assert same(tmp_path / "fresh", tmp_path / "cut")


def test_a_planted_spike_stops_the_run_and_keeps_the_policy_before_it(
    tiny_model_dir: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ppo(tiny_model_dir, lr=50.0, kl_stop=3.0)(rows, tmp_path / "out")
    told = facts(tmp_path / "out")
    assert told["stopped"] == "kl"
    assert "above kl_stop=3" in told["stopped_because"]
    assert told["stopped_because"] in capsys.readouterr().err
    base, kept = weights(tiny_model_dir), weights(tmp_path / "out")
    assert all(torch.equal(base[name], kept[name]) for name in base)


def test_a_slow_drift_stops_at_the_rollout_that_crosses_the_limit(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    trainer = ppo(tiny_model_dir, lr=2e-2, rollouts=20, kl_coef=0.0, kl_stop=3.0)
    trainer(rows, tmp_path / "out")
    lines, told = metrics(tmp_path / "out"), facts(tmp_path / "out")
    assert told["stopped"] == "kl"
    assert "from the reference, above kl_stop=3" in told["stopped_because"]
    assert 2 < len(lines) < 20
    assert all(line["objective/kl"] <= 3 for line in lines[:-1])
    assert lines[-1]["objective/kl"] > 3
    assert told["metrics"]["objective/kl"] == lines[-2]["objective/kl"]  # that of what is kept
    assert not same(tmp_path / "out", tiny_model_dir)


def test_a_loss_that_is_no_number_stops_with_the_rows_and_keeps_checkpoints(
    tiny_model_dir: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, calls = ppo_losses.value_loss, iter(range(1000))

    def planted(*args: Any) -> Tensor:
        loss = own(*args)
        return loss * float("nan") if next(calls) == 10 else loss

    monkeypatch.setattr(ppo_losses, "value_loss", planted)
    with pytest.raises(SiftuneError, match=r"the loss is nan at step 6, on rows asked:\d"):
        ppo(tiny_model_dir)(rows, tmp_path / "out")
    assert checkpoints.newest(tmp_path / "out.work") == tmp_path / "out.work/checkpoint-4"
    assert not (tmp_path / "out").exists()


def test_a_reward_that_is_no_number_stops_with_the_row(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    trainer = ppo(tiny_model_dir, reward_options={"text": "e", "scale": 1e308})
    with pytest.raises(SiftuneError, match=r"the reward of row asked:\d is (inf|nan)"):
        trainer(rows, tmp_path / "out")


def test_a_finished_run_is_not_done_again(
    tiny_model_dir: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = ppo(tiny_model_dir, rollouts=1)
    first = trainer(rows, tmp_path / "out")
    capsys.readouterr()
    assert trainer(rows, tmp_path / "out") == first
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UsageError, match="is there already, made with other options"):
        ppo(tiny_model_dir, rollouts=2)(rows, tmp_path / "out")


# ---- one rollout, held against a slow reading of the definitions


def collector(folder: Path, rows: Path, reward: Any = None, **options: Any) -> Collector:
    settings = PPO(
        model=str(folder),
        reward="text_share",
        rollouts=1,
        batch_size=10,
        minibatches=2,
        micro_batch=3,
        max_new_tokens=10,
        kl_coef=0.3,
        gamma=0.9,
        missing_eos_penalty=0.5,
        **options,
    )
    tokenizer: Any = loading.load_tokenizer(folder)
    policy: Any = loading.load_causal(folder)
    reference: Any = loading.load_causal(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in reference.parameters():  # so that the KL is not 0
            weight.add_(torch.randn_like(weight) * 0.03)
    model = ActorCritic(policy, loading.load_causal(folder).base_model)
    torch.nn.init.normal_(model.value_head.weight)
    ends = end_ids(policy, tokenizer)
    _, _, prompts = prompts_of(pl.read_parquet(rows), tokenizer, None, "refuse", rows)
    return Collector(
        model=model,
        reference=reference,
        tokenizer=tokenizer,
        prompts=prompts,
        reward=reward or TextShare("e"),
        sampling=Sampling(
            settings.temperature, settings.max_new_tokens, ends, tokenizer.pad_token_id
        ),
        settings=settings,
    )


def slow_logps(model: Any, prompt: list[int], written: list[int], temperature: float) -> Tensor:
    """One completion, no padding, the whole of its logits."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1]
    chosen = torch.log_softmax(logits.double() / temperature, -1)
    return chosen[range(len(written)), written]


def slow_advantages(rewards: list[float], values: list[float], gamma: float, lam: float) -> Tensor:
    out, after, later = [], 0.0, 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        later = reward + gamma * after - value + gamma * lam * later
        after = value
        out.append(later)
    return torch.tensor(out[::-1], dtype=torch.float64)


def assert_sound(made: Rollout, by: Collector) -> None:
    """Every number of a rollout, row by row, from the definitions."""
    options, ends = by.settings, by.sampling.ends
    prompts = {prompt.row["id"]: prompt for prompt in by.prompts}
    raw: list[Tensor] = []
    for at, key in enumerate(made.ids):
        mask = made.tokens.mask[at]
        length = int(mask.sum())
        written = made.tokens.completions[at][mask].tolist()
        prompt = list(prompts[key].ids)
        assert mask.tolist() == [True] * length + [False] * (len(mask) - length)
        assert not any(token in ends for token in written[:-1])
        assert length == options.max_new_tokens or written[-1] in ends
        text = by.tokenizer.decode(written, skip_special_tokens=True)
        assert made.completions[at] == text
        logps = slow_logps(by.model.policy, prompt, written, options.temperature)
        ref = slow_logps(by.reference, prompt, written, options.temperature)
        assert torch.allclose(made.old.logps[at, :length].double(), logps, atol=1e-4)
        assert torch.allclose(made.ref_logps[at, :length].double(), ref, atol=1e-4)
        with torch.no_grad():
            critic: Any = by.model.critic
            states = critic(torch.tensor([prompt + written])).last_hidden_state[0]
            values = by.model.value_head(states).squeeze(-1)[len(prompt) - 1 : -1].double()
        assert torch.allclose(made.old.values[at, :length].double(), values, atol=1e-4)
        score = TextShare("e")._share(text) - (0.5 if written[-1] not in ends else 0)
        rewards = (-made.kl_coef * (logps - ref)).tolist()
        rewards[-1] += score
        raw.append(slow_advantages(rewards, values.tolist(), options.gamma, options.lam))
        assert torch.allclose(
            made.returns[at, :length].double(), raw[-1] + values, rtol=1e-3, atol=1e-3
        )
    every = torch.cat(raw)
    white = (every - every.mean()) / every.std()
    assert torch.allclose(made.advantages[made.tokens.mask].double(), white, rtol=1e-2, atol=1e-2)
    assert bool((made.advantages[~made.tokens.mask] == 0).all())


def test_every_number_of_a_rollout_is_as_defined(gpt2_dir: Path, rows: Path) -> None:
    by = collector(gpt2_dir, rows)
    made = by(0, kl_coef=0.3)
    assert 0 < int(made.ended.sum()) < len(made.ids)  # some end, some are cut
    assert len({len(prompt.ids) for prompt in by.prompts}) > 1  # so there is padding on the left
    assert_sound(made, by)


def dropped_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    kept = [token for token in tokens if token not in ends]
    return kept or tokens[:1]


def at_the_end_of_the_batch(mask: Tensor) -> Tensor:
    return torch.full((len(mask),), mask.shape[1] - 1)


def always_at_temperature_one(model: Any, tokens: Tokens, _: float) -> Any:
    return policy_scores(model, tokens, 1.0)


def counted_with_padding(self: Tokens) -> Tensor:
    return torch.arange(self.input_ids.shape[1]).expand_as(self.input_ids)


def one_to_the_right(states: Tensor, tokens: Tokens) -> Tensor:
    return states[:, -tokens.mask.shape[1] :]


def biased(values: Tensor, mask: Tensor, shift: bool = True) -> Tensor:
    return (values - values.mean()) / values.std() * mask


MUTATIONS: dict[str, tuple[Any, str, Any]] = {
    "end token dropped": (sampling, "_until_end", dropped_end),
    "all that was generated kept": (sampling, "_until_end", lambda tokens, ends: tokens),
    "score at max length": (ppo_losses, "last_true", at_the_end_of_the_batch),
    "no temperature in the reference": (collecting, "policy_scores", always_at_temperature_one),
    "positions count padding": (Tokens, "positions", property(counted_with_padding)),
    "logits off by one": (policy_scores.__module__, "_before", one_to_the_right),
    "whitened with the padding": (collecting, "whiten", biased),
    "dropout on": (ActorCritic, "train", torch.nn.Module.train),
}


@pytest.mark.parametrize("bug", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_the_known_bugs_of_ppo_are_caught(
    bug: tuple[Any, str, Any], gpt2_dir: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, wrong = bug
    by = collector(gpt2_dir, rows)
    if isinstance(where, str):
        monkeypatch.setattr(f"{where}.{name}", wrong)
    else:
        monkeypatch.setattr(where, name, wrong)
    by.model.train()  # as the loop does before each step
    with pytest.raises(AssertionError):
        assert_sound(by(0, kl_coef=0.3), by)


def test_what_has_no_score_is_left_out_and_changes_nothing_for_the_others(
    gpt2_dir: Path, rows: Path
) -> None:
    def some(prompts: Any, completions: Any, asked: Any) -> list[float | None]:
        scores = TextShare("e")(prompts, completions, asked)
        pairs = zip(scores, asked, strict=True)
        return [None if row["id"] == "asked:2" else score for score, row in pairs]

    by = collector(gpt2_dir, rows, some)
    made = by(0, kl_coef=0.3)
    assert made.drawn["rollout/unscored"] == 2
    assert made.metrics()["rollout/unscored"] == 2
    assert len(made.ids) == 8
    assert "asked:2" not in made.ids
    assert_sound(made, by)  # the whitening too is that of the eight


def test_a_reward_that_scores_hardly_anything_stops_the_run(gpt2_dir: Path, rows: Path) -> None:
    by = collector(gpt2_dir, rows, lambda prompts, *_: [None] * (len(prompts) - 1) + [1.0])
    with pytest.raises(SiftuneError, match="scored 1 of 10 completions of rollout 0"):
        by(0, kl_coef=0.3)


# ---- what must not matter


def test_padding_changes_nothing(gpt2_dir: Path) -> None:
    policy: Any = loading.load_causal(gpt2_dir)
    model = ActorCritic(policy, loading.load_causal(gpt2_dir).base_model)
    torch.nn.init.normal_(model.value_head.weight)
    prompts, written = [[9, 8, 7, 6, 5], [9, 8]], [[11, 12], [13, 14, 15, 16]]
    with torch.no_grad():
        together = model(Tokens.of(prompts, written, pad=3), 0.7, entropy=True)
        for at in (0, 1):
            alone = model(Tokens.of([prompts[at]], [written[at]], pad=0), 0.7, entropy=True)
            wide = Tokens.of([prompts[at], [9] * 30], [written[at], [9] * 30], pad=5)
            padded = model(wide, 0.7, entropy=True)
            length = len(written[at])
            for part in ("logps", "entropy", "values"):
                exact = getattr(alone, part)[0]
                for other in (getattr(together, part)[at], getattr(padded, part)[0]):
                    assert torch.allclose(other[:length], exact, atol=2e-5), part


def test_taking_rows_drops_the_columns_that_are_padding_in_all_of_them() -> None:
    tokens = Tokens.of([[5, 6, 7], [8], [9, 4]], [[1], [2, 3, 1], [1, 2]], pad=0)
    part = tokens.take(torch.tensor([2, 0]))
    assert part.input_ids.tolist() == [[0, 9, 4, 1, 2], [5, 6, 7, 1, 0]]
    assert part.mask.tolist() == [[True, True], [True, False]]
    assert part.positions.tolist() == [[0, 0, 1, 2, 3], [0, 1, 2, 3, 3]]
    assert tokens.take(torch.tensor([1])).input_ids.tolist() == [[8, 2, 3, 1]]


def test_a_prompt_that_holds_the_pad_token_is_not_cut() -> None:
    tokens = Tokens.of([[0, 0, 7]], [[0, 1]], pad=0)
    assert tokens.take(torch.tensor([0])).input_ids.tolist() == [[0, 0, 7, 0, 1]]
    assert bool(tokens.attention_mask.all())


def test_a_completion_does_not_depend_on_the_batch_it_is_drawn_in(tiny_model_dir: Path) -> None:
    policy: Any = loading.load_causal(tiny_model_dir)
    how = Sampling(0.9, 12, frozenset({2}), 3)
    prompts, seeds = [[9, 8, 7, 6, 5], [9, 8], [20, 21, 22]], [[1, 5], [1, 6], [1, 7]]
    together = sampling.sample(policy, prompts, how, seeds)
    alone = [sampling.sample(policy, [p], how, [s])[0] for p, s in zip(prompts, seeds, strict=True)]
    assert together == alone
    assert len({tuple(each) for each in together}) == 3


def test_sampling_is_from_the_softmax_at_the_temperature_and_nothing_else(
    tiny_model_dir: Path,
) -> None:
    policy: Any = loading.load_causal(tiny_model_dir)
    with torch.no_grad():
        policy.lm_head.weight.mul_(6)  # a distribution with a few likely tokens
    hostile = policy.generation_config
    hostile.update(top_k=1, repetition_penalty=5.0, min_new_tokens=9, suppress_tokens=[7])
    how, prompt, draws = Sampling(0.7, 1, frozenset({2}), 3), [9, 8, 7], 3000
    drawn = sampling.sample(policy, [prompt] * draws, how, [[at] for at in range(draws)])
    with torch.no_grad():
        p = torch.softmax(policy(torch.tensor([prompt])).logits[0, -1].double() / 0.7, -1)
    counts = torch.bincount(torch.tensor([ids[0] for ids in drawn]), minlength=len(p))
    spread = (p * (1 - p) / draws).sqrt()
    assert bool(((counts / draws - p).abs() <= 5 * spread + 2 / draws).all())
    assert float(p.max()) < 0.9
    assert policy.generation_config is hostile


def test_every_prompt_comes_once_before_any_comes_twice() -> None:
    places = [at for start in range(0, 21, 3) for at in stream(7, start, 3, seed=5)]
    assert [sorted(places[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert places[:7] != places[7:14]


# ---- log-probs without the full logits


def full_logits(model: ActorCritic, tokens: Tokens, temperature: float) -> tuple[Tensor, ...]:
    """Log-probs, entropies and values from all logits of the model's own forward pass."""
    inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    inputs |= {"position_ids": tokens.positions}
    out = model.policy(**inputs, output_hidden_states=True)
    width = tokens.mask.shape[1]
    log_softmax = torch.log_softmax(out.logits[:, -width - 1 : -1] / temperature, -1)
    logps = log_softmax.gather(-1, tokens.completions.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_softmax.exp() * log_softmax).sum(-1)
    states = out.hidden_states[-1]
    if model.critic is not None:
        states = model.critic(**inputs).last_hidden_state
    return logps, model.value_head(states[:, -width - 1 : -1]).squeeze(-1), entropy


@pytest.mark.parametrize("kind", ["all weights", "adapter", "shared critic"])
def test_scores_and_gradients_are_those_of_the_full_logits(
    kind: str, gpt2_dir: Path, tiny_model_dir: Path
) -> None:
    folder = gpt2_dir if kind == "all weights" else tiny_model_dir
    policy: Any = loading.load_causal(folder)
    if kind == "adapter":
        policy = with_adapter(policy, 2, 16, seed=1)
    critic = None if kind == "shared critic" else loading.load_causal(folder).base_model
    model = ActorCritic(policy, critic).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "value_head" in name:
                weight.normal_()
    draw = torch.Generator().manual_seed(1)
    written = [torch.randint(4, 90, (length,), generator=draw).tolist() for length in (3, 90, 70)]
    tokens = Tokens.of([[9, 8, 7, 6, 5], [9, 8], [4]], written, pad=3)
    gaps = tokens.mask & (torch.rand(tokens.mask.shape, generator=draw) < 0.9)  # tool's tokens
    tokens = Tokens(tokens.input_ids, tokens.attention_mask, gaps)
    assert int(gaps.sum()) > TILE  # so there is more than one tile
    weights = torch.randn(gaps.shape, generator=draw, dtype=torch.float64)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    results = []
    for logps, values, entropy in (
        full_logits(model, tokens, 0.7),
        (lambda made: (made.logps, made.values, made.entropy))(model(tokens, 0.7, entropy=True)),
    ):
        assert entropy is not None
        loss = ((logps + values.tanh()) * weights)[gaps].sum()
        grads = torch.autograd.grad(loss, trained)
        results.append(([logps[gaps], values[gaps], entropy[gaps]], grads))
    (slow, slow_grads), (fast, fast_grads) = results
    for one, other in zip(slow, fast, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    for one, other in zip(slow_grads, fast_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


# ---- KL of whole sequences, by enumeration


def all_sequences(end: int, vocabulary: int, longest: int) -> list[list[int]]:
    """Every completion: those that come to the end token, and those that are cut."""
    done, open_ones = [], [[token] for token in range(vocabulary)]
    for length in range(1, longest + 1):
        done += [s for s in open_ones if s[-1] == end or length == longest]
        still = [s for s in open_ones if s[-1] != end]
        open_ones = [[*s, token] for s in still for token in range(vocabulary)]
    return done


def test_the_expected_sums_of_k1_and_k3_are_the_kl_of_sequences() -> None:
    def lm(seed: int) -> Any:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=4,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=0.5,
        )
        return LlamaForCausalLM(config).double().eval()

    sequences = all_sequences(end=0, vocabulary=4, longest=3)
    assert len(sequences) == 1 + 3 + 9 * 4
    tokens = Tokens.of([[1, 2]] * len(sequences), sequences, pad=0)
    with torch.no_grad():
        logps, ref = (policy_scores(lm(seed), tokens, 0.7)[0]["policy"] for seed in (0, 1))
    whole = (logps * tokens.mask).sum(1)
    p = whole.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    kl = float((p * (whole - (ref * tokens.mask).sum(1))).sum())
    assert kl > 0.1
    for estimate in (kl_k1, kl_k3):
        summed = (estimate(logps, ref) * tokens.mask).sum(1)
        assert float((p * summed).sum()) == pytest.approx(kl, abs=1e-12)


def test_every_end_token_the_model_or_its_tokenizer_names_ends_a_completion(
    tiny_model_dir: Path,
) -> None:
    policy: Any = loading.load_causal(tiny_model_dir)
    tokenizer: Any = loading.load_tokenizer(tiny_model_dir)
    policy.generation_config.eos_token_id = [17, 18]
    assert end_ids(policy, tokenizer) == {17, 18, tokenizer.eos_token_id}
    policy.config.eos_token_id = 19
    assert end_ids(policy, tokenizer) == {17, 18, 19, tokenizer.eos_token_id}
    tokenizer.eos_token = policy.config.eos_token_id = policy.generation_config.eos_token_id = None
    with pytest.raises(UsageError, match="has an end token"):
        end_ids(policy, tokenizer)


# ---- the supervised term


def test_with_a_tiny_weight_the_supervised_term_changes_no_bit(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    ppo(tiny_model_dir, rollouts=1)(rows, tmp_path / "plain")
    ppo(tiny_model_dir, rollouts=1, ptx_rows=str(rows), ptx_coef=1e-30)(rows, tmp_path / "zero")
    ppo(tiny_model_dir, rollouts=1, ptx_rows=str(rows), ptx_coef=0.1)(rows, tmp_path / "some")
    assert same(tmp_path / "plain", tmp_path / "zero")
    assert not same(tmp_path / "plain", tmp_path / "some")


def test_without_reward_and_kl_the_gradient_is_that_of_supervised_learning(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    trainer = ppo(
        tiny_model_dir,
        reward_options={"text": "e", "scale": 0.0},
        kl_coef=0.0,
        ptx_rows=str(rows),
        ptx_coef=3.0,
    )
    tokenizer: Any = loading.load_tokenizer(tiny_model_dir)
    loop, _, _ = trainer._loop(
        pl.read_parquet(rows),
        tokenizer,
        reward_of(trainer.reward, trainer.reward_options or {}),
        rows,
        tmp_path / "work",
    )
    loop.create_optimizer()
    loop.begin()
    loop.training_step(loop.ac, {"step": torch.tensor([0])})
    assert loop.supervised is not None
    _, batch = loop.supervised.batch(0, size=4, seed=0)
    model: Any = loading.load_causal(tiny_model_dir)
    labels = batch.input_ids.clone()
    labels[:, : -batch.mask.shape[1]] = -100
    labels[:, -batch.mask.shape[1] :][~batch.mask] = -100
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    (3.0 * model(**inputs, position_ids=batch.positions, labels=labels).loss).backward()
    ours = dict(loop.ac.policy.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.allclose(ours[name].grad, weight.grad, rtol=1e-4, atol=1e-6), name
    assert batch.completions[batch.mask].tolist().count(tokenizer.eos_token_id) == 4


# ---- adapters, critics, refusals


def test_an_adapters_reference_is_the_model_without_it_and_the_folder_is_merged(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    ppo(tiny_model_dir, lora=2, lr=3e-2, rollouts=4, temperature=0.7)(rows, tmp_path / "out")
    lines = metrics(tmp_path / "out")
    assert lines[0]["objective/kl"] == 0
    assert lines[-1]["objective/kl_k3"] > 0
    assert weights(tmp_path / "out").keys() == weights(tiny_model_dir).keys()
    assert not same(tmp_path / "out", tiny_model_dir)


def test_held_out_prompts_are_answered_before_at_each_checkpoint_and_after(
    tiny_model_dir: Path, tiny_reward_dir: Path, rows: Path, tmp_path: Path
) -> None:
    ppo(
        tiny_model_dir,
        reward=str(tiny_reward_dir),
        reward_options={},
        lora=2,
        lr=3e-2,
        rollouts=2,
        eval_rows=str(rows),
        eval_limit=3,
    )(rows, tmp_path / "out")
    steps = sorted(path.name for path in (tmp_path / "out/evaluation").iterdir())
    assert steps == ["step-000000.jsonl", "step-000002.jsonl", "step-000004.jsonl"]
    read = [
        [json.loads(line) for line in (tmp_path / "out/evaluation" / name).read_text().splitlines()]
        for name in steps
    ]
    assert all(row["kl_k1"] == pytest.approx(0, abs=1e-5) for row in read[0])
    assert any(abs(row["kl_k1"]) > 1e-3 for row in read[-1])
    assert all(math.isfinite(row["reward"]) for rows in read for row in rows)
    assert facts(tmp_path / "out")["metrics"]["eval_rows"] == 3


def test_a_critic_can_start_from_a_reward_model(
    tiny_model_dir: Path, tiny_reward_dir: Path, rows: Path, tmp_path: Path
) -> None:
    trainer = ppo(tiny_model_dir, critic_model=str(tiny_reward_dir))
    tokenizer: Any = loading.load_tokenizer(tiny_model_dir)
    loop, _, _ = trainer._loop(
        pl.read_parquet(rows),
        tokenizer,
        reward_of(trainer.reward, trainer.reward_options or {}),
        rows,
        tmp_path / "work",
    )
    head = weights(tiny_reward_dir)["score.weight"]
    assert torch.equal(loop.ac.value_head.weight.detach(), head)
    ids = torch.tensor([[9, 8, 7]])
    rated: Any = loading.load_reward(tiny_reward_dir)
    with torch.no_grad():
        tokens = Tokens.of([[9, 8, 7]], [[5]], pad=0)
        assert float(loop.ac(tokens, 1.0).values) == pytest.approx(
            float(rated(ids).logits), rel=1e-4
        )


def test_the_critic_learns_at_its_own_rate(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    trainer = ppo(tiny_model_dir, lr=1e-4, critic_lr=7e-4)
    tokenizer: Any = loading.load_tokenizer(tiny_model_dir)
    loop, _, _ = trainer._loop(
        pl.read_parquet(rows),
        tokenizer,
        reward_of(trainer.reward, trainer.reward_options or {}),
        rows,
        tmp_path / "work",
    )
    actor, critic = loop.create_optimizer().param_groups
    assert (actor["lr"], critic["lr"]) == (1e-4, 7e-4)
    assert len(actor["params"]) == len(list(loop.ac.policy.parameters()))
    assert {id(p) for p in critic["params"]} == {id(p) for p in loop.ac.critic_parameters()}


def test_the_reward_model_of_another_family_trains_the_policy(
    tiny_model_dir: Path, tiny_reward_dir: Path, rows: Path, tmp_path: Path
) -> None:
    result = ppo(tiny_model_dir, reward=str(tiny_reward_dir), reward_options=None, rollouts=1)(
        rows, tmp_path / "out"
    )
    assert math.isfinite(result.metrics["objective/score"])
    assert facts(tmp_path / "out")["options"]["reward"] == loading.shown(tiny_reward_dir)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"reward": "text_shar"}, "did you mean text_share"),
    ({"reward_options": {"txt": "e"}}, "has no option 'txt'"),
    ({"batch_size": 1}, "minibatches: expected at most batch_size=1, got 2"),
    ({"temperature": 0}, "temperature: expected above 0"),
    ({"dual_clip": 1.0}, "dual_clip: expected above 1, got 1"),
    ({"ptx_coef": 1.0}, "ptx_coef: needs ptx_rows"),
    ({"ptx_rows": "x"}, "ptx_rows: need ptx_coef above 0"),
    ({"watch": "off", "watch_gold": "length"}, "watch_gold: there is no watch with watch off"),
    ({"watch": "off", "watch_rows": "x"}, "watch_rows: there is no watch with watch off"),
    ({"watch_prompts": 0, "watch_gold": "length"}, "watch_gold: with watch_prompts 0"),
    ({"policy_loss": "reinforce"}, "policy_loss: reinforce has no ratio"),
    ({"lora": 4, "critic_model": "x"}, "critic_model: a critic that is shared has no trunk"),
    ({"seed": -1}, "seed: expected at least 0"),
    ({"lam": 1.5}, "lam: expected at least 0, at most 1"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_options_that_make_no_run_are_refused(
    options: dict[str, Any], said: str, tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        ppo(tiny_model_dir, **options)(rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_leaves_no_room_is_named_or_left_out(
    gpt2_dir: Path, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"prompt_too_long \(asked:2"):
        ppo(gpt2_dir, max_new_tokens=100)(rows, tmp_path / "out")
    result = ppo(gpt2_dir, max_new_tokens=100, on_bad="drop", rollouts=1, epochs=1)(
        rows, tmp_path / "out"
    )
    assert result.rows < len(ASKED)


def test_a_critic_of_another_vocabulary_is_refused(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    tokenizer: Any = loading.load_tokenizer(tiny_model_dir)
    tokenizer.add_tokens(["another"])
    save_model(loading.load_causal(tiny_model_dir), tokenizer, tmp_path / "other", {})
    with pytest.raises(UsageError, match="has another vocabulary than the policy"):
        ppo(tiny_model_dir, critic_model=str(tmp_path / "other"))(rows, tmp_path / "out")


def test_adaptive_kl_moves_the_coefficient_and_a_fixed_one_stays(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    ppo(tiny_model_dir, kl_target=1.0, kl_horizon=60, lr=1e-4)(rows, tmp_path / "adaptive")
    moved = [line["objective/kl_coef"] for line in metrics(tmp_path / "adaptive")]
    assert moved[:2] == pytest.approx([0.05, 0.05 * (1 - 0.2 * 8 / 60)])
    assert moved[2] < moved[1]
