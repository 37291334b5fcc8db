"""A second head that takes length upon itself, so that the first one is free of it: ODIN."""

from __future__ import annotations

import torch

__all__ = ["correlation", "decorrelation"]


def decorrelation(
    outputs: torch.Tensor, chars: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """``|ρ(r_Q, L)| - ρ(r_L, L) + |cos(W_Q, W_L)|`` of the answers of a batch, a number.

    Chen et al. 2024, arXiv:2402.07319, section 3: ``outputs`` ``(B, K, 2)`` are those of the
    quality head Q and of the length head L, ``chars`` ``(B, K)`` the lengths of the answers,
    ``mask`` ``(B, K)`` True where there is one, ``weight`` ``(2, H)`` the weights of both heads.
    There the last term is the product of both; the cosine does not change with their sizes.

    >>> outputs = torch.tensor([[[1.0, 1.0], [3.0, 2.0], [1.0, 3.0]]])
    >>> chars = torch.tensor([[10.0, 20.0, 30.0]])
    >>> heads = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    >>> round(decorrelation(outputs, chars, chars > 0, heads).item(), 4)  # 0 - 1 + 0.6
    -0.4
    """
    own = outputs[mask]
    lengths = chars[mask].to(own)
    quality, length = (correlation(own[:, head], lengths) for head in (0, 1))
    cosine = torch.nn.functional.cosine_similarity(weight[0], weight[1], dim=0)
    return quality.abs() - length + cosine.abs()


def correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation; 0 where one of the two does not vary."""
    x, y = first - first.mean(), second - second.mean()
    spread = (x.square().sum() * y.square().sum()).clamp(min=1e-12).sqrt()
    return (x * y).sum() / spread
