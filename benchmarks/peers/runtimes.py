"""all-MiniLM-L6-v2 from an ONNX file, by OpenVINO or ONNX Runtime, on one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.worker import Facts, Options, serve, timed

_TOKENS = 2048  # in a batch: of 512, 1,024 and 2,048 the fastest


def work(options: Options) -> Facts:
    """Options: model (ONNX), ids (npz), way (openvino-bf16, openvino-fp32, onnxruntime), out.

    Texts come as token ids, sorted by length; each batch is padded to its longest.
    """
    facts: Facts = {}
    held = np.load(options["ids"])
    texts = np.split(held["ids"], held["sizes"].cumsum()[:-1])
    runtime, _, dtype = options["way"].partition("-")
    run = {"openvino": _openvino, "onnxruntime": _onnxruntime}[runtime](options["model"], dtype)
    batches = list(_batches(held["sizes"]))
    for batch in (batches[0], batches[-1]):
        _embed(run, [texts[i] for i in batch])
    vectors = np.empty((len(texts), 384), np.float32)
    with timed(facts):
        for batch in batches:
            vectors[batch] = _embed(run, [texts[i] for i in batch])
    np.save(options["out"], vectors)
    return facts


def _batches(sizes: np.ndarray) -> Iterator[np.ndarray]:
    order, at = np.argsort(-sizes, kind="stable"), 0
    while at < len(order):
        some = order[at : at + max(1, _TOKENS // int(sizes[order[at]]))]
        yield some
        at += len(some)


def _embed(run: Callable[..., np.ndarray], texts: list[np.ndarray]) -> np.ndarray:
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    mask = np.zeros_like(ids)
    for i, own in enumerate(texts):
        ids[i, : len(own)], mask[i, : len(own)] = own, 1
    shown = mask[:, :, None].astype(np.float32)
    means = (run(ids, mask) * shown).sum(axis=1) / shown.sum(axis=1)
    vectors: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors


def _openvino(path: str, dtype: str) -> Callable[..., np.ndarray]:
    # its import would write to the home folder and send usage statistics; it does without
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    core = openvino.Core()
    hints: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[dtype],
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(core.read_model(path), "CPU", hints).create_infer_request()
    return lambda ids, mask: request.infer({"ids": ids, "mask": mask}, share_inputs=True)[0]


def _onnxruntime(path: str, _: str) -> Callable[..., np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


if __name__ == "__main__":
    serve(work)
