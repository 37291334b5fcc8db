"""Bugs of what RL draws: pass rates, curriculum, rollouts from elsewhere, adapters on one base."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["DRAWS"]

_ORDER = "finetune/rl/curriculum.py"
_WEIGHTS = "finetune/rl/importance.py"
_SERVER = "finetune/rl/rollouts/server.py"
_ADAPTERS = "finetune/models/adapters.py"
_MODEL = "finetune/rl/model.py"
_DECODING = "curate/text/decoding.py"
_SAMPLING = "curate/text/sampling.py"

ORDER = "tests/finetune/test_curriculum.py"
ROLLOUTS = "tests/finetune/test_rollouts.py"
BASE = "tests/finetune/test_backbone.py"
RATES = "tests/curate/test_pass_rate.py tests/curate/test_lim.py"
DECODING = "tests/curate/test_decoding.py"

_OF_ORDERS = (
    Mutation(
        "easy and hard exchanged",
        _ORDER,
        'sign = -1 if self.order == "easy_first" else 1',
        'sign = 1 if self.order == "easy_first" else -1',
        ORDER,
    ),
    Mutation(
        "hopeless prompts drawn again",
        _ORDER,
        "below is not None and 0 < rate < below",
        "below is not None and rate < below",
        ORDER,
    ),
    Mutation(
        "the bound of replay drawn again",
        _ORDER,
        "below is not None and 0 < rate < below",
        "below is not None and 0 < rate <= below",
        ORDER,
    ),
    Mutation(
        "the bounds of a band left out",
        _ORDER,
        "if low <= rate <= high",
        "if low < rate < high",
        ORDER,
    ),
    Mutation(
        "every pass in one order",
        _ORDER,
        "seed = (self.seed, _ORDER, number)",
        "seed = (self.seed, _ORDER, 0)",
        ORDER,
    ),
    Mutation(
        "the last pass drawn from the easiest of all",
        _ORDER,
        "drawn = drawn if 0 < drawn < count else count",
        "drawn = count",
        ORDER,
    ),
    Mutation(
        "an order of one pass begun anew by each rollout",
        _ORDER,
        "positions = range(start, start + take)",
        "positions = range(take)",
        ORDER,
    ),
)
_OF_ROLLOUTS = (
    Mutation(
        "importance weights upside down",
        _WEIGHTS,
        "torch.exp((old_logps - sampler_logps)",
        "torch.exp((sampler_logps - old_logps)",
        ROLLOUTS,
    ),
    Mutation(
        "importance weights raised to the cap",
        _WEIGHTS,
        ".clamp(max=cap)\n\n",
        ".clamp(min=cap)\n\n",
        ROLLOUTS,
    ),
    Mutation(
        "the share below the cap told as cut", _WEIGHTS, "(ratio > cap)", "(ratio < cap)", ROLLOUTS
    ),
    Mutation(
        "importance weights computed and not used",
        "finetune/rl/update.py",
        "weighed = 1.0 if rollout.weights is None else rollout.weights[rows, :width].to(device)",
        "weighed = 1.0",
        ROLLOUTS,
    ),
    Mutation(
        "tokens after the end kept",
        _SERVER,
        "most = min(next(ends, len(ids)) + 1",
        "most = min(len(ids)",
        ROLLOUTS,
    ),
    Mutation(
        "an answer without its end token accepted",
        _SERVER,
        "if ids[-1] not in self.sampling.ends and",
        "if not ids and",
        ROLLOUTS,
    ),
    Mutation(
        "a text encoded again without a look at its tokens",
        _SERVER,
        "if [self.tokenizer.decode([one]) for one in ids] != texts:",
        "if not ids:",
        ROLLOUTS,
    ),
    Mutation(
        "log-probabilities before the temperature accepted",
        _SERVER,
        'self.options.logprobs == "raw" and self.sampling.temperature != 1',
        'self.options.logprobs == "raw" and self.sampling.temperature < 0',
        ROLLOUTS,
    ),
    Mutation(
        "completions in the order of their batches",
        "finetune/rl/rollouts/in_process.py",
        "[found[at] for at in range(len(draws))]",
        "list(found.values())",
        ROLLOUTS,
    ),
    Mutation(
        "one answer of a file for a whole group",
        "finetune/rl/rollouts/samples.py",
        "known[draw.number % len(known)]",
        "known[0]",
        ROLLOUTS,
    ),
)
_OF_DECODING = (
    Mutation(
        "sampled after the keys of another prompt",
        _DECODING,
        "batch.repeat([number[tuple(prompt)] for prompt in prompts], limit)",
        "batch.repeat([0 for prompt in prompts], limit)",
        DECODING,
    ),
    Mutation(
        "sampled at positions that count padding",
        _DECODING,
        "self.lengths = there.sum(1)",
        "self.lengths = there.sum(1).amax().expand(len(there))",
        DECODING,
    ),
    Mutation(
        "sampled with the keys of a row that has ended",
        _DECODING,
        "            layer.keep(rows)",
        "            layer.keep(torch.arange(len(rows)))",
        DECODING,
    ),
    Mutation(
        "sampled by the random numbers of another row",
        _SAMPLING,
        "uniform[rows, step]",
        "uniform[: len(rows), step]",
        DECODING,
    ),
    Mutation(
        "sampled without the temperature",
        _SAMPLING,
        "mass /= temperature",
        "mass /= 1",
        DECODING,
    ),
)
_OF_ADAPTERS = (
    Mutation(
        "the reference under the policy's adapter",
        _ADAPTERS,
        "layer._disable_adapters = name is None",
        "layer._disable_adapters = False",
        BASE,
    ),
    Mutation(
        "the critic under the policy's adapter",
        _MODEL,
        "with only(self.policy, self.adapter):",
        'with only(self.policy, "default"):',
        BASE,
    ),
    Mutation(
        "the critic's adapter no longer trained once the reference has run",
        _MODEL,
        "with only(policy, None):",
        "with policy.disable_adapter():",
        BASE,
    ),
    Mutation(
        "a reward read off the padding",
        "finetune/rl/backbone.py",
        "(places * (input_ids != self.config.pad_token_id)).argmax(1)",
        "(places * (input_ids >= 0)).argmax(1)",
        BASE,
    ),
    Mutation(
        "the critic's adapter at the policy's rate",
        _MODEL,
        "[*adapter_parameters(self.policy, self.adapter), *own]",
        "own",
        BASE,
    ),
)
_OF_RATES = (
    Mutation(
        "samples pooled without their numbers",
        "curate/scorers/pass_rate.py",
        '(pl.col("pass_rate") * pl.col("pass_rate_samples")).sum()',
        '(pl.col("pass_rate").mean() * pl.col("pass_rate_samples").sum())',
        RATES,
    ),
    Mutation(
        "a prompt that was not sampled never passes",
        "curate/scorers/lim.py",
        'filled = pl.coalesce(f"{number}", f"{number - 1}")',
        'filled = pl.col(f"{number}").fill_null(0)',
        RATES,
    ),
    Mutation(
        "the learning impact not taken from 1",
        "curate/scorers/lim.py",
        "score = 1 - far / largest",
        "score = far / largest",
        RATES,
    ),
    Mutation(
        "a filter of hard prompts alone",
        "curate/selectors/balanced_difficulty.py",
        "1 - self.margin + _ROUNDING",
        "1 + _ROUNDING",
        "tests/curate/test_balanced_difficulty.py",
    ),
)

DRAWS = (*_OF_ORDERS, *_OF_ROLLOUTS, *_OF_DECODING, *_OF_ADAPTERS, *_OF_RATES)
