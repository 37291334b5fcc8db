"""A judge of a few rules, in place of a model: the longer answer is better, and so on."""

from __future__ import annotations

import re


def longer(messages) -> str:
    """Answers the tasks of the packaged recipes; prefers answers of more characters."""
    system, user = messages[0]["content"], messages[1]["content"]
    texts = dict(re.findall(r"\[BEGIN (answer ?\w*) \w+\]\n(.*?)\n\[END", user, re.DOTALL))
    if system.startswith("You criticise"):
        return "The answer could say more."
    if system.startswith("You rewrite"):
        return f"{texts['answer']} b"
    if system.startswith("You review"):
        return str(sum(map(ord, texts["answer"])) % 6)
    a, b = texts["answer A"], texts["answer B"]
    better = "A" if (len(a), a) >= (len(b), b) else "B"
    if "Verdict" in system:
        hint = re.search(r"Answer (\w) is the better one", user)
        return f"It says more.\nVerdict: {hint[1] if hint else better}"
    return better


def first(messages) -> str:
    """Prefers whatever is shown first."""
    return "A"


def lenient(messages) -> str:
    """A second judge: as `longer`, but an answer of 1 or 3 points gets one more."""
    said = longer(messages)
    return str(int(said) + 1) if said in {"1", "3"} else said


def speechless(messages) -> str:
    """Gives no verdict."""
    return "It depends."
