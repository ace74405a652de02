"""Laws of the sums of the last groups, all at once, by a discrete Fourier transform of moderate length.

With S_i = sum_{j > i} X_j under one common tilt, returns P(S_i = s mod L) for all suffixes i and residues s. The period
L only has to exceed the spread of the sum of all groups: drawing group after group from these tables gives the law of
X given sum X = n mod L, which differs from X given sum X = n by the chance of missing n by L or more. The error is
absolute (below exp(-log_precision) plus rounding), which suits sampling; tails need ``log_sum_probability``.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def suffix_sums(size: Tensor, logits: Tensor, period: int) -> Tensor:
    """P(S_i = s mod period), float64 [E, c - 2, period] for i = 0..c - 3 and s = 0..period - 1.

    Args:
        size: group sizes, float64 [E, c].
        logits: tilted log odds, float64 [E, c], differentiable once.
        period: length of the transform.
    """
    return _SuffixSums.apply(size, logits, period)


class _SuffixSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, size: Tensor, logits: Tensor, period: int) -> Tensor:
        size, logits = size[:, 1:].unsqueeze(-1), logits[:, 1:].unsqueeze(-1)
        frequency = (2 * math.pi / period) * torch.arange(period // 2 + 1, dtype=size.dtype, device=size.device)
        chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
        half_sine_squared, sine = torch.sin(frequency / 2).square(), torch.sin(frequency)
        damping = -4 * chance * opposite * half_sine_squared
        log_modulus = 0.5 * size * torch.log1p(damping.clamp(min=-1 + 1e-16))
        phase = size * torch.atan2(chance * sine, 1 - 2 * chance * half_sine_squared)
        # Sums over groups i + 1 .. c - 1; the last group alone is closed-form elsewhere.
        log_modulus, phase = (a.flip(1).cumsum(1).flip(1)[:, :-1] for a in (log_modulus, phase))
        spectrum = torch.polar(log_modulus.exp(), -phase)  # [E, c - 2, period // 2 + 1]
        ctx.save_for_backward(size, chance, opposite, spectrum)
        ctx.period = period
        return torch.fft.irfft(spectrum, n=period)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        size, chance, opposite, spectrum = ctx.saved_tensors
        period = ctx.period
        frequency = (2 * math.pi / period) * torch.arange(period // 2 + 1, dtype=size.dtype, device=size.device)
        half_sine_squared, sine = torch.sin(frequency / 2).square(), torch.sin(frequency)
        # d log(characteristic function) / d logits = m p q (z - 1) / (1 + p (z - 1)), conjugated as ``spectrum`` is.
        scale = size * chance * opposite / (1 - 4 * chance * opposite * half_sine_squared).clamp(min=1e-300)
        slope = torch.complex(-2 * half_sine_squared * (opposite - chance) * scale, -sine * scale)
        # By Parseval, sum_s grad(s) table(s) is a sum over frequencies; negative ones are conjugates.
        multiplicity = torch.full_like(frequency, 2.0)
        multiplicity[0] = 1.0
        if period % 2 == 0:
            multiplicity[-1] = 1.0
        product = torch.fft.rfft(grad, n=period).conj() * spectrum * (multiplicity / period)
        # Group j enters the suffixes i < j: positions 1..c-1 collect suffixes 0..j-1.
        collected = product.cumsum(1)
        collected = torch.cat([collected, collected[:, -1:]], 1)
        result = (collected.real * slope.real - collected.imag * slope.imag).sum(-1)
        return None, torch.nn.functional.pad(result, (1, 0)), None
