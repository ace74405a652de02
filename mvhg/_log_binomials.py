"""Logarithms of binomial coefficients, up to a constant a row."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._kept import CPU, Memory, may_be_kept

# Largest group whose coefficients are kept as a whole; sums of more logarithms lose digits.
LONGEST_KEPT = 1 << 13
_KEPT: Memory[Tensor] = Memory(64)


def log_binomials(size: Tensor, low: Tensor, count: int) -> Tensor:
    """log C(m, x) - log C(m, low) for x = low + 0..count-1: [E, k, count], -inf beyond m.

    Sums of logarithms of ratios: no factorials of the sizes, whose logarithms lose digits, nor tables of their length.
    """
    steps = torch.arange(1, count, dtype=torch.float64, device=size.device)
    low = low.unsqueeze(-1)
    ratios = ((size.unsqueeze(-1) - low + 1) - steps).clamp(min=0) / (low + steps)
    return pad(ratios.log().cumsum(-1), (1, 0))


def kept_log_binomials(sizes: tuple[int, ...]) -> Tensor:
    """log C(m, x), x = 0..2 M + 1, on the CPU, -inf beyond m: float64 [c, 2 M + 2], or [1, ...] if sizes are alike.

    Kept between calls: they depend on the sizes alone.
    """
    sizes = sizes[:1] if len(set(sizes)) == 1 else sizes
    found = _KEPT.get(sizes, CPU)
    if found is None:
        with torch.inference_mode(False), torch.no_grad():
            size = torch.tensor([sizes], dtype=torch.float64, device=CPU)
            found = log_binomials(size, torch.zeros_like(size), max(sizes) + 1)[0]
            found = pad(found, (0, max(sizes) + 1), value=-math.inf).contiguous()
        if may_be_kept(found):
            _KEPT.keep(sizes, CPU, found)
    return found
