"""Binomial coefficients."""

from __future__ import annotations

import torch
from torch import Tensor


def log_binomials(number: int, like: Tensor) -> Tensor:
    """Log of (number choose k) for k = 0, ..., number, in the dtype and on the device of ``like``; [number + 1]."""
    size = like.new_tensor(float(number))
    counts = torch.arange(number + 1, device=like.device, dtype=like.dtype)
    return torch.lgamma(size + 1) - torch.lgamma(counts + 1) - torch.lgamma(size - counts + 1)
