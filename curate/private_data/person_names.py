"""Names of persons and places in texts, by a token classifier of `transformers`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.models.pretrained import load_config, load_pretrained, pretrained_tokenizer
from siftune.curate.models.resolve import folder_hash, model_folder
from siftune.curate.private_data.pattern_spans import SPANS

__all__ = ["NAME_KINDS", "NameFinder"]

NAME_KINDS: Final = ("location", "person")
_KINDS: Final = {
    **dict.fromkeys(("PER", "PERSON", "GIVENNAME", "SURNAME", "FIRSTNAME", "LASTNAME"), "person"),
    **dict.fromkeys(("LOC", "LOCATION", "GPE", "CITY", "STREET", "ADDRESS"), "location"),
}
"""Our kinds of the classes that models have."""
_LONGEST: Final = 512  # tokens of a window, of a model without a limit
_OVERLAP: Final = 4  # windows overlap by a fourth


@dataclass(frozen=True)
class NameFinder:
    """Spans of the classes PER, LOC and the like, with or without the marks B- and I-.

    A text beyond the model's window is read in windows that overlap by a fourth; a token in two of
    them is classified where it is farther from the end. Texts are read one by one in fp32, so that
    a text's spans do not depend on its neighbours.
    """

    model: str

    def __call__(self, texts: pl.Series) -> pl.DataFrame:
        """Spans in each text, as `pattern_spans.find_all` gives them."""
        rows = [
            (row, *span)
            for row, text in enumerate(texts.to_list())
            if text is not None and text.strip()
            for span in self._spans(text)
        ]
        return pl.DataFrame(rows, schema=SPANS, orient="row")

    @property
    def identity(self) -> str:
        """Digest of the weights, configuration and tokenizer."""
        return folder_hash(model_folder(self.model))

    def _spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Start, end and kind of each name; tokens of a kind in a row are one name."""
        start, end, kind = 0, 0, ""
        for first, last, label in self._tokens(text):
            mark, _, name = label.rpartition("-")
            found = _KINDS.get(name.upper(), "")
            begins = mark == "B" and first > end  # a piece of the same word begins nothing
            if kind and (found != kind or begins):
                yield start, end, kind
                kind = ""
            if found:
                start, kind = (start, kind) if kind else (first, found)
                end = last
        if kind:
            yield start, end, kind

    def _tokens(self, text: str) -> Iterator[tuple[int, int, str]]:
        """First and last character of each token with some, and its label."""
        import torch

        tokenizer, model, window = self._loaded
        overlap = window // _OVERLAP
        read = tokenizer(
            text,
            truncation=True,
            max_length=window,
            stride=overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        until, windows = 0, len(read["input_ids"])
        for at, (ids, places) in enumerate(
            zip(read["input_ids"], read["offset_mapping"], strict=True)
        ):
            with torch.inference_mode():
                labels = model(input_ids=torch.tensor([ids])).logits[0].argmax(-1).tolist()
            kept = len(ids) if at + 1 == windows else len(ids) - overlap // 2
            for (first, last), label in list(zip(places, labels, strict=True))[:kept]:
                if last > first and first >= until:
                    until = last
                    yield first, last, model.config.id2label[label]

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        """Tokenizer, model and window."""
        from transformers import AutoModelForTokenClassification

        folder = model_folder(self.model)
        config = load_config(folder)
        names = {str(label).rpartition("-")[2].upper() for label in config.id2label.values()}
        if not names & set(_KINDS):
            raise UsageError(
                f"pii: names_model: {self.model}: expected a token classifier with a class such as "
                f"PER or LOC, it has {', '.join(sorted(names))}"
            )
        tokenizer = pretrained_tokenizer(folder, config)
        if not tokenizer.is_fast:
            raise UsageError(
                f"pii: names_model: {self.model}: expected a tokenizer with tokenizer.json"
            )
        model = load_pretrained(AutoModelForTokenClassification, folder)
        positions = getattr(config, "max_position_embeddings", None) or _LONGEST
        return tokenizer, model.float(), min(int(positions), tokenizer.model_max_length, _LONGEST)

    def __getstate__(self) -> dict[str, Any]:
        """The options; a loaded model stays in its process."""
        return {"model": self.model}
