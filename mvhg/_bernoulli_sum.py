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
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from mvhg._binomial import log_sigmoid
from mvhg._kept import Memory, constant, may_be_kept
from mvhg._validation import can_look

PlainUrn: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # sizes, and totals

# exp(-39) is about 1e-17: what is cut off, in frequency and by aliasing, is below double precision.
_LOG_PRECISION = 39.0
# The largest number of positive frequencies that these bounds need for any variance (reached near variance 19).
_MOST_FREQUENCIES = 28
_CHUNK_ELEMENTS = 1 << 22
# Elements up to which phases of the size of a group cancel to 1e-11.
MOST_BY_PLAIN_PHASE = 50_000
# Stands for nothing drawn or nothing left, where the tilt is infinite: what it leaves in the tail is below 1e-20.
_NOTHING = 1e-25
_MOST_STEPS = 60
# Where convergence cannot be looked at: the bracket shrinks 65-fold a round, then one of Newton's steps.
_GRID, _GRID_ROUNDS = 64, 3
_FACTS: "Memory[_Facts]" = Memory(64)


def solve_tilt(
    size: Tensor, log_weights: Tensor, total: Tensor, tolerance: float = 1e-7, urn: PlainUrn | None = None
) -> Tensor:
    """The theta at which sum_j size_j sigmoid(theta + log_weights_j) = total (not differentiable).

    In closed form for one and two groups. For more, Newton's method on the logarithm of what is drawn or of what is
    left, whichever is less, kept inside a shrinking bracket. On a CPU it stops once the sum is within ``tolerance``
    standard deviations; elsewhere and where it is traced or batched, its steps are fixed and no value is looked at.

    Args:
        size: group sizes, float64 [..., c].
        log_weights: log importance weights, float64 [..., c].
        total: 0 <= total <= sum of sizes, float64 [...]. At the two ends the tilt is infinite: a finite value beyond
            which the tail is below 1e-20 is returned.
        tolerance: of the sum, in standard deviations.
        urn: what the host knows of sizes and totals, which are then the same in the whole batch.

    Returns:
        Tensor [...].
    """
    with torch.no_grad():
        size, log_weights, total = size.detach(), log_weights.detach(), total.detach()
        if size.shape[-1] == 1:
            size, log_weights = (torch.cat([a, torch.zeros_like(a)], -1) for a in (size, log_weights))
        if size.shape[-1] == 2:
            return _tilt_of_two(size, log_weights, total)
        return _tilt_of_many(size, log_weights, total, tolerance, urn)


def _tilt_of_two(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """The positive root of a quadratic in the odds of the heavier group, or in those of the lighter one."""
    first_heavier = log_weights[..., 0] >= log_weights[..., 1]
    heavy = torch.where(first_heavier, log_weights[..., 0], log_weights[..., 1])
    light = torch.where(first_heavier, log_weights[..., 1], log_weights[..., 0])
    many, few = (torch.where(first_heavier, size[..., i], size[..., 1 - i]) for i in (0, 1))
    drawn, left = total.clamp(min=_NOTHING), (many + few - total).clamp(min=_NOTHING)
    ratio = (light - heavy).exp().clamp(min=1e-300)  # far beyond it, on a plateau, any tilt between the groups will do
    b = (many - total) + (few - total) * ratio
    root = (b * b + 4 * left * ratio * drawn).sqrt()
    # Neither sum cancels: one is the odds of the heavier group, the other those of the lighter one.
    at_heavy = (2 * drawn / (b + root).clamp(min=1e-300)).log() - heavy
    at_light = ((root - b) / (2 * left)).clamp(min=1e-300).log() - light
    return torch.where(b >= 0, at_heavy, at_light)


class _Facts(NamedTuple):
    """What the solver needs of sizes and totals. What is left is what is drawn, for weights 1 / omega."""

    sign: Tensor | None  # [..., 1], -1 where more is drawn than left; None if nowhere
    less: Tensor  # [...], the lesser of drawn and left
    odds: Tensor  # [...], logarithm of its odds
    absent: Tensor | None  # [..., c], empty groups; None if there are none
    nothing: Tensor | None  # [...], urns without elements; None if there are none

    @classmethod
    def of(cls, size: Tensor, total: Tensor) -> "_Facts":
        """Of sizes [..., c] and totals [...]."""
        population = size.sum(-1)
        sign = torch.where(2 * total > population, -1.0, 1.0).to(size.dtype).unsqueeze(-1)
        less = torch.minimum(total, population - total).clamp(min=_NOTHING)
        odds = less.log() - (population - less).clamp(min=_NOTHING).log()
        return cls(sign, less, odds, size == 0, population == 0)


def _facts(size: Tensor, total: Tensor, urn: PlainUrn | None) -> _Facts:
    """As ``_Facts.of``; kept for plain urns."""
    if urn is None or not may_be_kept(total):
        return _Facts.of(size, total)
    found = _FACTS.get(urn, total.device)
    if found is None:
        sizes, totals = urn
        shape = (len(totals),) if len(totals) > 1 else ()
        size, total = constant(sizes, total.device, size.dtype), constant(totals, total.device, size.dtype)
        found = _Facts.of(size, total.reshape(shape))
        population = sum(sizes)
        found = found._replace(
            sign=None if 2 * max(totals) <= population else found.sign,
            absent=found.absent if 0 in sizes else None,
            nothing=None if population else found.nothing,
        )
        _FACTS.keep(urn, total.device, found)
    return found


def _tilt_of_many(size: Tensor, log_weights: Tensor, total: Tensor, tolerance: float, urn: PlainUrn | None) -> Tensor:
    facts = _facts(size, total, urn)
    if total.dim() > facts.less.dim():  # totals along the first dimension, of a batch
        rest = (1,) * (total.dim() - 1)
        sign = None if facts.sign is None else facts.sign.reshape(-1, *rest, 1)
        facts = facts._replace(sign=sign, less=facts.less.reshape(-1, *rest), odds=facts.odds.reshape(-1, *rest))
    sign, less, odds, absent, nothing = facts
    log_weights = log_weights if sign is None else log_weights * sign
    if absent is None:
        low, high = (odds - end for end in log_weights.aminmax(dim=-1)[::-1])
    else:
        low = odds - log_weights.masked_fill(absent, -math.inf).amax(-1)
        high = odds - log_weights.masked_fill(absent, math.inf).amin(-1)
    if nothing is not None:
        low, high = (a.masked_fill(nothing, 0.0) for a in (low, high))

    if not can_look(size, log_weights, total):
        plain = urn is not None and sum(urn[0]) <= MOST_BY_PLAIN_PHASE
        theta = _tilt_unseen(size, log_weights, less, low, high, plain)
    else:
        theta = _tilt_seen(size, log_weights, less, odds, low, high, tolerance)
    return theta if sign is None else theta * sign.squeeze(-1)


def _excess(size: Tensor, logits: Tensor, total: Tensor) -> Tensor:
    """sum_j size_j sigmoid(logits_j) - total, [...], without what groups that are mostly drawn would cancel."""
    drawn = (logits > 0).to(size.dtype)
    rare = torch.sigmoid(-logits.abs()) * (1 - 2 * drawn)
    return (size * rare).sum(-1) - (total - (size * drawn).sum(-1))


def _tilt_unseen(size: Tensor, log_weights: Tensor, less: Tensor, low: Tensor, high: Tensor, plain: bool) -> Tensor:
    """By a grid; ``plain`` says that sums of sizes this small have no digits to lose."""
    row, size = size, size.unsqueeze(-1)
    places = torch.arange(1, _GRID + 1, dtype=low.dtype, device=low.device)
    width = high - low
    for _ in range(_GRID_ROUNDS):
        width = width / (_GRID + 1)
        points = torch.addcmul(low.unsqueeze(-1), width.unsqueeze(-1), places)  # [..., grid]
        logits = points.unsqueeze(-1) + log_weights.unsqueeze(-2)
        if plain:
            below = (torch.sigmoid(logits) @ size).squeeze(-1) < less.unsqueeze(-1)
        else:
            below = _excess(row.unsqueeze(-2), logits, less.unsqueeze(-1)) < 0
        low = torch.addcmul(low, width, below.sum(-1, dtype=low.dtype))
    theta = torch.add(low, width, alpha=0.5)
    chance = torch.sigmoid(theta.unsqueeze(-1) + log_weights)
    moments = torch.stack([chance, torch.addcmul(chance, chance, chance, value=-1)], -2) @ size  # [..., 2, 1]
    mean, variance = moments.squeeze(-1).unbind(-1)
    missing = less - mean if plain else -_excess(row, theta.unsqueeze(-1) + log_weights, less)
    newton = torch.addcdiv(theta, missing, variance.clamp(min=1e-300))
    return torch.clamp(newton, low, low + width)


def _tilt_seen(
    size: Tensor, log_weights: Tensor, less: Tensor, odds: Tensor, low: Tensor, high: Tensor, tolerance: float
) -> Tensor:
    """Newton's method on the logarithm of the sum, kept inside a shrinking bracket."""
    population = size.sum(-1)
    merged = torch.logsumexp(log_weights + size.log(), -1) - population.log()
    theta = torch.maximum(low, torch.minimum(high, odds - merged.nan_to_num(0.0)))
    for _ in range(_MOST_STEPS):
        logits = theta.unsqueeze(-1) + log_weights
        chance = torch.sigmoid(logits)
        expected = size * chance
        mean, variance = expected.sum(-1), (expected * torch.sigmoid(-logits)).sum(-1)
        error = _excess(size, logits, less)
        if bool((error.abs() <= tolerance * variance.sqrt() + 1e-9 * less.clamp(max=1)).all()):
            break
        floored = mean.clamp(min=1e-300)
        ratio = torch.where(error > -0.5 * less, torch.log1p(error / less), (floored / less).log())
        newton = theta - ratio * (floored / variance.clamp(min=1e-300))
        low, high = torch.where(error < 0, theta, low), torch.where(error > 0, theta, high)
        # A step that leaves the bracket by more than rounding is a plateau: bisect there.
        slack = 1e-12 * (1 + theta.abs())
        outside = ~((newton >= low - slack) & (newton <= high + slack))
        theta = torch.where(outside, 0.5 * (low + high), newton)
    return theta


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
