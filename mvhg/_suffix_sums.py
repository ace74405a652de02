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

from mvhg._once import once_only


def suffix_sums(size: Tensor, logits: Tensor, period: int, log_precision: float) -> Tensor:
    """P(S_i = s mod period), float64 [E, c - 2, period] for i = 0..c - 3 and s = 0..period - 1.

    Args:
        size: group sizes, float64 [E, c].
        logits: tilted log odds, float64 [E, c], differentiable once.
        period: length of the transform.
        log_precision: frequencies at which the characteristic function is below exp(-log_precision) are left out.
    """
    with torch.no_grad():
        variance = size * torch.sigmoid(logits) * torch.sigmoid(-logits)
        least = float(variance[:, -2:].sum(1).min())
    # |characteristic function| <= exp(-2 variance sin^2(f / 2)), and the shortest suffix varies least.
    reach = math.sqrt(log_precision / (2 * max(least, 1e-9)))
    cutoff = math.pi if reach >= 1 else 2 * math.asin(reach)
    frequencies = min(period // 2, int(cutoff * period / (2 * math.pi)) + 1) + 1
    return _SuffixSums.apply(size, logits, period, frequencies)[0]


class _SuffixSums(torch.autograd.Function):
    @staticmethod
    def forward(size: Tensor, logits: Tensor, period: int, frequencies: int) -> tuple[Tensor, Tensor]:
        size, logits = size[:, 1:].unsqueeze(-1), logits[:, 1:].unsqueeze(-1)
        half_sine_squared, sine = _sines(period, frequencies, size)
        chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
        damping = -4 * chance * opposite * half_sine_squared
        log_modulus = 0.5 * size * torch.log1p(damping.clamp(min=-1 + 1e-16))
        phase = size * torch.atan2(chance * sine, 1 - 2 * chance * half_sine_squared)
        # Sums over groups i + 1 .. c - 1; the last group alone is closed-form elsewhere.
        log_modulus, phase = (a.flip(1).cumsum(1).flip(1)[:, :-1] for a in (log_modulus, phase))
        spectrum = torch.polar(log_modulus.exp(), -phase)  # [E, c - 2, frequencies]
        return torch.fft.irfft(spectrum, n=period), spectrum

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: tuple[Tensor, Tensor]) -> None:
        size, logits, ctx.period, ctx.frequencies = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(size, logits, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[None, Tensor, None, None]:
        size, logits, spectrum = ctx.saved_tensors
        incoming, grad = grad, grad.detach()
        size, logits = size[:, 1:].unsqueeze(-1), logits.detach()[:, 1:].unsqueeze(-1)
        period, frequencies = ctx.period, ctx.frequencies
        half_sine_squared, sine = _sines(period, frequencies, size)
        chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
        # d log(characteristic function) / d logits = m p q (z - 1) / (1 + p (z - 1)), conjugated as ``spectrum`` is.
        scale = size * chance * opposite / (1 - 4 * chance * opposite * half_sine_squared).clamp(min=1e-300)
        # By Parseval, sum_s grad(s) table(s) is a sum over frequencies; negative ones are conjugates.
        multiplicity = torch.full_like(sine, 2.0)
        multiplicity[0] = 1.0
        if 2 * (frequencies - 1) == period:
            multiplicity[-1] = 1.0
        product = torch.fft.rfft(grad, n=period)[..., :frequencies].conj() * spectrum * (multiplicity / period)
        # Group j enters the suffixes i < j: positions 1..c-1 collect suffixes 0..j-1.
        collected = product.cumsum(1)
        collected = torch.cat([collected, collected[:, -1:]], 1)
        slope = collected.real * (-2 * half_sine_squared * (opposite - chance)) + collected.imag * sine
        return None, once_only(torch.nn.functional.pad((slope * scale).sum(-1), (1, 0)), incoming), None, None


def _sines(period: int, frequencies: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """sin^2(f / 2) and sin(f) at the frequencies f of the transform, [frequencies] each."""
    frequency = (2 * math.pi / period) * torch.arange(frequencies, dtype=like.dtype, device=like.device)
    return torch.sin(frequency / 2).square(), torch.sin(frequency)
