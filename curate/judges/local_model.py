"""A chat model in this process as a judge: probabilities of label tokens, or written text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from siftune.curate.chat.encoding import encode_prompts, encode_unmasked
from siftune.curate.chat.templates import ChatRenderer, own_template
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, BackendError, Message, Question
from siftune.curate.models.adapters import config_folder
from siftune.curate.models.precision import Precision
from siftune.curate.models.pretrained import load_config, pretrained_tokenizer
from siftune.curate.models.resolve import model_folder
from siftune.curate.models.token_ids import end_ids
from siftune.curate.text.language_model import CausalLM
from siftune.curate.text.next_token import NextToken, PromptIds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LocalModel"]

_PROBE: Final = ({"role": "user", "content": "?"},)
_NO_THINKING: Final = "{%- set enable_thinking = false -%}"
_TOKENS: Final = {"cpu": 8192, "cuda": 2**16}
"""Most tokens, with those to be written, of a batch of texts."""


_NO_SCORE: Final = BackendError(
    "no_classifier",
    "the question asks for a score instead of text: name a judge classifier:FOLDER",
    permanent=True,
)


@dataclass(frozen=True)
class LocalModel:
    """Answers with a causal chat model in this process, without a server and without its own code.

    A question with labels is answered by their probabilities: one forward pass, then softmax over
    the labels' tokens at the first place of the answer. Nothing is sampled, and nothing has to be
    parsed. This is the expected score of G-Eval, arXiv:2303.16634, section 2.3, without sampling,
    and of DEITA, arXiv:2312.15685. A question without labels is answered by text: the most probable
    tokens at a temperature of 0, else a sample whose random numbers are drawn from the question.

    Turns are written in the model's own chat template, and control tokens that the data spells out
    stay text. A system turn is put in front of the first user turn where the template has none, and
    reasoning before the answer is off where the template can switch it. A question that does not
    fit the model's window has the error ``too_long``: nothing is cut.

    In fp32 questions run in batches, which change a probability by rounding only (below 1e-5); in
    bf16 each question with labels runs alone and text is written in batches of a fixed shape
    (`fixed_batches`): an answer depends on no other.

    Options:
        model: Chat model, as a folder, a name of `siftune models list`, or a name on the hub.
        precision: Number format of the model: fp32, bf16, or bf16 where the CPU multiplies it
            (auto).
        max_tokens: Largest number of tokens of a question with its answer; none takes the model's
            window.
    """

    model: str
    precision: Precision = "auto"
    max_tokens: Count | None = None

    batch: ClassVar = 16  # items between two commits of the cache: a killed run loses little

    @cached_property
    def identity(self) -> str:
        """Hash of weights, tokenizer and chat template, and the number format."""
        return f"local_model {self._lm.identity} {self._lm.number_format}"

    def answer(self, questions: Sequence[Question]) -> list[Answer | BackendError]:
        """One answer, or the failure, for each question, in order.

        Raises:
            UsageError: the model cannot be loaded, has no chat template, or a label is not one
                token.
        """
        found: dict[int, Answer | BackendError] = {}
        prompts: dict[int, PromptIds] = {}
        for at, prompt in enumerate(self._prompts(questions)):
            if isinstance(prompt, BackendError):
                found[at] = prompt
            else:
                prompts[at] = prompt
        labelled = [at for at in prompts if questions[at].labels]
        written = [at for at in prompts if not questions[at].labels]
        for chosen, answered in ((labelled, self._probabilities), (written, self._texts)):
            answers = answered([questions[at] for at in chosen], [prompts[at] for at in chosen])
            found.update(zip(chosen, answers, strict=True))
        return [found[at] for at in range(len(questions))]

    def describe(self) -> dict[str, str]:
        """The options as resolved on this machine, for keys and manifests."""
        return self._lm.describe()

    def notice(self) -> str:
        """The precision and its reason, in one line for the user."""
        return self._lm.notice()

    def _prompts(self, questions: Sequence[Question]) -> list[PromptIds | BackendError]:
        """Token ids of each question up to where the answer begins, labels' prefix included."""
        found: list[PromptIds | BackendError] = []
        for question, asked in zip(questions, self._encoded(questions), strict=True):
            if isinstance(asked, BackendError) or question.max_tokens < 1:
                found.append(asked if isinstance(asked, BackendError) else _NO_SCORE)
                continue
            ids = [*asked, *self._labels(question)[0]] if question.labels else asked
            written = 0 if question.labels else question.max_tokens
            if len(ids) + written > self._lm.window:
                more = f" and {written:,} of the answer" if written else ""
                detail = f"{len(ids):,} tokens{more}; the window is {self._lm.window:,}"
                found.append(BackendError("too_long", detail, permanent=True))
            else:
                found.append(PromptIds(ids, _common(self._system(question), ids)))
        return found

    def _encoded(self, questions: Sequence[Question]) -> list[list[int] | BackendError]:
        plain = [
            question.messages if self._takes_system else _without_system(question.messages)
            for question in questions
        ]
        try:
            turns = [_turns(messages) for messages in plain]
            return [*encode_prompts(self._tokenizer, turns, self._template)]
        except DataError as error:
            if len(questions) == 1:
                reason = str(error).partition(": ")[2]  # after the number of the conversation
                return [BackendError("template", reason, permanent=True)]
            return [one for question in questions for one in self._encoded([question])]

    @cached_property
    def _known(self) -> dict[Any, Any]:
        """Ids of system turns and of labels, each computed once."""
        return {}

    @cached_property
    def _takes_system(self) -> bool:
        try:
            encode_prompts(self._tokenizer, [[{"role": "system", "content": "?"}, *_PROBE]])
        except DataError:
            return False
        return True

    def _system(self, question: Question) -> Sequence[int]:
        """Ids of a leading system turn alone, to be shared by the questions of a rubric."""
        first = question.messages[:1]
        if not first or first[0][0] != "system" or not self._takes_system:
            return ()
        key = ("system", *first)
        if key not in self._known:
            try:
                self._known[key] = encode_unmasked(self._tokenizer, [_turns(first)])[0]
            except DataError:  # some templates begin with a user's turn
                self._known[key] = ()
        ids: Sequence[int] = self._known[key]
        return ids

    def _labels(self, question: Question) -> tuple[list[int], list[int]]:
        """Ids between the prompt and the labels, and the token of each label."""
        key = ("labels", question.labels, question.prefix)
        if key not in self._known:
            self._known[key] = self._label_tokens(question.labels, question.prefix)
        found: tuple[list[int], list[int]] = self._known[key]
        return found

    def _label_tokens(self, labels: Sequence[str], prefix: str) -> tuple[list[int], list[int]]:
        """As `_labels`: each label as the template has it after the generation prompt.

        The form with a blank in front is tried first where the template writes one before an
        answer, else the form without.
        """
        renderer = ChatRenderer(self._tokenizer, self._template)
        asked = renderer(_PROBE, None, True)
        told = renderer([*_PROBE, {"role": "assistant", "content": "A"}], None, False)
        blank = told.startswith(f"{asked} ")
        for space in (" ", "") if blank else ("", " "):
            begin, rest = self._divided(asked, [f"{prefix}{space}{label}" for label in labels])
            wrong = [at for at, ids in enumerate(rest) if len(ids) != 1 or rest.index(ids) != at]
            if not wrong:
                return begin, [ids[0] for ids in rest]
        tokens = " + ".join(map(repr, self._tokenizer.convert_ids_to_tokens(rest[wrong[0]])))
        raise UsageError(
            f"{self.model}: the label {labels[wrong[0]]!r} is not one token of its own where an "
            f"answer begins ({tokens}): a judge that reads probabilities needs labels of one token "
            "each; take a task with other labels, or a judge that writes text"
        )

    def _divided(self, asked: str, texts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Ids after ``asked`` with which all texts begin, and those that each has of its own."""
        before = self._ids(asked)
        found = [self._ids(asked + text) for text in texts]
        same = min(_common(found[0], ids) for ids in found)
        same = min(same, *(len(ids) - 1 for ids in found))
        if same < len(before) or found[0][: len(before)] != before:  # merges with the prompt's end
            return [], [ids[len(before) - 1 :] for ids in found]
        return found[0][len(before) : same], [ids[same:] for ids in found]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _probabilities(
        self, questions: Sequence[Question], prompts: Sequence[PromptIds]
    ) -> list[Answer | BackendError]:
        wanted = [self._labels(question)[1] for question in questions]
        found: list[Answer | BackendError] = []
        logs = self._next.log_probabilities(prompts, wanted)
        for question, prompt, one in zip(questions, prompts, logs, strict=True):
            values = one.softmax(-1).tolist()
            if not all(map(math.isfinite, values)):
                found.append(BackendError("not_finite", "a logit is not finite", permanent=True))
                continue
            shares = dict(zip(question.labels, values, strict=True))
            used, mass = len(prompt.ids), float(one.exp().sum())
            found.append(Answer(None, shares, used, output_tokens=0, label_mass=mass))
        return found

    def _texts(
        self, questions: Sequence[Question], prompts: Sequence[PromptIds]
    ) -> list[Answer | BackendError]:
        found: dict[int, Answer | BackendError] = {}
        for batch in self._text_batches(questions, prompts):
            asked = [questions[at] for at in batch]
            written = self._written(asked, [prompts[at].ids for at in batch])
            for at, ids in zip(batch, written, strict=True):
                ended = bool(ids) and ids[-1] in self._ends
                text = str(
                    self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
                )
                used = len(prompts[at].ids)
                found[at] = Answer(
                    text, input_tokens=used, output_tokens=len(ids), truncated=not ended
                )
        return [found[at] for at in range(len(questions))]

    def _text_batches(
        self, questions: Sequence[Question], prompts: Sequence[PromptIds]
    ) -> list[list[int]]:
        """Indices of questions with one temperature and limit, the longest first."""
        most = math.inf if self._exact else self._tokens
        kinds = [(question.temperature, question.max_tokens) for question in questions]
        order = sorted(range(len(prompts)), key=lambda at: (kinds[at], -len(prompts[at].ids), at))
        batches: list[list[int]] = []
        for at in order:
            first = batches[-1][0] if batches else at
            width = len(prompts[first].ids) + questions[first].max_tokens
            fits = bool(batches) and (len(batches[-1]) + 1) * width <= most
            if fits and kinds[first] == kinds[at]:
                batches[-1].append(at)
            else:
                batches.append([at])
        return batches

    def _written(
        self, questions: Sequence[Question], prompts: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        from siftune.curate.text.fixed_batches import sample_each
        from siftune.curate.text.sampling import Sampling, sample

        pad = self._tokenizer.pad_token_id
        sampling = Sampling(
            questions[0].temperature,
            questions[0].max_tokens,
            self._ends,
            min(self._ends) if pad is None else pad,
        )
        seeds = [[_seed(one)] for one in questions]
        if self._exact:
            return sample_each(self._lm.loaded, prompts, sampling, seeds, self._tokens)
        return sample(self._lm.loaded, prompts, sampling, seeds)

    @property
    def _exact(self) -> bool:
        """Whether rounding is so coarse that a batch has to leave it as it is."""
        return self._lm.number_format == "bf16"

    @property
    def _tokens(self) -> int:
        return _TOKENS[self._lm.loaded.device.type]

    @cached_property
    def _lm(self) -> CausalLM:
        return CausalLM(self.model, self.max_tokens, self.precision)

    @cached_property
    def _next(self) -> NextToken:
        return NextToken(self._lm)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        folder = model_folder(self.model)
        found = pretrained_tokenizer(folder, load_config(config_folder(folder)))
        if found.chat_template is None:
            raise UsageError(
                f"{self.model} has no chat template, and a judge is asked in turns: name a chat "
                "model, such as smollm2 (`siftune models list`)"
            )
        return found

    @cached_property
    def _template(self) -> str:
        """The model's chat template, with reasoning before the answer switched off."""
        own = own_template(self._tokenizer)
        return f"{_NO_THINKING}{own}" if "enable_thinking" in own else own

    @cached_property
    def _ends(self) -> frozenset[int]:
        return end_ids(self._lm.loaded, self._tokenizer)


def _turns(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    return [{"role": role, "content": text} for role, text in messages]


def _without_system(messages: Sequence[Message]) -> Sequence[Message]:
    r"""The system's text in front of the first user turn.

    >>> _without_system([("system", "Rate it."), ("user", "Text")])
    [('user', 'Rate it.\n\nText')]
    """
    if len(messages) < 2 or messages[0][0] != "system" or messages[1][0] != "user":
        return messages
    return [("user", f"{messages[0][1]}\n\n{messages[1][1]}"), *messages[2:]]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _seed(question: Question) -> int:
    """A seed from the content of a question: the same text, whatever else is asked."""
    content = [question.messages, question.version, question.temperature, question.max_tokens]
    return int.from_bytes(hashlib.blake2b(json.dumps(content).encode(), digest_size=8).digest())
