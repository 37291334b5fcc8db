"""Completions from a file of samples, as ``siftune finetune sample`` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siftune.curate.chat.encoding import EncodedAnswer, encode_answers
from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.files.atomic import read_json
from siftune.curate.text.sampling import Sampling
from siftune.finetune.data import training_rows
from siftune.finetune.rl.rollouts.types import Draw, Sampled

__all__ = ["Samples"]


@dataclass(frozen=True)
class Samples:
    """The answers of each row in turn, encoded again.

    They were sampled by the model that the run starts from, so their log-probabilities are those of
    its reference, at the same temperature; what the policy has moved since is weighed by these
    (`rl.importance`). So a run on a file drifts off its data: it serves the first updates, or a
    method without sampling in the loop.

    ``answers`` are token ids with their end token, by the id of the row.
    """

    answers: Mapping[str, Sequence[list[int]]]
    source: str

    @classmethod
    def read(
        cls, source: str, model: str, base_hash: str, tokenizer: Any, sampling: Sampling
    ) -> Samples:
        """The samples of the folder ``source``, which ``model`` (``base_hash``) has to have drawn.

        Raises:
            DataError: an answer does not end, or its tokens do not give its text.
            UsageError: another model drew them, at another temperature, or it is no such folder.
        """
        facts = _facts(source)
        if facts["model"].get("hash") != base_hash:
            raise UsageError(
                f"{source} was sampled from {facts['model'].get('path')}, and the run starts from "
                f"{model}: sample from that model, or the weights of its answers are not known"
            )
        if facts["options"].get("temperature") != sampling.temperature:
            raise UsageError(
                f"{source} was sampled at temperature {facts['options'].get('temperature')}, and "
                f"the run's is {sampling.temperature:g}: set temperature to that of the samples"
            )
        if facts["options"].get("opponents"):
            raise UsageError(f"{source} holds answers of opponents too: sample without them")
        rows = training_rows.to_ranked(training_rows.load(source, ("ranked",)))
        flat = [(row, one) for row in rows for one in row["completions"]]
        encoded = encode_answers(
            tokenizer,
            [row["prompt"] for row, _ in flat],
            [one for _, one in flat],
            tools=[row["tools"] for row, _ in flat],
            rows=[row["id"] for row, _ in flat],
        )
        answers: dict[str, list[list[int]]] = {}
        for (row, turns), one in zip(flat, encoded, strict=True):
            ids = _answer_ids(one)
            read, written = tokenizer.decode(ids, skip_special_tokens=True), turns[-1]["content"]
            if not ids or ids[-1] not in sampling.ends or read != written:
                raise DataError(
                    f"{source}: row {row['id']}: the answer {written[:40]!r} with its end, encoded "
                    f"again, reads {read[:40]!r}: its tokens are not known"
                )
            if len(ids) <= sampling.max_new_tokens:
                answers.setdefault(row["id"], []).append(ids)
        return cls(answers, source)

    def lacking(self, ids: Sequence[str], group_size: int) -> list[str]:
        """The rows that have fewer answers than are drawn of a prompt at once."""
        return [one for one in ids if len(self.answers.get(one, ())) < group_size]

    def __call__(self, policy: Any, draws: Sequence[Draw]) -> Sampled:
        """The next answer of each draw's row.

        Raises:
            SiftuneError: a row has none.
        """
        found = []
        for draw in draws:
            known = self.answers.get(draw.row["id"])
            if not known:
                raise SiftuneError(f"{self.source} has no answer of row {draw.row['id']}")
            found.append(list(known[draw.number % len(known)]))
        return Sampled(found, by_reference=True)


def _facts(source: str) -> dict[str, Any]:
    """The facts that a folder of samples has of them."""
    path = Path(source) / "sampling.json"
    if not path.is_file():
        raise UsageError(
            f"rollouts_from: {source} is neither URL#MODEL of a server nor a folder that `siftune "
            "finetune sample` wrote"
        )
    facts = read_json(path)
    if not isinstance(facts, dict) or not {"model", "options"} <= facts.keys():
        raise UsageError(f"{path} is not as `siftune finetune sample` writes it")
    return facts


def _answer_ids(encoded: EncodedAnswer) -> list[int]:
    """The tokens of an answer up to its end token; what a template writes behind that is not."""
    learned = [at for at, bit in enumerate(encoded.mask) if bit]
    return list(encoded.ids[: learned[-1] + 1]) if learned else []
