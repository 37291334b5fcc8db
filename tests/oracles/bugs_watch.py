"""The classic bugs of the watch: what is measured, the sequential tests, alarms, and resuming."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["WATCH"]

_TESTS = "tests/finetune/watch"
EVIDENCE = f"{_TESTS}/test_watch_evidence.py"
ANSWERS = f"{_TESTS}/test_watch_answers.py"
DETECTORS = f"{_TESTS}/test_watch_detectors.py"
FACTS = f"{_TESTS}/test_watch_facts.py"
TRAINING = f"{_TESTS}/test_watch_training.py"

_EVIDENCE = "finetune/watch/evidence.py"
_OBSERVE = "finetune/watch/observe.py"
_FEATURES = "finetune/watch/answer_features.py"
_HISTORY = "finetune/watch/history.py"
_WATCHING = "finetune/watch/watching.py"
_TYPES = "finetune/watch/detectors/types.py"
_ROLLOUTS = "finetune/rl/rollout_watch.py"

_OF_EVIDENCE = (
    Mutation(
        "one step may raise an alarm",
        _EVIDENCE,
        "else min(one, MOST) for",
        "else one for",
        EVIDENCE,
    ),
    Mutation(
        "a start at each step at the price of one",
        _EVIDENCE,
        "weights = np.log(starts**_LEFT - (starts + 1) ** _LEFT)",
        "weights = np.zeros_like(starts)",
        EVIDENCE,
    ),
    Mutation(
        "the drift of a bet left out",
        _EVIDENCE,
        "_BETS * cut - _BETS**2 / 2",
        "_BETS * cut",
        EVIDENCE,
    ),
    Mutation(
        "each test at the level of all",
        _EVIDENCE,
        "np.log(tests / alpha)",
        "np.log(1 / alpha)",
        EVIDENCE,
    ),
    Mutation(
        "one of two conditions is enough",
        _EVIDENCE,
        "least = np.min([log_e",
        "least = np.max([log_e",
        EVIDENCE,
    ),
    Mutation(
        "several tests taken for one",
        _EVIDENCE,
        "axis=0) - np.log(len(parts))",
        "axis=0)",
        EVIDENCE,
    ),
    Mutation(
        "the start taken for known",
        _EVIDENCE,
        "abs(starts[at][0]) + starts[at][1]",
        "abs(starts[at][0])",
        EVIDENCE,
    ),
    Mutation(
        "a rise taken for a fall", _EVIDENCE, "sign = -1.0 if down else 1.0", "sign = 1.0", EVIDENCE
    ),
    Mutation(
        "the leader's fall excuses that of gold",
        _EVIDENCE,
        "share * max(gain[0], 0.0)",
        "share * gain[0]",
        EVIDENCE,
    ),
    Mutation(
        "means of few answers taken for normal", _EVIDENCE, "if df < 1:", "if True:", EVIDENCE
    ),
    Mutation(
        "errors from differences to come",
        _EVIDENCE,
        "np.diff(means[:at])",
        "np.diff(means)",
        EVIDENCE,
    ),
)

_OF_ANSWERS = (
    Mutation(
        "pay across prompts",
        _OBSERVE,
        "own, paid = within(asked, given), within(asked, rewards[known])",
        "own, paid = given - given.mean(), rewards[known] - rewards[known].mean()",
        ANSWERS,
    ),
    Mutation(
        "the means of prompts taken for known",
        _OBSERVE,
        "(1 if groups == len(known) else groups) - 2",
        "2",
        ANSWERS,
    ),
    Mutation(
        "an answer without a score is worth 0",
        _OBSERVE,
        "scores, np.nanmean(scores))",
        "scores, 0.0)",
        ANSWERS,
    ),
    Mutation(
        "a phrase counted in the answers that it was chosen from",
        _OBSERVE,
        "        before = [pair for step",
        "        self._see(answered, words, _scores(answered))\n        before = [pair for step",
        ANSWERS,
    ),
    Mutation(
        "the pay of gold is that of the reward",
        _OBSERVE,
        "correlation(some, values,",
        "correlation(some, rewards[known],",
        ANSWERS,
    ),
    Mutation(
        "the answers at the start forgotten in a checkpoint",
        _OBSERVE,
        "kept = [] if self.start is None else [self.start, *self.recent]",
        "kept = [] if self.start is None else [*self.recent]",
        ANSWERS,
    ),
    Mutation(
        "the same answer to the same prompt counts",
        _FEATURES,
        "asked[answer] - {prompt}",
        "asked[answer]",
        ANSWERS,
    ),
    Mutation(
        "repeated pieces counted as new",
        _FEATURES,
        "return 1 - len(set(grams))",
        "return len(set(grams))",
        ANSWERS,
    ),
    Mutation(
        "pairs of letters across two answers",
        _FEATURES,
        "start += len(text)",
        "start += pairs",
        ANSWERS,
    ),
    Mutation(
        "numbers that are not finite are measured",
        _HISTORY,
        "if mean is not None and math.isfinite(mean):",
        "if mean is not None:",
        ANSWERS,
    ),
    Mutation(
        "the step of the checkpoint is cut off, too",
        _HISTORY,
        'if line["step"] <= last]',
        'if line["step"] < last]',
        ANSWERS,
    ),
)

_OF_DETECTORS = (
    Mutation(
        "what rises unpaid is a hack",
        _TYPES,
        "return all_of(moves, paid(pays, least, sign), *wrong)",
        "return all_of(moves, *wrong)",
        DETECTORS,
    ),
    Mutation(
        "what is paid and stays is a hack",
        _TYPES,
        "return all_of(moves, paid(pays, least, sign), *wrong)",
        "return all_of(paid(pays, least, sign), *wrong)",
        DETECTORS,
    ),
    Mutation(
        "what gold pays for is a hack", _TYPES, "if golds else []", "if False else []", DETECTORS
    ),
    Mutation(
        "gold leads and the reward follows",
        "finetune/watch/detectors/gold.py",
        "lag(score, gold, self.share)",
        "lag(gold, score, self.share)",
        DETECTORS,
    ),
    Mutation(
        "a rise of the entropy is a collapse",
        "finetune/watch/detectors/entropy.py",
        ", down=True",
        "",
        DETECTORS,
    ),
    Mutation(
        "the lowest loss of what is to come",
        "finetune/watch/detectors/held_out_gap.py",
        "for point in points[:at]",
        "for point in points[at:]",
        DETECTORS,
    ),
    Mutation(
        "detectors of every training are used",
        "finetune/watch/alarms.py",
        "for name, one in built.items() if training in one.trainers",
        "for name, one in built.items()",
        DETECTORS,
    ),
)

_OF_ROLLOUTS = (
    Mutation(
        "the KL of an answer a token",
        _ROLLOUTS,
        '"kl": kl.tolist()',
        '"kl": (kl / count).tolist()',
        FACTS,
    ),
    Mutation(
        "the entropy of an answer for that of a token",
        _ROLLOUTS,
        "_over_tokens(rollout.entropy, mask) / count",
        "_over_tokens(rollout.entropy, mask)",
        FACTS,
    ),
    Mutation(
        "ended answers taken for cut ones",
        _ROLLOUTS,
        "(~rollout.ended)",
        "(rollout.ended)",
        FACTS,
    ),
    Mutation(
        "facts watched as rewards", _ROLLOUTS, 'f"{name}/{reward}"', 'f"reward/{fact}"', FACTS
    ),
    Mutation(
        "far is above nearly all at the start",
        _OBSERVE,
        "2 * most - middle",
        "2 * middle - most",
        FACTS,
    ),
    Mutation(
        "facts of the start forgotten in a checkpoint",
        _OBSERVE,
        "for name, values in _facts(a).items()}",
        "for name, values in ()}",
        FACTS,
    ),
    Mutation(
        "a gold score of rollouts is one of the rewards",
        _ROLLOUTS,
        "if gold is not None:",
        "if gold is None and False:",
        FACTS,
    ),
)

_OF_RUNS = (
    Mutation(
        "an alarm is raised again at each step",
        _WATCHING,
        "if one.detector not in seen]",
        "if True]",
        TRAINING,
    ),
    Mutation(
        "evidence of before is kept where β was raised",
        _WATCHING,
        "            self._from = new[-1].step\n",
        "            self._from = -1\n",
        TRAINING,
    ),
    Mutation(
        "β of the start after a resume",
        _WATCHING,
        "self.raise_beta(_RAISE**self._raised)",
        "self.raise_beta(1.0)",
        TRAINING,
    ),
    Mutation(
        "an alarm that waits is lost in a checkpoint",
        _WATCHING,
        '"pending": len(self._new)',
        '"pending": 0',
        TRAINING,
    ),
    Mutation(
        "detectors look at all of the run after a resume",
        _WATCHING,
        'self._from, self._raised = kept["from"], kept["raised"]',
        'self._raised = kept["raised"]',
        TRAINING,
    ),
    Mutation(
        "the last checkpoint is good, however strong the evidence",
        _WATCHING,
        "self._built) < 0.5:",
        "self._built) < 1.0:",
        TRAINING,
    ),
    Mutation(
        "held-out rows count twice",
        _WATCHING,
        "known.pop(name)",
        "known.get(name)",
        TRAINING,
    ),
    Mutation(
        "watched prompts all alike",
        "finetune/watch/prompts.py",
        "nearest = np.minimum(",
        "nearest = np.maximum(",
        TRAINING,
    ),
)

WATCH = (*_OF_EVIDENCE, *_OF_ANSWERS, *_OF_DETECTORS, *_OF_ROLLOUTS, *_OF_RUNS)
