"""Bugs of rewards: weights of a sum, what has no score, final answers, formats, lengths."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["TEXT_REWARDS"]

_SUM = "tests/finetune/test_several_rewards.py"
_TEXTS = "tests/finetune/test_verifiable_rewards.py"
_SEVERAL = "finetune/rewards/several.py"
_MATHS = "finetune/rewards/math_answer.py"
_LENGTH = "finetune/rewards/length_penalty.py"

TEXT_REWARDS = (
    Mutation(
        "a reward without a score left out of the sum",
        _SEVERAL,
        "            return None\n",
        "            continue\n",
        f"{_SUM}::test_the_sum_by_hand_and_each_part",
    ),
    Mutation(
        "weights of rewards ignored",
        _SEVERAL,
        "total += weight * score",
        "total += score",
        f"{_SUM}::test_the_sum_by_hand_and_each_part",
    ),
    Mutation(
        "a reward of weight 0 takes scores away",
        _SEVERAL,
        "for part in reward.parts if part.weight]",
        "for part in reward.parts]",
        f"{_SUM}::test_a_reward_of_weight_zero_is_computed_and_takes_no_score_away",
    ),
    Mutation(
        "an answer read in thinking that never ended",
        _MATHS,
        "if answer == said and (_BEGUN in said or",
        "if answer == said and (",
        f"{_TEXTS}::test_numbers_agree_by_value",
    ),
    Mutation(
        "a percentage read as its number alone",
        _MATHS,
        "return {value, value / 100} if",
        "return {value} if",
        f"{_TEXTS}::test_numbers_agree_by_value",
    ),
    Mutation(
        "a reference that is no value compared as a text",
        _MATHS,
        "return known if readable else None",
        "return known",
        f"{_TEXTS}::test_a_reference_that_is_no_value_gives_no_score",
    ),
    Mutation(
        "repeated tags accepted",
        "finetune/rewards/format.py",
        "said.count(tag) != 1",
        "said.count(tag) < 1",
        f"{_TEXTS}::test_the_format_by_hand",
    ),
    Mutation(
        "overlong answers punished from the limit on",
        _LENGTH,
        "(self.length - self._cache - n)",
        "(self.length - n)",
        f"{_TEXTS}::test_lengths_by_hand",
    ),
    Mutation(
        "right and wrong exchanged in the cosine",
        _LENGTH,
        "        if right:\n",
        "        if not right:\n",
        f"{_TEXTS}::test_lengths_by_hand",
    ),
    Mutation(
        "repetition rewarded",
        "finetune/rewards/repetition.py",
        "len(set(groups)) / len(groups) - 1",
        "1 - len(set(groups)) / len(groups)",
        f"{_TEXTS}::test_patterns_and_repetition_by_hand",
    ),
    Mutation(
        "loose constraints read as strict ones",
        "finetune/rewards/constraints.py",
        'if self.mode == "strict" or strict is not False:',
        "if strict is not None:",
        f"{_TEXTS}::test_constraints_of_a_row_strict_and_loose",
    ),
    Mutation(
        "less than taken for at most",
        "curate/text/checkable_instructions.py",
        "return count < wanted if",
        "return count <= wanted if",
        "tests/curate/test_checkable_instructions.py::test_relations_at_their_bounds",
    ),
)
