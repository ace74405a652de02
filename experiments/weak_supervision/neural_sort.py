"""NeuralSort: a relaxed permutation that sorts in descending order (Grover et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor


def neural_sort(scores: Tensor, temperature: Tensor | float) -> Tensor:
    """Rows of a relaxed permutation matrix; row i is a law of which element has rank i (Grover et al. 2019, Eq. 5).

    Args:
        scores: [..., n].
        temperature: positive; towards 0 the rows become one-hot.

    Returns:
        [..., n, n]; every row sums to 1, ``result @ scores`` is sorted in descending order as the temperature falls.
    """
    n = scores.shape[-1]
    distances = (scores.unsqueeze(-1) - scores.unsqueeze(-2)).abs().sum(-1)  # [..., n]
    scaling = n + 1 - 2 * torch.arange(1, n + 1, device=scores.device, dtype=scores.dtype)
    logits = scaling.unsqueeze(-1) * scores.unsqueeze(-2) - distances.unsqueeze(-2)  # [..., rank, element]
    return torch.softmax(logits / temperature, dim=-1)


def gumbel_like(scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of the shape of ``scores``; added to log scores it makes sorting a Plackett-Luce draw."""
    uniform = torch.rand(scores.shape, device=scores.device, dtype=scores.dtype, generator=generator)
    tiny = torch.finfo(scores.dtype).tiny
    return -(-uniform.clamp(min=tiny).log()).clamp(min=tiny).log()
