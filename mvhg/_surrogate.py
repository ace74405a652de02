"""What straight-through draws have in common: their three forms, and what a loss gains by each count."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

# Entries of a table of all possible draws that is kept.
_MOST_KEPT = 1 << 18


class Forms:
    """The three forms of every possible draw of an urn, one a row; kept if there are few."""

    def __init__(self, counts: Tensor, ladder: Tensor) -> None:
        """Of whole counts, int64 [R, c], and the numbers 0..M."""
        self.counts, self.ladder = counts, ladder
        self._kept: dict[torch.dtype, tuple[Tensor, Any, Any]] = {}
        self._few = 2 * counts.numel() * len(ladder) <= _MOST_KEPT

    def at(self, rows: Tensor, shape: torch.Size, dtype: torch.dtype, selected: bool) -> tuple[Tensor, Any, Any]:
        """As ``forms_of``, of the counts in ``rows``, int64 [B]; ``shape`` is that of the counts wanted."""
        if not self._few:
            return forms_of(self.counts.index_select(0, rows).view(shape), self.ladder, dtype, selected)
        kept = self._kept.get(dtype)
        if kept is None:
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept[dtype] = forms_of(self.counts, self.ladder, dtype, True)
        drawn = [form.index_select(0, rows) for form in (kept if selected else kept[:1])]
        if len(shape) != 2:
            drawn = [form.view(*shape, *form.shape[2:]) for form in drawn]
        return (drawn[0], drawn[1], drawn[2]) if selected else (drawn[0], None, None)


def forms_of(counts: Tensor, ladder: Tensor, dtype: torch.dtype, selected: bool) -> tuple[Tensor, Any, Any]:
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


def values_of_counts(
    one_hot_grad: Tensor | None,
    mask_grad: Tensor | None,
    counts_grad: Tensor | None = None,
    ladder: Tensor | None = None,
) -> Tensor | None:
    """What the loss gains, to first order and up to a constant, if a group's count is 0..M: [..., c, M + 1] or None.

    Args:
        one_hot_grad, mask_grad: of the loss, in the vectors [..., c, M + 1] and masks [..., c, M].
        counts_grad: of the loss, in the counts [..., c], unless that part is kept apart.
        ladder: 0..M, where ``counts_grad`` is given.
    """
    values = one_hot_grad
    if mask_grad is not None:
        prefix = pad(mask_grad.cumsum(-1), (1, 0))
        values = prefix if values is None else values + prefix
    if counts_grad is not None:
        assert ladder is not None
        by_count = counts_grad.unsqueeze(-1) * ladder
        values = by_count if values is None else values + by_count
    return values


def central_rises(around: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Derivative in s of log-weights T(s + 1), T(s), ..., T(s - k) along ``dim``, -inf where s is out of reach.

    Central differences, one-sided at the ends of what is in reach; in ``dim`` two fewer.
    """
    length = around.shape[dim] - 1
    rise = (around.narrow(dim, 0, length) - around.narrow(dim, 1, length)).to(dtype)
    known = (rise.abs() < math.inf).to(dtype)
    rise.nan_to_num_(0.0, 0.0, 0.0)
    both = [part.narrow(dim, 0, length - 1) + part.narrow(dim, 1, length - 1) for part in (rise, known)]
    return both[0] / both[1].clamp(min=1)  # in place, it has no rule for vmap


def slopes_with_what_follows(
    last: Tensor, slopes: Tensor | None, by_count: Tensor | None, by_value: Tensor | None, dim: int
) -> Tensor:
    """Derivative in each soft count but the last group's, through what it leaves for the groups after, too.

    Args:
        last: derivative in the last group's count.
        slopes: derivative in every group's count, groups along ``dim``; None where the loss doesn't look at counts.
        by_count: how each soft count but the first depends on what is left to draw; None of two groups.
        by_value: how what the values gain by it does; None without values.
        dim: of the groups in arguments and result.
    """
    direct = None if slopes is None else slopes.unbind(dim)
    counts = () if by_count is None else by_count.unbind(dim)
    values = None if by_value is None else by_value.unbind(dim)
    follows = [last]  # the derivative in what is left, after each group, the last first
    for i in range(len(counts) - 1, -1, -1):
        change = -last if direct is None else direct[i + 1] - last
        last = torch.addcmul(last, change, counts[i])
        last = last if values is None else last + values[i]
        follows.append(last)
    after = torch.stack(follows[::-1], dim)
    return -after if slopes is None else slopes.narrow(dim, 0, len(follows)) - after


def neighbours(counts: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The counts beside each one within 0..size, and the factors that make a mean difference of what stands there.

    Returns:
        int64 [..., 2], and float64 [..., 2].
    """
    ends = torch.stack([(counts - 1).clamp(min=0), torch.minimum(counts + 1, size)], -1)
    gap = (ends[..., 1:] - ends[..., :1]).clamp(min=1)
    return ends, torch.tensor([-1.0, 1.0], dtype=torch.float64, device=gap.device) / gap


def through_softmax(gains: Tensor, soft: Tensor) -> Tensor:
    """Gradient in log-weights [X, B], over the inverse temperature, of what is gained by each count of a softmax."""
    grad = gains * soft
    return grad.addcmul_(soft, grad.sum(0), value=-1)
