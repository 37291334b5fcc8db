"""The classic bugs of the distance of an answer from a reward model's training answers."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["KNOWN_ANSWERS"]

KNOWN_ANSWERS = (
    Mutation(
        "the first token of an answer has no context",
        "finetune/reward_models/token_bigrams.py",
        "np.append(vocabulary, ids)[:-1]",
        "np.roll(ids, 1)",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "no share for what was not seen after a token",
        "finetune/reward_models/token_bigrams.py",
        "/ times / alone + left",
        "/ times / alone + 1e-9",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "surprise and order of the same sign",
        "finetune/reward_models/token_bigrams.py",
        "-np.log(ratio)",
        "np.log(ratio)",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "a token predicts itself",
        "finetune/reward_models/token_states.py",
        "(-2, -1, 1, 2)",
        "(-2, -1, 0, 1)",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "errors are not standardised",
        "finetune/reward_models/token_states.py",
        " / self.errors) ** 2",
        ") ** 2",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "the rest of a state is left out",
        "finetune/reward_models/token_states.py",
        "(own + rest)",
        "own",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "counts hold the answer that they judge",
        "finetune/reward_models/known_states.py",
        "if own != fold",
        "if own != -2",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "a short answer counts as a long one",
        "finetune/reward_models/known_states.py",
        "self.within / len(ids)",
        "self.within / 1000",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "the smallest of the parts is the distance",
        "finetune/reward_models/known_states.py",
        "np.max(parts, axis=-1)",
        "np.min(parts, axis=-1)",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "the threshold is a quantile without the new answer",
        "finetune/reward_models/known_states.py",
        "math.ceil((len(held_out) + 1) * quantile)",
        "math.floor(len(held_out) * quantile)",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "states of the prompt, too",
        "finetune/reward_models/head_states.py",
        "states[mask][starts[text] :]",
        "states[mask]",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "states of the last layer",
        "finetune/reward_models/head_states.py",
        "len(output.hidden_states) // 2",
        "-1",
        "tests/finetune/test_known_answers.py",
    ),
    Mutation(
        "an answer after a cut prompt begins too late",
        "finetune/data/prompt_truncation.py",
        "prompt[head + cut :]",
        "prompt[head:]",
        "tests/finetune/test_known_answers.py",
    ),
)
