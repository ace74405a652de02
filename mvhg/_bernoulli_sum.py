"""The law of a sum of independent binomials, the building block of the exact hypergeometric law.

Fisher's law is the law of independent X_j ~ Binomial(m_j, sigmoid(theta + log omega_j)) given sum X_j = n, for any
real theta. So its normaliser, its moments and its conditionals are all probabilities P(S = s) of S = sum X_j.

P(S = s) is the Fourier inversion of a product of c closed-form characteristic functions. Moving theta to the saddle
point, where E[S] = s, makes s the mode of S: the integrand is then concentrated near frequency zero, at most
``_MOST_FREQUENCIES`` terms of the trapezoidal rule reach double precision whatever the sizes, and nothing cancels. The
cost of one log-probability is therefore O(c), for any n and m, and its error is relative, in the tails as well. The
formulas hold for any theta: one that is off by a fraction of the standard deviation of S costs no accuracy.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mvhg._binomial import log_sigmoid
from mvhg._tilt import MOST_BY_PLAIN_PHASE, solve_tilt

# exp(-39) is about 1e-17: what is cut off, in frequency and by aliasing, is below double precision.
_LOG_PRECISION = 39.0
# The largest number of positive frequencies that these bounds need for any variance (reached near variance 19).
_MOST_FREQUENCIES = 28
_CHUNK_ELEMENTS = 1 << 22


def half_of_period(variance: Tensor, log_precision: float = _LOG_PRECISION) -> Tensor:
    """h with P(|S - E[S]| >= L) <= exp(-log_precision) for L = 2 h + 1, by Bernstein's inequality; float64 [...]."""
    a = log_precision / 6
    return torch.ceil((a * a + (0.5 * log_precision) * variance).sqrt() + a)


def frequencies_for(population: int | None) -> int:
    """How many positive frequencies urns of at most this many elements need."""
    return _MOST_FREQUENCIES if population is None else max(1, min(_MOST_FREQUENCIES, (population + 1) // 2))


class Spectrum(NamedTuple):
    """The integrand of the inversion formula for P(S = total) at the K positive frequencies f, z = exp(i f).

    ``real`` and ``imaginary`` are of 2 / (L P(S = total)) times the integrand, so that the conditional mean of a
    function is its value at f = 0 over L P plus a sum with these weights (negative frequencies are the conjugates).
    """

    probability: Tensor  # [...]
    constant: Tensor  # [...]: 1 / (L P), the weight of frequency 0
    real: Tensor  # [..., K]
    imaginary: Tensor  # [..., K]
    half: Tensor  # [..., K]: sin^2(f / 2)
    sine: Tensor  # [..., K]: sin(f)
    inverse: Tensor  # [..., c, K]: 1 / |1 - p + p z|^2
    chance: Tensor  # [..., c]: p
    opposite: Tensor  # [..., c]: 1 - p
    spread: Tensor  # [..., c]: m p (1 - p)


def spectrum(
    size: Tensor, logits: Tensor, total: Tensor, frequencies: int = _MOST_FREQUENCIES, population: int | None = None
) -> Spectrum:
    """See ``Spectrum``; sizes and log odds float64 [..., c], total [...], near E[S]; differentiable in the log odds.

    ``population`` is that of all the urns, where the host knows it.
    """
    chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
    product = chance * opposite
    spread = size * product
    half_period = half_of_period(spread.detach().sum(-1))
    # All residues of 0..population are told apart by this one.
    if population is None:
        half_period = torch.minimum(half_period, torch.floor((size.sum(-1) + 1) / 2))
    else:
        half_period = half_period.clamp(max=(population + 1) // 2)
    period = 2 * half_period + 1
    turn = 2 * math.pi
    turns = torch.arange(turn, (frequencies + 0.5) * turn, turn, dtype=period.dtype, device=period.device)
    frequency = turns / period.unsqueeze(-1)  # [..., K]
    half, sine = torch.sin(frequency / 2).square(), torch.sin(frequency)
    lost = (product.unsqueeze(-1) * (-4 * half).unsqueeze(-2)).clamp(min=-1 + 1e-16)  # [..., c, K]
    turned, rare, common, rest = size, chance, opposite, total
    if population is None or population > MOST_BY_PLAIN_PHASE:
        turned, rare, common, rest = mostly_left(size, chance, opposite, total)
    # 1 - p + p z is 1 - p + p cos(f) + i p sin(f).
    across = torch.addcmul(common.unsqueeze(-1), rare.unsqueeze(-1), torch.cos(frequency).unsqueeze(-2))
    angle = torch.atan2(rare.unsqueeze(-1) * sine.unsqueeze(-2), across)
    log_modulus = 0.5 * _weighted(size, torch.log1p(lost))
    phase = torch.addcmul(_weighted(turned, angle), rest.unsqueeze(-1), frequency, value=-1)
    modulus = log_modulus.masked_fill(frequency > math.pi, -math.inf).exp()
    real, imaginary = modulus * torch.cos(phase), modulus * torch.sin(phase)
    scale = 1 + 2 * real.sum(-1)
    inverse_scale = scale.reciprocal()
    twice = (2 * inverse_scale).unsqueeze(-1)
    return Spectrum(
        scale / period,
        inverse_scale,
        real * twice,
        imaginary * twice,
        half,
        sine,
        (1 + lost).reciprocal(),
        chance,
        opposite,
        spread,
    )


def mostly_left(size: Tensor, chance: Tensor, opposite: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same phases by groups that are mostly left: of one mostly drawn, what is left is counted, backwards.

    Since 1 - p + p z = z (p + (1 - p) / z). Otherwise the group's phase and the total's, both of the size of the group,
    would cancel.

    Returns:
        Sizes [..., c], negative where that is so, the chances, at most 1/2, and their opposites, and the total without
        those groups [...].
    """
    mostly = (chance > 0.5).to(size.dtype)
    signed = size * (1 - 2 * mostly)
    return signed, torch.minimum(chance, opposite), torch.maximum(chance, opposite), total - (size * mostly).sum(-1)


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """sum_j weights_j values_jk, [..., K] from [..., c] and [..., c, K]."""
    return (weights.unsqueeze(-1) * values).sum(-2)


def log_sum_probability(size: Tensor, logits: Tensor, total: Tensor) -> Tensor:
    """log P(S = total) for S a sum of independent Binomial(size_j, sigmoid(logits_j)).

    Args:
        size: numbers of trials, float64 [..., c].
        logits: log odds, float64 [..., c], differentiable to any order.
        total: integer-valued float64 [...]; outside 0..sum(size) gives -inf.

    Returns:
        Tensor of the broadcast batch shape [...], accurate relative to the probability itself.
    """
    shape = torch.broadcast_tensors(size[..., 0], logits[..., 0], total)[0].shape
    groups = size.shape[-1]
    per_row = max(1, groups * _MOST_FREQUENCIES)
    if shape.numel() * per_row <= _CHUNK_ELEMENTS:
        return _log_sum_probability(size, logits, total)
    parts = [a.expand(*shape, groups).reshape(-1, groups) for a in (size, logits)]
    rows = max(1, _CHUNK_ELEMENTS // per_row)
    chunks = zip(*(part.split(rows) for part in (*parts, total.expand(shape).reshape(-1))), strict=True)
    return torch.cat([_log_sum_probability(m, w, n) for m, w, n in chunks]).reshape(shape)


def _log_sum_probability(size: Tensor, logits: Tensor, total: Tensor) -> Tensor:
    inside = (total >= 0) & (total <= size.sum(-1))
    total = torch.where(inside, total, torch.zeros_like(total))
    shift = solve_tilt(size, logits, total)
    moved = logits + shift.unsqueeze(-1)
    log_probability = torch.log(spectrum(size, moved, total).probability)
    change = (size * (log_sigmoid(-logits) - log_sigmoid(-moved))).sum(-1) - total * shift
    return torch.where(inside, log_probability + change, -math.inf)


class Moments(NamedTuple):
    """Of X given S = total. Each is proportional to m p or m p (1 - p), hence accurate relative to itself."""

    ratio: Tensor  # [..., c]: E[X_j] / (m_j p_j)
    shift: Tensor  # [..., c]: E[X_j] - m_j p_j
    curvature: Tensor  # [..., c]: the covariance's part that is diagonal
    variance: Tensor  # [..., c]


def first_moment(s: Spectrum) -> tuple[Tensor, Tensor]:
    """``ratio`` and ``shift`` of ``Moments``.

    d log(1 - p + p z)^m / d logit = m p + m p q (z - 1) / (1 - p + p z), averaged over the inversion integrand.
    """
    sums = s.inverse @ torch.stack([s.real * s.half, s.imaginary * s.sine], -1)  # [..., c, 2]
    average = 2 * (s.opposite - s.chance) * sums[..., 0] + sums[..., 1]
    return 1 - s.opposite * average, -s.spread * average


def moments(s: Spectrum) -> Moments:
    """Of X given S = total.

    Second derivatives of the log-characteristic function and products of its first ones, averaged over the inversion
    integrand. The variance of the group that varies most is that of the others' sum, which it mirrors: its own terms
    would cancel where the others hardly vary.
    """
    ratio, shift = first_moment(s)
    skew = s.opposite - s.chance
    columns = [s.real, s.real * s.half, s.imaginary * s.sine, s.real * s.half.square()]
    columns += [s.real * s.sine.square(), s.imaginary * s.sine * s.half]
    sums = (s.inverse.square() @ torch.stack(columns, -1)).unbind(-1)  # 6 of [..., c]
    uneven = 1 - 2 * s.chance * s.opposite
    curvature = s.spread * (s.constant.unsqueeze(-1) + sums[0] - 2 * uneven * sums[1] - skew * sums[2])
    square = 4 * skew.square() * sums[3] - sums[4] + 4 * skew * sums[5]
    variance = curvature + s.spread.square() * square - shift.square()
    most = s.spread.detach().argmax(-1, keepdim=True)
    others = torch.ones_like(s.spread).scatter(-1, most, 0.0)
    real, imaginary = slopes(s, others.unsqueeze(-2))
    real, imaginary = real.squeeze(-2), imaginary.squeeze(-2)
    rest = (s.real * (real.square() - imaginary.square()) - 2 * s.imaginary * real * imaginary).sum(-1)
    rest = rest + (others * curvature).sum(-1) - (others * shift).sum(-1).square()
    return Moments(ratio, shift, curvature, torch.where(others == 0, rest.unsqueeze(-1), variance))


def slopes(s: Spectrum, weights: Tensor) -> tuple[Tensor, Tensor]:
    """sum_j weights_j m_j p_j q_j (z - 1) / (1 - p_j + p_j z), real and imaginary: [..., R, K] for [..., R, c]."""
    skew = (s.opposite - s.chance).unsqueeze(-2)
    weights = weights * s.spread.unsqueeze(-2)
    real = -2 * s.half.unsqueeze(-2) * ((weights * skew) @ s.inverse)
    return real, s.sine.unsqueeze(-2) * (weights @ s.inverse)


def covariance(s: Spectrum, m: Moments) -> Tensor:
    """Covariance matrix [..., c, c] of X given S = total, of zero row sums."""
    unit = torch.eye(s.spread.shape[-1], dtype=s.spread.dtype, device=s.spread.device)
    real, imaginary = slopes(s, unit)  # [..., c, K]
    w, v = s.real.unsqueeze(-2), s.imaginary.unsqueeze(-2)
    products = (real * w - imaginary * v) @ real.mT - (real * v + imaginary * w) @ imaginary.mT
    matrix = products - m.shift.unsqueeze(-1) * m.shift.unsqueeze(-2)
    matrix = matrix * (1 - unit) + torch.diag_embed(m.variance)
    # As for the variances: the row of the group that varies most follows from the others.
    mirror = (s.spread.detach().argmax(-1).unsqueeze(-1) == torch.arange(len(unit), device=unit.device)).to(unit.dtype)
    project = unit * (1 - mirror).unsqueeze(-2) - mirror.unsqueeze(-1) * (1 - mirror).unsqueeze(-2)
    return project @ matrix @ project.mT
