"""Cost of judge calls in whole billionths of a dollar: prices, bounds before a call, totals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Answer, Question

__all__ = ["BILLION", "Prices", "Totals", "most_input_tokens"]

BILLION: Final = 1_000_000_000
_MILLION: Final = 1_000_000
_TOKENS_OF_TURN: Final = 16  # role and separators that a chat template adds to each turn
_TOKENS_OF_CHAT: Final = 256  # a system prompt that a template adds by itself, and the last header


@dataclass(frozen=True)
class Prices:
    """What a judge costs, in dollars: a million input tokens, a million output tokens.

    ``most_per_call`` is the most that one call can cost where the server states the cost of each
    (``usage.cost``). Where the prices of tokens are given, too, the bound is the higher of both.
    """

    input: float = 0.0
    output: float = 0.0
    most_per_call: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "most_per_call"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < BILLION:  # NaN fails, too
                raise UsageError(f"price {name}: expected dollars, 0 or more, got {price}")

    def of_tokens(self, input_tokens: int, output_tokens: int) -> int:
        """The price in billionths of a dollar, rounded up.

        >>> Prices(input=0.15, output=0.6).of_tokens(1000, 10)  # 150 and 600 billionths a token
        156000
        """
        parts = input_tokens * round(self.input * BILLION) + output_tokens * round(
            self.output * BILLION
        )
        return -(-parts // _MILLION)

    def bound(self, question: Question) -> int:
        """The most that one call can cost, before it is sent."""
        by_tokens = self.of_tokens(most_input_tokens(question), question.max_tokens)
        return max(by_tokens, round((self.most_per_call or 0) * BILLION))

    def of(self, question: Question, answer: Answer) -> int:
        """The cost of an answer: what the server stated, else its tokens, else the bound."""
        if answer.cost is not None:
            return answer.cost
        if answer.input_tokens is None or answer.output_tokens is None:
            return self.bound(question)
        return self.of_tokens(answer.input_tokens, answer.output_tokens)

    def priced(self, answer: Answer) -> Answer:
        """The answer with its cost by its tokens, where the server stated none."""
        tokens_in, tokens_out = answer.input_tokens, answer.output_tokens
        if answer.cost is not None or tokens_in is None or tokens_out is None:
            return answer
        return replace(answer, cost=self.of_tokens(tokens_in, tokens_out))


def most_input_tokens(question: Question) -> int:
    """A bound on the input tokens of a question: no tokenizer has more tokens than UTF-8 bytes.

    A chat template's own tokens are bounded by 256, and 16 for each turn.
    """
    texts = sum(len(text.encode("utf-8", "replace")) for _, text in question.messages)
    return texts + _TOKENS_OF_TURN * len(question.messages) + _TOKENS_OF_CHAT


@dataclass
class Totals:
    """Counts of one run of a judge; ``cost`` is in billionths of a dollar.

    ``asked`` counts calls that were sent, ``failed`` those of them that brought no answer,
    ``asked_again`` those that repeat a question whose answer could not be parsed.
    """

    items: int = 0
    unscored: int = 0
    asked: int = 0
    cached: int = 0
    failed: int = 0
    asked_again: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
