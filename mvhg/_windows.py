"""Reading many short stretches of a table at once, as strided views: no index per entry."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class PaddedTable:
    """A function on 0..K, with one value for everything outside, read in windows of a fixed width.

    Args:
        values: [K + 1].
        outside: value elsewhere.
        width: entries in a window.
    """

    def __init__(self, values: Tensor, outside: float, width: int) -> None:
        padding = values.new_full((width,), outside)
        padded = torch.cat([padding, values, padding])
        self._width, self._last = width, len(values) + width
        self._ascending = padded.unfold(0, width, 1)
        self._descending = padded.flip(0).unfold(0, width, 1)

    def ascending(self, start: Tensor) -> Tensor:
        """Values at start, start + 1, ...: [R, width] for int64 [R]."""
        return self._ascending.index_select(0, (start + self._width).clamp(0, self._last))

    def descending(self, start: Tensor) -> Tensor:
        """Values at start, start - 1, ...: [R, width] for int64 [R]."""
        return self._descending.index_select(0, (self._last - 1 - start).clamp(0, self._last))


def log_factorials(largest: int, width: int, like: Tensor) -> PaddedTable:
    """log k! for k = 0..largest and +inf elsewhere, so that sums of its negatives are -inf outside the support."""
    k = torch.arange(1, largest + 2, dtype=torch.float64, device=like.device)
    return PaddedTable(torch.lgamma(k), math.inf, width)


def log_factorial_slopes(largest: int, width: int, like: Tensor) -> PaddedTable:
    """Central differences (log (k+1)! - log (k-1)!) / 2 for k = 1..largest, 0 elsewhere."""
    k = torch.arange(0, largest + 1, dtype=torch.float64, device=like.device)
    return PaddedTable(0.5 * (k * (k + 1)).clamp(min=1).log(), 0.0, width)


def periodic_windows(values: Tensor, start: Tensor, width: int, instance: Tensor | None) -> Tensor:
    """Entries start, start - 1, ... modulo the period of one row of a table, [R, width].

    Args:
        values: [E, V], differentiable once.
        start: int64 [R].
        width: entries in a window.
        instance: row of the table for each window, int64 [R]; None where window e reads row e.
    """
    return _PeriodicWindows.apply(values, start, width, instance)


class _PeriodicWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, start: Tensor, width: int, instance: Tensor | None) -> Tensor:
        period = values.shape[1]
        copies = -(-(period + width) // period)
        tiled = values.flip(1).repeat(1, copies)
        column = period - 1 - torch.remainder(start, period)
        row = torch.arange(len(values), device=values.device) if instance is None else instance
        first = row * tiled.shape[1] + column
        ctx.save_for_backward(first)
        ctx.shape, ctx.tiled = values.shape, tiled.shape
        return tiled.reshape(-1).unfold(0, width, 1).index_select(0, first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (first,) = ctx.saved_tensors
        rows, columns = ctx.tiled
        index = first.unsqueeze(1) + torch.arange(grad.shape[1], device=grad.device)
        if len(grad) == rows:
            index -= torch.arange(rows, device=grad.device).unsqueeze(1) * columns
            tiled = grad.new_zeros(rows, columns).scatter_add_(1, index, grad)
        else:
            tiled = grad.new_zeros(rows * columns).index_add_(0, index.reshape(-1), grad.reshape(-1))
        return tiled.reshape(rows, -1, ctx.shape[1]).sum(1).flip(1), None, None, None
