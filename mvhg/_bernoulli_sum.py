"""The law of a sum of independent binomials, the building block of the exact hypergeometric law.

Fisher's law is the law of independent X_j ~ Binomial(m_j, sigmoid(theta + log omega_j)) given sum X_j = n, for any
real theta. So its normaliser, its moments and its conditionals are all probabilities P(S = s) of S = sum X_j.

P(S = s) is the Fourier inversion of a product of c closed-form characteristic functions. Moving theta to the saddle
point, where E[S] = s, makes s the mode of S: the integrand is then concentrated near frequency zero, at most
``_NUM_FREQUENCIES`` terms of the trapezoidal rule reach double precision whatever the sizes, and nothing cancels. The
cost of one log-probability is therefore O(c), for any n and m, and its error is relative, in the tails as well.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mvhg._binomial import log_sigmoid

# exp(-39) is about 1e-17: what is cut off, in frequency and by aliasing, is below double precision.
_LOG_PRECISION = 39.0
# The largest number of positive frequencies that these bounds need for any variance (reached near variance 19).
_NUM_FREQUENCIES = 28
_TILT_ITERATIONS = 24
_CHUNK_ELEMENTS = 1 << 22


def solve_tilt(size: Tensor, log_weights: Tensor, total: Tensor, stop_early: bool = False) -> Tensor:
    """The theta at which sum_j size_j sigmoid(theta + log_weights_j) = total (not differentiable).

    Newton's method on the log odds of the mean fraction, whose slope lies in (0, 1] and is exactly 1 far from any
    plateau, kept inside a shrinking bracket. The number of iterations is fixed, so it can be traced and batched.

    Args:
        size: group sizes, float64 [..., c].
        log_weights: log importance weights, float64 [..., c].
        total: 0 <= total <= sum of sizes, float64 [...]. At the two ends the tilt is infinite: a finite value beyond
            which the tail is below 1e-20 is returned.
        stop_early: whether to stop once all have converged, which cannot be traced or batched.

    Returns:
        Tensor [...].
    """
    with torch.no_grad():
        size, log_weights, total = size.detach(), log_weights.detach(), total.detach()
        present = size > 0
        population = size.sum(-1)
        fraction = ((total + 1e-25) / (population + 1e-25)).clamp(1e-25, 1.0)
        rest = ((population - total) / population.clamp(min=1)).clamp(min=1e-25)
        target = fraction.log() - rest.log()
        low = target - torch.where(present, log_weights, -math.inf).amax(-1)
        high = target - torch.where(present, log_weights, math.inf).amin(-1)
        empty = population == 0
        low, high = torch.where(empty, 0.0, low), torch.where(empty, 0.0, high)
        theta = 0.5 * (low + high)
        for _ in range(_TILT_ITERATIONS):
            logits = theta.unsqueeze(-1) + log_weights
            chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
            mean, remainder = (size * chance).sum(-1), (size * opposite).sum(-1)
            # Compare on the side that is small, where the difference keeps its relative accuracy.
            error = torch.where(total * 2 <= population, mean - total, (population - total) - remainder)
            if stop_early and bool((error.abs() <= 1e-6 * (size * chance * opposite).sum(-1).sqrt()).all()):
                break
            low, high = torch.where(error < 0, theta, low), torch.where(error > 0, theta, high)
            slope = (size * chance * opposite).sum(-1) * population / (mean * remainder).clamp(min=1e-300)
            gap = mean.clamp(min=1e-300).log() - remainder.clamp(min=1e-300).log() - target
            newton = theta - gap / slope.clamp(min=1e-300)
            # A step that leaves the bracket by more than rounding is a plateau: bisect there.
            slack = 1e-12 * (1 + theta.abs())
            outside = (newton < low - slack) | (newton > high + slack)
            theta = torch.where(outside, 0.5 * (low + high), newton.clamp(low, high))
        return theta


def aliasing_period(variance: Tensor, log_precision: float = _LOG_PRECISION) -> Tensor:
    """An odd period L with P(|S - E[S]| >= L) <= exp(-log_precision), by Bernstein's inequality; float64 [...]."""
    a = log_precision / 3
    bound = a + torch.sqrt(a * a + 2 * log_precision * variance)
    return 2 * torch.ceil(bound / 2) + 1


class _Spectrum(NamedTuple):
    """The integrand of the inversion formula at the positive frequencies, each [..., K] or [..., c, K]."""

    period: Tensor  # [...]
    modulus: Tensor  # [..., K], with zeros at the frequencies past the period's half
    phase: Tensor  # [..., K]
    half_sine_squared: Tensor  # [..., 1, K]: sin^2(f / 2)
    sine: Tensor  # [..., 1, K]: sin(f)
    damping: Tensor  # [..., c, K]: |1 - p + p exp(i f)|^2


def _spectrum(size: Tensor, logits: Tensor, total: Tensor) -> _Spectrum:
    chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
    variance = (size * chance * opposite).sum(-1).detach()
    period = aliasing_period(variance)
    index = torch.arange(1, _NUM_FREQUENCIES + 1, dtype=period.dtype, device=period.device)
    frequency = (2 * math.pi * index / period.unsqueeze(-1)).unsqueeze(-2)  # [..., 1, K]
    half_sine_squared, sine = torch.sin(frequency / 2).square(), torch.sin(frequency)
    chance, opposite, size = chance.unsqueeze(-1), opposite.unsqueeze(-1), size.unsqueeze(-1)
    damping = (1 - 4 * chance * opposite * half_sine_squared).clamp(min=1e-300)
    log_modulus = 0.5 * (size * torch.log1p((-4 * chance * opposite * half_sine_squared).clamp(min=-1 + 1e-16))).sum(-2)
    angle = torch.atan2(chance * sine, 1 - 2 * chance * half_sine_squared)
    phase = (size * angle).sum(-2) - total.unsqueeze(-1) * frequency.squeeze(-2)
    inside = 2 * index < period.unsqueeze(-1)
    modulus = torch.where(inside, log_modulus, -math.inf).exp()
    return _Spectrum(period, modulus, phase, half_sine_squared, sine, damping)


def _probability(spectrum: _Spectrum) -> Tensor:
    return (1 + 2 * (spectrum.modulus * torch.cos(spectrum.phase)).sum(-1)) / spectrum.period


def log_sum_probability(size: Tensor, logits: Tensor, total: Tensor, tilted: bool = False) -> Tensor:
    """log P(S = total) for S a sum of independent Binomial(size_j, sigmoid(logits_j)).

    Args:
        size: numbers of trials, float64 [..., c].
        logits: log odds, float64 [..., c], differentiable to any order.
        total: integer-valued float64 [...]; outside 0..sum(size) gives -inf.
        tilted: whether E[S] = total already, by ``solve_tilt``, so that it need not be solved again.

    Returns:
        Tensor of the broadcast batch shape [...], accurate relative to the probability itself.
    """
    shape = torch.broadcast_tensors(size[..., 0], logits[..., 0], total)[0].shape
    groups = size.shape[-1]
    per_row = max(1, groups * _NUM_FREQUENCIES)
    if shape.numel() * per_row <= _CHUNK_ELEMENTS:
        return _log_sum_probability(size, logits, total, tilted)
    parts = [a.expand(*shape, groups).reshape(-1, groups) for a in (size, logits)]
    rows = max(1, _CHUNK_ELEMENTS // per_row)
    chunks = zip(*(part.split(rows) for part in (*parts, total.expand(shape).reshape(-1))), strict=True)
    return torch.cat([_log_sum_probability(m, w, n, tilted) for m, w, n in chunks]).reshape(shape)


def _log_sum_probability(size: Tensor, logits: Tensor, total: Tensor, tilted: bool) -> Tensor:
    inside = (total >= 0) & (total <= size.sum(-1))
    total = torch.where(inside, total, torch.zeros_like(total))
    if tilted:
        return torch.where(inside, torch.log(_probability(_spectrum(size, logits, total))), -math.inf)
    shift = solve_tilt(size, logits, total)
    moved = logits + shift.unsqueeze(-1)
    log_probability = torch.log(_probability(_spectrum(size, moved, total)))
    change = (size * (log_sigmoid(-logits) - log_sigmoid(-moved))).sum(-1) - total * shift
    return torch.where(inside, log_probability + change, -math.inf)


def conditional_moments(size: Tensor, logits: Tensor, total: Tensor, joint: bool) -> tuple[Tensor, Tensor]:
    """Mean and (co)variance of X given S = total, at a tilt where E[S] = total (see ``solve_tilt``).

    Both are derivatives of the log-characteristic function averaged over the inversion integrand; they are taken
    about the unconditional means, from which they differ by O(1), so that no digits cancel for large counts.

    Args:
        size: numbers of trials, float64 [..., c].
        logits: tilted log odds, float64 [..., c], differentiable.
        total: integer-valued float64 [...].
        joint: whether to return the covariance matrix instead of the variances.

    Returns:
        Mean [..., c] and variance [..., c] or covariance [..., c, c].
    """
    spectrum = _spectrum(size, logits, total)
    scale = (spectrum.period * _probability(spectrum)).unsqueeze(-1)
    # Twice, since the negative frequencies are the complex conjugates.
    weight = torch.polar(2 * spectrum.modulus / scale, spectrum.phase)  # [..., K]
    chance, opposite = torch.sigmoid(logits).unsqueeze(-1), torch.sigmoid(-logits).unsqueeze(-1)
    spread = size.unsqueeze(-1) * chance * opposite  # [..., c, 1]
    # d/d logits of the log-characteristic function, minus the mean: m p q (z - 1) / (1 + p (z - 1)), z = exp(i f).
    first = torch.complex(
        (-2 * spectrum.half_sine_squared * (opposite - chance)).expand_as(spectrum.damping),
        spectrum.sine.expand_as(spectrum.damping),
    ) * (spread / spectrum.damping)
    shift = (weight.unsqueeze(-2) * first).sum(-1).real
    mean = size * chance.squeeze(-1) + shift
    denominator = torch.complex(1 - 2 * chance * spectrum.half_sine_squared, chance * spectrum.sine)
    rotation = torch.complex((1 - 2 * spectrum.half_sine_squared), spectrum.sine)
    second = spread * rotation / denominator.square()
    curvature = spread.squeeze(-1) / scale + (weight.unsqueeze(-2) * second).sum(-1).real
    if not joint:
        return mean, curvature + (weight.unsqueeze(-2) * first.square()).sum(-1).real - shift.square()
    products = torch.einsum("...k,...ik,...jk->...ij", weight, first, first).real
    return mean, products + torch.diag_embed(curvature) - shift.unsqueeze(-1) * shift.unsqueeze(-2)
