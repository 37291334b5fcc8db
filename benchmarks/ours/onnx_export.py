"""all-MiniLM-L6-v2 as an ONNX file, and texts as its token ids: what other runtimes start with."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import polars as pl

from benchmarks.worker import Facts, Options, serve, timed
from siftune.curate.vectors.embed_model import find_model, load_model

_WINDOW = 256


def work(options: Options) -> Facts:
    """Options: texts (Parquet), model and ids (written), packages (the peers', which has onnx)."""
    sys.path.append(options["packages"])  # torch's exporter asks for onnx, which is not one of ours
    facts: Facts = {}
    model = load_model(find_model(None), "cpu")
    _export(model[0].auto_model, options["model"])
    texts = pl.read_parquet(options["texts"])["text"].to_list()
    model.tokenizer(texts[:4])
    with timed(facts):
        ids = model.tokenizer(texts, truncation=True, max_length=_WINDOW)["input_ids"]
    facts["tokens_cpu"] = facts["cpu"]
    np.savez(options["ids"], ids=np.concatenate(ids), sizes=[len(own) for own in ids])
    return facts


def _export(bert: Any, path: str) -> None:
    import torch

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            return found

    ids = torch.ones(2, 16, dtype=torch.long)
    names = ["ids", "mask", "tokens"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, which torch means to replace
        torch.onnx.export(
            Tokens(),
            (ids, torch.ones_like(ids)),
            path,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "texts", 1: "length"} for name in names},
            opset_version=17,
            dynamo=False,
        )


if __name__ == "__main__":
    serve(work)
