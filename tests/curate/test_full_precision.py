"""Exact paths stay exact where the process lets torch multiply in shorter types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from siftune.curate.vectors import cosine_neighbors, embed, facility_sparse, nearest_centers  # noqa: E402
from siftune.curate.vectors.embed import Embedder  # noqa: E402
from siftune.curate.vectors.embed_model import find_model  # noqa: E402
from siftune.curate.vectors.encoder import load_encoder  # noqa: E402
from siftune.curate.vectors.full_precision import full_precision  # noqa: E402
from siftune.curate.vectors.unit_vectors import on_grid  # noqa: E402

Call = Callable[..., Any]


def settings() -> tuple[Any, ...]:
    cuda = torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    return torch.backends.mkldnn.matmul.fp32_precision, cuda.fp32_precision, reduced


@pytest.fixture(params=["medium", "high"])
def allowed(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


def test_inside_float32_is_float32_and_after_it_all_is_as_before(allowed: None) -> None:
    before = settings()
    assert "ieee" not in before[:2]
    with full_precision():
        assert settings() == ("ieee", "ieee", False)
    assert settings() == before
    with pytest.raises(RuntimeError, match="mat1 and mat2"), full_precision():
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert settings() == before


@pytest.mark.parametrize("where", ["nearest", "similarities", "cosine"])
def test_every_product_of_vectors_by_torch_is_made_inside(
    where: str, allowed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU would be asked; of TF32 and bfloat16 the processor here may have neither."""
    seen: list[tuple[Any, ...]] = []

    def noting(multiply: Call) -> Call:
        def noted(*given: Any, **options: Any) -> Any:
            seen.append(settings())
            return multiply(*given, **options)

        return noted

    monkeypatch.setattr(torch.Tensor, "__matmul__", noting(torch.Tensor.__matmul__))
    monkeypatch.setattr(torch, "mm", noting(torch.mm))
    units = on_grid(np.random.default_rng(0).normal(size=(40, 16)))[0]
    call: dict[str, Call] = {
        "nearest": lambda: one.best(slice(0, 9), one.columns(units), 0.1),
        "similarities": lambda: facility_sparse._Gpu(units, "cpu").against(slice(0, 9))(
            slice(0, 5)
        ),
        "cosine": lambda: engine.candidates(engine.convert(units), engine.convert(units), 0.5),
    }
    one, engine = nearest_centers._Gpu(units, "cpu"), cosine_neighbors._Bfloat16("cpu:0")
    call[where]()
    assert seen == [("ieee", "ieee", False)]


def test_texts_are_embedded_inside(
    allowed: None, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(find_model(str(tiny_embedder)), "fp32", "cpu")
    seen: list[tuple[Any, ...]] = []

    def noted(ids: Any) -> Any:
        seen.append(settings())
        return encoder.transform(ids)

    monkeypatch.setattr(embed, "load_encoder", lambda *_: replace(encoder, transform=noted))
    Embedder(str(tiny_embedder), "fp32", "cpu").encode(["one two three", "four"])
    assert set(seen) == {("ieee", "ieee", False)}
