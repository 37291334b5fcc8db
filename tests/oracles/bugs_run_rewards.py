"""The classic bugs of rewards by judge, by model and by code: what they stand for in our code."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["RUN_REWARDS"]

JUDGED = "tests/finetune/test_judge_rewards.py"
MODELS = "tests/finetune/test_model_rewards.py"
CODE = "tests/finetune/test_code_execution.py"

RUN_REWARDS = (
    Mutation(
        "the lowest rating not taken off",
        "finetune/rewards/judge.py",
        "(rating - self.low) / (self.high - self.low)",
        "rating / (self.high - self.low) - self.low * 0",
        JUDGED,
    ),
    Mutation(
        "p(yes) rounded to a decision",
        "finetune/rewards/goal.py",
        'else verdict.values["reward"]',
        'else float(verdict.values["reward"] >= 0.5)',
        JUDGED,
    ),
    Mutation(
        "no goal scores 0",
        "finetune/rewards/goal.py",
        "scores: list[float | None] = [None] * len(rows)",
        "scores: list[float | None] = [0.0] * len(rows)",
        JUDGED,
    ),
    Mutation(
        "goals that differ in case counted twice",
        "finetune/rewards/proposed_goals.py",
        "goals.setdefault(",
        "goals.__setitem__(one + str(len(goals)), one); (lambda *a: a)(",
        JUDGED,
    ),
    Mutation(
        "a goal at the threshold not reached",
        "finetune/rewards/proposed_goals.py",
        "one >= self.threshold",
        "one > self.threshold",
        JUDGED,
    ),
    Mutation(
        "rewards of harmful and harmless prompts exchanged",
        "finetune/rewards/refusal.py",
        "self.harmful if kinds[at] else self.harmless",
        "self.harmless if kinds[at] else self.harmful",
        JUDGED,
    ),
    Mutation(
        "a prompt of no kind taken for harmless",
        "finetune/rewards/refusal.py",
        "word in _YES if word in (*_YES, *_NO) else None",
        "word in _YES",
        JUDGED,
    ),
    Mutation(
        "rows of other kinds scored by no weights",
        "finetune/rewards/rule_based.py",
        "own is not None or not self.by_kind",
        "own is not None or True",
        JUDGED,
    ),
    Mutation(
        "a row's own rubric not read",
        "finetune/rewards/rubric.py",
        '{"rubric": extra.get(self.field)} if self.field else {}',
        "{}",
        JUDGED,
    ),
    Mutation(
        "log-probability not divided by the length",
        "finetune/rewards/policy_logp.py",
        "one and one[0] / one[1]",
        "one and one[0]",
        MODELS,
    ),
    Mutation(
        "log-ratio of means for that of sums",
        "finetune/rewards/log_ratio.py",
        "(own[0] - base[0])",
        "(own[0] / own[1] - base[0] / base[1])",
        MODELS,
    ),
    Mutation(
        "beta of the log-ratio ignored",
        "finetune/rewards/log_ratio.py",
        "self.beta * (own",
        "(own",
        MODELS,
    ),
    Mutation(
        "an end of turn put on a cut answer",
        "finetune/scoring/completion_logps.py",
        'not row.get("finished", True) and',
        "False and",
        MODELS,
    ),
    Mutation(
        "an answer too long for the model scored",
        "finetune/scoring/completion_logps.py",
        "lengths[at] <= limit",
        "True",
        MODELS,
    ),
    Mutation(
        "the reference answer's reward not taken off",
        "finetune/rewards/reference_difference.py",
        "score - less",
        "score",
        MODELS,
    ),
    Mutation(
        "known answers of other rows taken",
        "finetune/rewards/reference_difference.py",
        'row.get("id"), prompt, row["reference"]',
        'row.get("id")[:0], prompt',
        MODELS,
    ),
    Mutation(
        "an assert that failed once and then held",
        "finetune/code_execution/test_driver.py",
        "held = held and not self.program.is_gone and self.state.get(site, True)",
        "held = held and not self.program.is_gone",
        CODE,
    ),
    Mutation(
        "tests that did not run to their end count as run",
        "finetune/rewards/code_tests.py",
        "if not ran.is_ended:",
        "if False:",
        CODE,
    ),
    Mutation(
        "a program that crashed after its output passes",
        "finetune/rewards/code_tests.py",
        'one.end == "exit 0" and same',
        "same",
        CODE,
    ),
    Mutation(
        "the program's own built-ins used by its tests",
        "finetune/code_execution/unit_tests.py",
        "own = own - modules | ({entry} & free if entry else set())",
        "own = free - modules",
        CODE,
    ),
    Mutation(
        "files of one run left to the next",
        "finetune/code_execution/launcher.py",
        "if at:\n            fresh_folder",
        "if False:\n            fresh_folder",
        CODE,
    ),
    Mutation(
        "a reward function keeps what it saw",
        "finetune/code_execution/program.py",
        "if self.seconds is None:",
        "if True:",
        CODE,
    ),
    Mutation(
        "whether an object holds a value not asked",
        "finetune/code_execution/test_driver.py",
        'return self._program.ask(self._on, "holds", value) is True',
        "return True",
        CODE,
    ),
    Mutation(
        "an infinite reward",
        "finetune/rewards/code_reward.py",
        "return number if math.isfinite(number) else None",
        "return number",
        CODE,
    ),
    Mutation(
        "thoughts taken for the program",
        "finetune/code_execution/program_text.py",
        "after_thinking(completion)",
        "completion",
        CODE,
    ),
)
