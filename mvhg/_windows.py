"""Reading many short stretches of a table at once, as strided views: no index per entry."""

from typing import Any

import torch
from torch import Tensor

from mvhg._once import once_only


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


def log_factorials(largest: int, like: Tensor) -> Tensor:
    """log k! for k = 0..largest; pad with +inf, so that sums of its negatives are -inf outside the support."""
    return torch.lgamma(torch.arange(1, largest + 2, dtype=torch.float64, device=like.device))


def log_factorial_slopes(largest: int, like: Tensor) -> Tensor:
    """Central differences (log (k+1)! - log (k-1)!) / 2 for k = 1..largest, and 0 for k = 0."""
    k = torch.arange(0, largest + 1, dtype=torch.float64, device=like.device)
    return 0.5 * (k * (k + 1)).clamp(min=1).log()


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
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, start: Tensor, width: int, instance: Tensor | None) -> Tensor:
        tiled, first = _tile(values, start, width, instance)
        return tiled.reshape(-1).unfold(0, width, 1).index_select(0, first)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, Tensor | None], output: Tensor) -> None:
        values, start, ctx.width, instance = inputs
        ctx.save_for_backward(values, start, instance)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        values, start, instance = ctx.saved_tensors
        incoming, grad = grad, grad.detach()
        tiled, first = _tile(values.detach(), start, ctx.width, instance)
        rows, columns = tiled.shape
        index = first.unsqueeze(1) + torch.arange(ctx.width, device=grad.device)
        if instance is None:
            index = index - torch.arange(rows, device=grad.device).unsqueeze(1) * columns
            tiled = torch.zeros_like(tiled).scatter_add(1, index, grad)
        else:
            tiled = torch.zeros_like(tiled).reshape(-1).index_add(0, index.reshape(-1), grad.reshape(-1))
        return once_only(tiled.reshape(rows, -1, values.shape[1]).sum(1).flip(1), incoming), None, None, None


def _tile(values: Tensor, start: Tensor, width: int, instance: Tensor | None) -> tuple[Tensor, Tensor]:
    """The reversed table, repeated so that every window is contiguous, and where each window begins in it."""
    period = values.shape[1]
    tiled = values.flip(1).repeat(1, -(-(period + width) // period))
    row = torch.arange(len(values), device=values.device) if instance is None else instance
    return tiled, row * tiled.shape[1] + period - 1 - torch.remainder(start, period)
