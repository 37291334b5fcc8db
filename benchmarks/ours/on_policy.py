"""Rollouts and updates of GRPO and RLOO on made-up prompts: by our loop, and by TRL's trainers."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.ours.dpo import END, PAD, cost_of, llama, on_gpu, plain_head
from benchmarks.worker import Facts, Options, cpu_seconds, serve, timed

_BETA: Final = 0.04
_UNCLIPPED: Final = 1e9  # the norm of gradients as it is
_PROJECTIONS: Final = 3


def work(options: Options) -> Facts:
    """Train for a few rollouts and count what they and their updates cost.

    Options: way (siftune, siftune-unshared, trl, trl-plain, trl-checkpointed, or check: the facts
    of siftune and trl by name, for the first step on the same answers), method (grpo, rloo),
    prompt, answer, prompts of a rollout, answers to each, rollouts. ``given``: both sides are given
    the same answers, of ragged lengths, and the facts have advantages, loss and gradient of the
    first step. The model has ``layers``, ``width``, ``vocabulary``, and ``heads`` and ``groups`` of
    keys if they are given; ``device`` is cpu, with ``threads`` (1), or cuda.
    """
    if options["way"] == "check":
        return _checked(options)
    torch.set_num_threads(options.get("threads", 1))
    with tempfile.TemporaryDirectory() as folder:
        make = _ours if "siftune" in options["way"] else _trl
        notes = _Notes(options)
        return _measured(make(options, folder, notes), notes)


def _checked(options: Options) -> Facts:
    facts = Facts()
    with timed(facts):
        for way in ("siftune", "trl"):
            facts[way] = work({**options, "way": way, "given": True})
    return facts


class _Notes:
    """Seconds of rollouts, and the first step's advantages, loss and gradient."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.tokens: list[int] = []
        self.advantages: list[float] = []
        self.losses: list[float] = []
        self.gradient: list[float] = []
        self.stepped = False

    def rollout(self, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, timed."""
        if on_gpu(self.options):
            torch.cuda.synchronize()  # the update before it
        cpu, wall = cpu_seconds(), time.perf_counter()
        made = make()
        if on_gpu(self.options):
            torch.cuda.synchronize()
        self.cpu.append(cpu_seconds() - cpu)
        self.wall.append(time.perf_counter() - wall)
        return made

    def loss(self, one: torch.Tensor) -> None:
        """Note a part of the first step's loss."""
        if not self.stepped and self.options.get("given"):
            self.losses.append(float(one))

    def step(self, model: Any) -> None:
        """Note the gradient of the first step: its norm, and products with random directions."""
        if self.stepped or not self.options.get("given"):
            return
        self.stepped = True
        found = torch.zeros(1 + _PROJECTIONS, dtype=torch.float64)
        draw = torch.Generator().manual_seed(5)
        for _, weight in sorted(model.named_parameters()):
            gradient = weight.grad.double().flatten().cpu()
            found[0] += gradient.square().sum()
            for at in range(1, 1 + _PROJECTIONS):
                found[at] += torch.randn(len(gradient), generator=draw).double() @ gradient
        found[0] = found[0].sqrt()
        self.gradient = found.tolist()


def _measured(trainer: Any, notes: _Notes) -> Facts:
    options = notes.options
    facts = cost_of(trainer, options)
    for kind in ("cpu", "wall"):  # of one rollout; ours makes one more after the last update
        used: list[float] = getattr(notes, kind)
        rollout, update = sum(used) / len(used), (facts[kind] - sum(used)) / options["rollouts"]
        facts |= {f"rollout_{kind}": rollout, f"update_{kind}": update, kind: rollout + update}
    facts["tokens"] = sum(notes.tokens) / len(notes.tokens)  # of the answers of a rollout
    facts["advantages"], facts["gradient"] = notes.advantages, notes.gradient
    facts["losses"] = [sum(notes.losses)]
    return facts


def _tokenizer(vocabulary: int) -> Any:
    """Words of numbers: token 17 is `w17`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    special = {"<pad>": PAD, "<s>": 1, "</s>": END}
    words = special | {f"w{at}": at for at in range(3, vocabulary)}
    made = Tokenizer(WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, padding_side="left", **names)


def _share_even(completions: Sequence[str]) -> list[float | None]:
    """The reward: the share of words with an even number."""
    texts = [text.split() for text in completions]
    return [sum(word[-1] in "02468" for word in words) / max(len(words), 1) for words in texts]


def _prompts(options: Options) -> list[str]:
    draw = random.Random(1)
    size, count = options["prompt"], options["prompts"] * options["rollouts"]
    top = options["vocabulary"] - 1
    # lengths differ a little, as those of prompts of one kind do
    lengths = [draw.randint(size * 3 // 4, size) for _ in range(count)]
    return [" ".join(f"w{draw.randint(3, top)}" for _ in range(length)) for length in lengths]


def _given(options: Options) -> list[list[int]]:
    """Made-up answers of ragged lengths to the prompts of the first rollout, in order."""
    draw, top = random.Random(2), options["vocabulary"] - 1
    lengths = [draw.randint(1, options["answer"]) for _ in range(_count(options))]
    return [
        [draw.randint(3, top) for _ in range(length)] + [END] * (length < options["answer"])
        for length in lengths
    ]


def _count(options: Options) -> int:
    count: int = options["prompts"] * options["answers"]
    return count


def _ours(options: Options, folder: str, notes: _Notes) -> Any:
    from transformers import TrainerCallback

    from siftune.curate.core import registry
    from siftune.curate.text.sampling import Sampling
    from siftune.finetune.data.packing import share_prefixes
    from siftune.finetune.rl.collector import Collector
    from siftune.finetune.rl.curriculum import PromptOrder
    from siftune.finetune.rl.loop import Loop
    from siftune.finetune.rl.model import ActorCritic
    from siftune.finetune.rl.rollout import Prompt
    from siftune.finetune.rl.rollouts.types import Sampled

    policy, reference = llama(options), llama(options, seed=1).requires_grad_(False)
    if options["way"] == "siftune":
        for model in (policy, reference):
            if (why := share_prefixes(model)) is not None:
                raise RuntimeError(why)
    tokenizer, texts = _tokenizer(options["vocabulary"]), _prompts(options)
    settings: Any = registry.build(
        "finetune.trainers",
        options["method"],
        {
            "model": "none", "reward": "length", "rollouts": options["rollouts"],
            "batch_size": options["prompts"], "group_size": options["answers"],
            "micro_batch": options["answers"], "max_new_tokens": options["answer"],
            "kl_coef": _BETA, "kl_stop": None, "lr": 1e-4, "schedule": "constant",
            "max_grad_norm": _UNCLIPPED, "precision": "fp32",
        },
    )  # fmt: skip
    order = PromptOrder(tuple(range(len(texts))), settings.seed)
    rows: list[Any] = [None] * len(texts)
    for at, place in enumerate(order(0, len(texts))):  # so that they come in the order of TRL's
        ids = tuple(tokenizer(texts[at])["input_ids"])
        rows[place] = Prompt({"id": str(at), "prompt": texts[at]}, texts[at], ids)

    class Given:
        def __call__(self, policy: Any, draws: Any) -> Sampled:
            return Sampled(_given(options))

    class Timed(Loop):
        def _next(self) -> None:
            notes.rollout(super()._next)
            rollout = self._current
            notes.tokens.append(int(rollout.tokens.mask.sum()))
            if not notes.advantages and options.get("given"):
                notes.advantages = rollout.advantages[:, 0].tolist()

        def training_step(self, *given: Any, **more: Any) -> torch.Tensor:
            loss = super().training_step(*given, **more)
            notes.loss(loss)
            return loss

    class Step(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            notes.step(policy)

    reference = reference.to("cuda" if on_gpu(options) else "cpu")
    collector = Collector(
        model=ActorCritic(policy, values=False),
        reference=reference,
        tokenizer=tokenizer,
        prompts=rows,
        reward=lambda prompts, completions, rows: _share_even(completions),
        sampling=Sampling(settings.temperature, options["answer"], frozenset({END}), PAD),
        settings=settings,
        order=order,
        sampler=Given() if options.get("given") else None,
    )
    loop = Timed(collector, settings, Path(folder), save_every=1 << 30)
    loop._save_checkpoint = lambda *_: None  # type: ignore[method-assign]  # TRL writes none either
    loop.add_callback(Step())
    return loop


def _trl(options: Options, folder: str, notes: _Notes) -> Any:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    if options["way"] == "trl-plain":
        plain_head()
    grpo = options["method"] == "grpo"
    trainer, config = (GRPOTrainer, GRPOConfig) if grpo else (RLOOTrainer, RLOOConfig)

    class Timed(trainer):  # type: ignore[misc, valid-type]
        def _generate_single_turn(self, *given: Any, **more: Any) -> Any:
            if not options.get("given"):
                return super()._generate_single_turn(*given, **more)
            return (_given(options), None) if grpo else _given(options)

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            made = notes.rollout(lambda: super(Timed, self)._generate_and_score_completions(inputs))
            notes.tokens.append(int(made["completion_mask"].sum()))
            if not notes.advantages and options.get("given"):
                notes.advantages = made["advantages"].tolist()
            return made

        def training_step(self, *given: Any, **more: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*given, **more)
            notes.loss(loss)
            return loss

    class Step(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            notes.step(more["model"])

    reference = Path(folder) / "reference"
    llama(options, seed=1).save_pretrained(reference)
    policy = llama(options)
    policy.config._name_or_path = str(reference)  # where TRL loads its reference from
    # DeepSeekMath's loss, as ours; by default TRL's KL is weighted by the ratio, which changes its
    # gradient
    of_grpo = {"loss_type": "grpo", "scale_rewards": "group", "use_bias_correction_kl": False}
    own: dict[str, Any] = of_grpo if grpo else {}
    args = config(
        output_dir=folder,
        per_device_train_batch_size=options["answers"],
        gradient_accumulation_steps=options["prompts"],
        num_generations=options["answers"],
        max_completion_length=options["answer"],
        max_steps=options["rollouts"],
        beta=_BETA,
        epsilon=0.2,
        temperature=1.0,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        max_grad_norm=_UNCLIPPED,
        shuffle_dataset=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not on_gpu(options),
        disable_tqdm=True,
        bf16=False,
        gradient_checkpointing=options["way"] == "trl-checkpointed",
        **own,
    )
    return Timed(
        model=policy,
        reward_funcs=lambda completions, **_: _share_even(completions),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": text} for text in _prompts(options)]),
        processing_class=_tokenizer(options["vocabulary"]),
        callbacks=[Step()],
    )


if __name__ == "__main__":
    serve(work)
