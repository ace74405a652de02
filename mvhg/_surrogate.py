"""What straight-through draws have in common: their three forms, and what a loss gains by each count."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def forms(counts: Tensor, ladder: Tensor, dtype: torch.dtype, selected: bool) -> tuple[Tensor, Any, Any]:
    """Counts [..., c], and if ``selected`` one-hot vectors [..., c, M + 1] and prefix masks [..., c, M]; in ``dtype``.

    Args:
        counts: whole numbers [..., c].
        ladder: 0..M.
        dtype: of the results.
        selected: None stands for the vectors otherwise.
    """
    number = counts.to(dtype)
    if not selected:
        return number, None, None
    counts = counts.unsqueeze(-1)
    return number, (counts == ladder).to(dtype), (counts > ladder[:-1]).to(dtype)


def values_of_counts(one_hot_grad: Tensor | None, mask_grad: Tensor | None) -> Tensor | None:
    """What the loss gains, to first order and up to a constant, if a group's count is 0..M: [..., c, M + 1] or None."""
    values = one_hot_grad
    if mask_grad is not None:
        prefix = pad(mask_grad.cumsum(-1), (1, 0))
        values = prefix if values is None else values + prefix
    return values


def rises(around: Tensor, dim: int) -> Tensor:
    """Derivative in s of log-weights T(s + 1), T(s), ..., T(s - k) along ``dim``, -inf where s is out of reach.

    Central differences, one-sided at the ends of what is in reach; in ``dim`` two fewer.
    """
    rise = -around.diff(dim=dim)
    known = rise.isfinite()
    rise = torch.where(known, rise, 0.0)
    length = rise.shape[dim] - 1
    before, after = rise.narrow(dim, 0, length), rise.narrow(dim, 1, length)
    known = known.to(rise.dtype)
    return (before + after) / (known.narrow(dim, 0, length) + known.narrow(dim, 1, length)).clamp_(min=1)


def neighbours(counts: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The counts beside each one within 0..size, and the factors that make a mean difference of what stands there.

    Returns:
        int64 [..., 2], and float64 [..., 2].
    """
    ends = torch.stack([(counts - 1).clamp(min=0), torch.minimum(counts + 1, size)], -1)
    gap = (ends[..., 1:] - ends[..., :1]).clamp(min=1)
    return ends, torch.tensor([-1.0, 1.0], dtype=torch.float64) / gap
