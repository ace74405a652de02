"""Closed-form quantities of Fisher's law: normaliser, log-probabilities, marginals, moments, entropy and mode.

All functions take and return float64 tensors and are differentiable in the log weights by autograd, to any order. The
tilt is not differentiated: the law does not depend on it. Two small groups have one table for everything.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mvhg._bernoulli_sum import (
    Moments,
    Spectrum,
    first_moment,
    frequencies_for,
    log_sum_probability,
    moments,
    solve_tilt,
    spectrum,
)
from mvhg._bernoulli_sum import covariance as sum_covariance
from mvhg._binomial import log_binomial, log_sigmoid
from mvhg._bounds import Bounds
from mvhg._validation import can_look, may_be_kept

# Where a mean is less than this part of that of the tilted binomial, it is too small beside the terms it is a sum of.
_RARE = 1e-4
# Up to here lgamma, whose error goes with its value, is as good as the series for large counts, and cheaper.
_MOST_BY_GAMMA = 10_000
# Two groups with at most this many counts are tabulated.
_LONGEST_TABLE = 256
# Up to this many draws the other groups' laws are convolved, beyond it each of their values is an inversion of its own.
_MOST_CONVOLVED = 1024
# Some hundred megabytes a law and group, reached by ten thousand million draws.
_LONGEST_WINDOW = 10_000_000
# Numbers at a time: what fits a CPU's caches.
_CHUNK_ELEMENTS = 1 << 19
# Halvings of the widest bracket down to float64's resolution.
_MODE_STEPS = 55


class Urn(NamedTuple):
    """Parameters of a batch of laws in float64, with what is derived from them once."""

    size: Tensor  # [..., c]
    log_weights: Tensor  # [..., c]
    total: Tensor  # [...]
    tilt: Any  # [...], see ``solve_tilt``; None where nothing needs it
    bounds: Bounds | None  # None where the host does not know the urn

    @classmethod
    def of(cls, size: Tensor, log_weights: Tensor, total: Tensor, bounds: Bounds | None = None) -> "Urn":
        return cls(size, log_weights, total, None, bounds).with_tilt()

    def with_tilt(self) -> "Urn":
        if self.tilt is not None or self.is_pair:
            return self
        return self._replace(tilt=solve_tilt(self.size, self.log_weights, self.total))

    @property
    def is_pair(self) -> bool:
        """Whether everything is read off one short table."""
        b = self.bounds
        return (
            b is not None
            and self.size.shape[-1] == 2
            and b.group <= _MOST_BY_GAMMA
            and min(b.group, b.total) < _LONGEST_TABLE
        )

    @property
    def logits(self) -> Tensor:
        return self.log_weights + self.tilt.unsqueeze(-1)

    @property
    def width(self) -> int:
        """The most values that a count can take."""
        return min(self.bounds.group, self.bounds.total) + 1  # type: ignore[union-attr]

    def spectrum(self) -> Spectrum:
        most = frequencies_for(None if self.bounds is None else self.bounds.population)
        return spectrum(self.size, self.logits, self.total, most)


class _Pair:
    """The law of two groups, tabulated over the first one's count x = 0..width - 1."""

    def __init__(self, urn: Urn) -> None:
        assert urn.bounds is not None
        self.x = torch.arange(urn.width, dtype=torch.float64, device=urn.log_weights.device)
        self.total = urn.total.unsqueeze(-1)
        coefficients = _pair_coefficients(urn, self.x)
        slope = urn.log_weights[..., :1] - urn.log_weights[..., 1:]
        # About the mode, so that large weights cancel before they are rounded.
        self.mode = (coefficients + self.x * slope.detach()).argmax(-1, keepdim=True).to(torch.float64)
        values = coefficients + (self.x - self.mode) * slope
        self.values, self.normaliser = values, torch.logsumexp(values, -1)

    @property
    def log_pmf(self) -> Tensor:
        return self.values - self.normaliser.unsqueeze(-1)

    @property
    def pmf(self) -> Tensor:
        return self.log_pmf.exp()

    def mean(self) -> Tensor:
        pmf = self.pmf
        return torch.stack([(pmf * x).sum(-1) for x in (self.x, self.total - self.x)], -1)

    def variance(self) -> Tensor:
        pmf = self.pmf
        mean = (pmf * self.x).sum(-1, keepdim=True)
        return (pmf * (self.x - mean).square()).sum(-1)

    def expect(self, values: Tensor) -> Tensor:
        """E of values on x: exp before where, since a gradient through 0 * -inf would be NaN."""
        log_pmf = self.log_pmf
        return (log_pmf.exp() * torch.where(log_pmf > -math.inf, values, 0.0)).sum(-1)


_COEFFICIENTS: dict[tuple[tuple[int, ...], int], Tensor] = {}
_MOST_KEPT = 256


def _pair_coefficients(urn: Urn, x: Tensor) -> Tensor:
    """Logarithms, up to a constant, of the ways to draw x = 0..width - 1 of the first group; kept for plain urns."""
    assert urn.bounds is not None
    sizes, drawn = urn.bounds.sizes, urn.bounds.totals
    if sizes is None or drawn is None:
        total, one, two = urn.total.unsqueeze(-1), urn.size[..., :1], urn.size[..., 1:]
        return _ways(x, one - x, total - x, two - total + x)
    keep = x.device.type == "cpu" and may_be_kept(x)
    found = _COEFFICIENTS.get((sizes, drawn)) if keep else None
    if found is None:
        found = _ways(x, sizes[0] - x, drawn - x, sizes[1] - drawn + x)  # [width], for all laws
        if keep and not found.is_inference():
            while len(_COEFFICIENTS) >= _MOST_KEPT:
                _COEFFICIENTS.pop(next(iter(_COEFFICIENTS)))
            _COEFFICIENTS[sizes, drawn] = found
    return found


def _ways(*counts: Tensor) -> Tensor:
    # lgamma is infinite where a count is impossible.
    return -torch.stack(torch.broadcast_tensors(*counts)).add(1).lgamma().sum(0)


def log_coefficients(counts: Tensor, size: Tensor) -> Tensor:
    """sum_j log (size_j choose counts_j) less that of the sizes' factorials, for counts within 0..size."""
    return -(torch.lgamma(counts + 1) + torch.lgamma(size - counts + 1)).sum(-1)


def log_partition(urn: Urn) -> Tensor:
    """log P_0 = log [z^n] prod_j (1 + omega_j z)^{m_j} (paper Eq. 1)."""
    if urn.is_pair:
        pair = _Pair(urn)
        counts = torch.cat([pair.mode, pair.total - pair.mode], -1)
        return pair.normaliser + (counts * urn.log_weights).sum(-1) + torch.lgamma(urn.size + 1).sum(-1)
    logits = urn.logits
    # About whole counts near the mean, so that nothing of the size of the tilt times the total has to cancel.
    counts = (urn.size * torch.sigmoid(logits.detach())).round()
    scale = -_log_mass(counts, urn.size, logits)
    # The products of whole counts and weights rounded to float32 are exact, and so are most of their sums.
    rounded = urn.log_weights.detach().float().double()
    scale = scale + (counts * rounded).sum(-1) + (counts * (urn.log_weights - rounded)).sum(-1)
    scale = scale + urn.tilt * (counts.sum(-1) - urn.total)
    return torch.log(urn.spectrum().probability) + scale


def _log_mass(counts: Tensor, size: Tensor, logits: Tensor) -> Tensor:
    """Log-probability, without binomial coefficients, of given successes and failures."""
    return (counts * log_sigmoid(logits) + (size - counts) * log_sigmoid(-logits)).sum(-1)


def log_probability(counts: Tensor, urn: Urn, checked: bool = False) -> Tensor:
    """log P(X = counts | sum X = total), for counts [..., c]; -inf where a count is outside 0..size.

    ``checked`` says that none is. The gradient in the counts is that of sum_j log (m_j choose x_j) + x_j log omega_j:
    the tilt is taken out.
    """
    if not checked:
        inside = ((counts >= 0) & (counts <= urn.size)).all(-1)
        counts = torch.where(inside.unsqueeze(-1), counts, 0.0)
    if urn.is_pair:
        pair = _Pair(urn)
        mode = torch.cat([pair.mode, pair.total - pair.mode], -1)
        value = log_coefficients(counts, urn.size) + ((counts - mode) * urn.log_weights).sum(-1) - pair.normaliser
        return value if checked else torch.where(inside, value, -math.inf)
    logits = urn.logits
    if urn.bounds is not None and urn.bounds.population <= _MOST_BY_GAMMA:
        value = log_coefficients(counts, urn.size) + torch.lgamma(urn.size + 1).sum(-1)
        value = value + _log_mass(counts, urn.size, logits)
    else:
        value = log_binomial(counts, urn.size, logits).sum(-1)
    value = value - torch.log(urn.spectrum().probability) - urn.tilt * (counts.sum(-1) - urn.total)
    return value if checked else torch.where(inside, value, -math.inf)


def merged_log_weight(size: Tensor, log_weights: Tensor) -> Tensor:
    """Log weight of the class that replaces the groups in the last dimension (paper Eq. 3); 0 if all are empty."""
    log_size = size.log()
    empty = size.sum(-1) == 0
    merged = torch.logsumexp(torch.where(empty.unsqueeze(-1), 0.0, log_weights + log_size), -1)
    return torch.where(empty, 0.0, merged - size.sum(-1).clamp(min=1).log())


def merged_log_probability(
    counts: Tensor, size: Tensor, log_weights: Tensor, total: Tensor, order: tuple[int, ...]
) -> Tensor:
    """Log-probability under the paper's sampler (Alg. 1): univariate conditionals with the later groups merged."""
    index = list(order)
    counts, size, log_weights = torch.broadcast_tensors(counts[..., index], size[..., index], log_weights[..., index])
    remaining = total.expand(counts.shape[:-1])
    result = torch.zeros_like(remaining)
    for i in range(len(order) - 1):
        rest = merged_log_weight(size[..., i + 1 :], log_weights[..., i + 1 :])
        pair_size = torch.stack([size[..., i], size[..., i + 1 :].sum(-1)], -1)
        pair_weights = torch.stack([log_weights[..., i], rest], -1)
        pair_counts = torch.stack([counts[..., i], remaining - counts[..., i]], -1)
        pair = Urn.of(pair_size, pair_weights, remaining)
        result = result + log_probability(pair_counts, pair)
        remaining = remaining - counts[..., i]
    last_inside = (counts[..., -1] >= 0) & (counts[..., -1] <= size[..., -1])
    return torch.where(last_inside & ~torch.isnan(result), result, -math.inf)


def _rare(urn: Urn, at: Spectrum, ratio: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Where means are rare, E[X_j] and E[X_j (X_j - 1)] there; None if no group is.

    On a plateau, where S hardly varies, E[X_j] = m_j omega_j P_0(m - e_j, n - 1) / P_0(m, n) is a product of small
    factors. They are accurate relative to themselves at the tilt for n - 1 draws, where all rare groups can share one
    spectrum: a group is taken out of it by a division.
    """
    rare = (ratio.detach() < _RARE) & (urn.size > 0) & (urn.total > 0).unsqueeze(-1)
    if can_look(rare) and not bool(rare.any()):
        return None
    total = (urn.total - 1).clamp(min=0)
    less = urn._replace(total=total, tilt=solve_tilt(urn.size, urn.log_weights, total))
    s, logits = less.spectrum(), less.logits
    change = (urn.size * (log_sigmoid(-urn.logits) - log_sigmoid(-logits))).sum(-1)
    change = change + urn.total * (urn.tilt - less.tilt)
    change = change + (s.probability / at.probability).log()
    half = s.real * s.half
    sums = (s.inverse @ torch.stack([s.real, half, s.imaginary * s.sine], -1)).unbind(-1)
    # Averages of 1 / (q + p z) and z / (q + p z)^2.
    one = s.constant.unsqueeze(-1) + sums[0] - s.chance * (2 * sums[1] - sums[2])
    sums = (s.inverse.square() @ torch.stack([s.real, half, s.imaginary * s.sine], -1)).unbind(-1)
    skew, uneven = s.opposite - s.chance, 1 - 2 * s.chance * s.opposite
    two = s.constant.unsqueeze(-1) + sums[0] - 2 * uneven * sums[1] - skew * sums[2]
    factor = torch.where(rare, change.unsqueeze(-1) + log_sigmoid(logits), 0.0).exp() * urn.size
    return rare, factor * one, factor * (urn.size - 1) * s.chance * two


def mean(urn: Urn) -> Tensor:
    """Mean [..., c]; that of a rarely drawn group is accurate relative to its size."""
    return _Pair(urn).mean() if urn.is_pair else _mean(urn, urn.spectrum())


def _mean(urn: Urn, s: Spectrum) -> Tensor:
    ratio, shift = first_moment(s)
    # The first form is accurate relative to itself, the second to the mean's change by conditioning.
    value = torch.where(ratio.detach() < 0.5, urn.size * s.chance * ratio, urn.size * s.chance + shift)
    few = _rare(urn, s, ratio)
    return value if few is None else torch.where(few[0], few[1], value)


def variance(urn: Urn) -> Tensor:
    """Variance [..., c]; that of a rarely drawn group is accurate relative to its size."""
    if urn.is_pair:
        return _Pair(urn).variance().unsqueeze(-1).expand_as(urn.log_weights)
    return _variance(urn, urn.spectrum()).variance


def _variance(urn: Urn, s: Spectrum) -> Moments:
    m = moments(s)
    few = _rare(urn, s, m.ratio)
    value = m.variance if few is None else torch.where(few[0], few[1] + few[2] - few[1].square(), m.variance)
    return m._replace(variance=_not_negative(value))


def covariance(urn: Urn) -> Tensor:
    """Covariance matrix [..., c, c]."""
    if urn.is_pair:
        variance = _Pair(urn).variance()
        return torch.stack([torch.stack([variance, -variance], -1), torch.stack([-variance, variance], -1)], -1)
    s = urn.spectrum()
    matrix = sum_covariance(s, _variance(urn, s))
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return matrix + torch.diag_embed(_not_negative(diagonal) - diagonal)


def _not_negative(values: Tensor) -> Tensor:
    """Rounding below zero taken away, from the value alone: the derivative is what it was."""
    return values + (-values.detach()).clamp(min=0)


def divergence(p: Urn, q: Urn) -> Tensor:
    """KL(p || q) [...] for laws with the same sizes and totals."""
    if p.is_pair and q.is_pair:
        first, second = _Pair(p), _Pair(q)
        return _not_negative(first.expect(first.log_pmf - second.log_pmf))
    p, q = p.with_tilt(), q.with_tilt()
    spectrum_p, at_p, at_q = p.spectrum(), p.logits, q.logits
    drawn = _mean(p, spectrum_p)
    value = drawn * (log_sigmoid(at_p) - log_sigmoid(at_q))
    value = (value + (p.size - drawn) * (log_sigmoid(-at_p) - log_sigmoid(-at_q))).sum(-1)
    return _not_negative(value + (q.spectrum().probability / spectrum_p.probability).log())


def _log_factors(urn: Urn, counts: Tensor) -> Tensor:
    """Log-probabilities of counts [..., c, W] of each group under its tilted binomial."""
    return log_binomial(counts, urn.size.unsqueeze(-1), urn.logits.unsqueeze(-1))


def marginal_log_probabilities(urn: Urn) -> Tensor:
    """log P(X_i = x) for every group and x = 0..M, M the largest size, [..., c, M + 1]; -inf outside the support."""
    assert urn.bounds is not None
    groups = urn.size.shape[-1]
    if urn.is_pair:
        first = _Pair(urn).log_pmf
        # The second group has x where the first one has total - x.
        mirrored = urn.total.unsqueeze(-1) - torch.arange(urn.width, dtype=torch.float64, device=first.device)
        inside = (mirrored >= 0) & (mirrored < urn.width)
        index = torch.where(inside, mirrored, 0.0).long().expand_as(first)
        value = torch.stack([first, torch.where(inside, first.gather(-1, index), -math.inf)], -2)
    else:
        x = torch.arange(urn.width, dtype=torch.float64, device=urn.log_weights.device)
        own, rest = _log_factors(urn, x), urn.total[..., None, None] - x
        if groups == 1:
            value = torch.where(rest == 0, 0.0, -math.inf) + 0 * urn.log_weights.unsqueeze(-1)
        else:
            if groups == 2:
                others = log_binomial(rest, urn.size.flip(-1).unsqueeze(-1), urn.logits.flip(-1).unsqueeze(-1))
            elif urn.bounds.total <= _MOST_CONVOLVED:
                others = _in_chunks(_convolved_others, urn, urn.bounds.total * urn.width)
            else:
                without = 1 - torch.eye(groups, dtype=torch.float64, device=x.device)
                sizes = urn.size.unsqueeze(-2) * without  # [..., c, c]
                others = log_sum_probability(sizes.unsqueeze(-2), urn.logits[..., None, None, :], rest)
            value = own + others - urn.spectrum().probability.log()[..., None, None]
    return torch.nn.functional.pad(value, (0, urn.bounds.group + 1 - urn.width), value=-math.inf)


def _in_chunks(function: Callable[[Urn], Tensor], urn: Urn, elements: int) -> Tensor:
    """A function of urns, on portions of the batch that need about ``_CHUNK_ELEMENTS`` numbers."""
    shape, groups = urn.log_weights.shape[:-1], urn.size.shape[-1]
    if shape.numel() * elements <= _CHUNK_ELEMENTS:
        return function(urn)
    rows = max(1, _CHUNK_ELEMENTS // elements)
    parts = [a.expand(*shape, groups).reshape(-1, groups).split(rows) for a in (urn.size, urn.log_weights)]
    parts += [a.expand(shape).reshape(-1).split(rows) for a in (urn.total, urn.tilt)]
    pieces = [function(Urn(m, w, n, t, urn.bounds)) for m, w, n, t in zip(*parts, strict=True)]
    return torch.cat(pieces).reshape((*shape, *pieces[0].shape[1:]))


# Stands for the logarithm of 0 where infinities would make NaN of a gradient.
_LOG_ZERO = -1e30
# exp(-650): a sum of positive terms above it has lost nothing to underflow that counts.
_LEAST = 1e-282


def _convolved_others(urn: Urn) -> Tensor:
    """log P(sum of the other groups = total - x) under the tilt for x = 0..width - 1, [..., c, width].

    Sums of positive terms, which do not cancel: first the laws of the sums of the groups
    before and after each one, then of both together.
    """
    assert urn.bounds is not None
    factors = _log_factors(urn, torch.arange(urn.width, dtype=torch.float64, device=urn.size.device))
    others = (urn.size.sum(-1, keepdim=True) - urn.size).unsqueeze(-1)
    # [..., 1, width]: the entries total - x of the others' laws.
    at = urn.total[..., None, None] - torch.arange(urn.width, dtype=torch.float64, device=urn.size.device)
    possible = (at >= 0) & (at <= others)
    if can_look(factors):
        # Without logarithms, a tenth of the time, unless something underflows.
        result = _others(factors.exp(), at, urn.bounds.total + 1, _convolve, 0.0)
        if not bool((possible & (result < _LEAST)).any()):
            return torch.where(possible, torch.where(possible, result, 1.0).log(), -math.inf)
    result = _others(factors.clamp(min=_LOG_ZERO), at, urn.bounds.total + 1, _log_convolve, _LOG_ZERO)
    return torch.where(possible, result, -math.inf)


def _others(
    factors: Tensor, at: Tensor, length: int, convolve: Callable[[Tensor, Tensor], Tensor], zero: float
) -> Tensor:
    """Entries ``at`` [..., 1, W] of each group's convolution of all the others' factors [..., c, W]: [..., c, W]."""
    own, groups = factors.unbind(-2), factors.shape[-2]
    pad = (0, length - factors.shape[-1])
    prefixes = [torch.nn.functional.pad(own[0], pad, value=zero)]  # of groups 0..i
    suffixes = [torch.nn.functional.pad(own[-1], pad, value=zero)]  # of groups c-1-i..c-1
    for i in range(1, groups - 1):
        prefixes.append(convolve(prefixes[-1], own[i]))
        suffixes.append(convolve(suffixes[-1], own[-1 - i]))
    middle = [convolve(prefixes[i - 1], suffixes[groups - 2 - i]) for i in range(1, groups - 1)]
    laws = torch.stack([suffixes[-1], *middle, prefixes[-1]], -2)
    return laws.gather(-1, at.clamp(min=0).long().expand(*laws.shape[:-1], -1))


def _windows(values: Tensor, width: int, zero: float) -> Tensor:
    """Entries s - width + 1..s of values [..., V] for every s, a view [..., V, width]."""
    return torch.nn.functional.pad(values, (width - 1, 0), value=zero).unfold(-1, width, 1)


def _convolve(values: Tensor, other: Tensor) -> Tensor:
    """sum_t values[s - t] other[t] for s = 0..len(values) - 1."""
    return (_windows(values, other.shape[-1], 0.0) @ other.flip(-1).unsqueeze(-1)).squeeze(-1)


def _log_convolve(values: Tensor, other: Tensor) -> Tensor:
    """log sum_t exp(values[s - t] + other[t]) for s = 0..len(values) - 1."""
    return torch.logsumexp(_windows(values, other.shape[-1], _LOG_ZERO) + other.flip(-1).unsqueeze(-2), -1)


def entropy(urn: Urn) -> Tensor:
    """-E[log p(X)] in nats: log p splits into one term a group and the normaliser."""
    if urn.is_pair:
        pair = _Pair(urn)
        return _not_negative(-pair.expect(pair.log_pmf))
    assert urn.bounds is not None
    if urn.log_weights.numel() == 0:
        return urn.log_weights.sum(-1)
    window, period = _entropy_widths(urn.bounds)
    if window + period > _LONGEST_WINDOW:
        raise ValueError(
            f"entropy sums over the counts that matter, {window:,} a group for total_count {urn.bounds.total:,} and "
            f"group_sizes up to {urn.bounds.group:,}; more than {_LONGEST_WINDOW:,} are refused"
        )
    return _in_chunks(lambda part: _entropy(part, window, period), urn, urn.size.shape[-1] * (window + period))


def _entropy_widths(bounds: Bounds) -> tuple[int, int]:
    """Counts of a group that hold all but 1e-17 of its law, and an odd period that tells sums apart.

    p (1 - p) <= 1/4, and the variance of the sum is largest for equal chances: known from sizes and totals alone.
    """
    n, population = bounds.total, max(bounds.population, 1)
    variance = min(n, population / 4) if bounds.totals is None or bounds.sizes is None else n * (1 - n / population)
    depth = 39 + 0.5 * math.log1p(6.3 * variance)
    a = depth / 3
    most = math.ceil(a + math.sqrt(a * a + 2 * depth * min(variance, bounds.group / 4)))
    window = min(bounds.group, n, 2 * most + 1) + 1
    period = min(population + 1, math.ceil(a + math.sqrt(a * a + 2 * depth * variance)) + 1)
    return window, max(period, window) // 2 * 2 + 1


def _entropy(urn: Urn, window: int, period: int) -> Tensor:
    """Log-binomials averaged over the conditional marginals, by Parseval: no marginal is ever made."""
    s = urn.spectrum()
    expected = (urn.size * s.chance).detach()
    a = 39 + 0.5 * torch.log1p(6.3 * s.spread.detach().sum(-1, keepdim=True))
    reach = a / 3 + torch.sqrt(a * a / 9 + 2 * a * s.spread.detach())
    last = (torch.minimum(urn.size, urn.total.unsqueeze(-1)) + 1 - window).clamp(min=0)
    start = torch.minimum((expected - reach).floor().clamp(min=0), last)  # [..., c]
    terms = _log_factors(urn, start.unsqueeze(-1) + torch.arange(window, dtype=torch.float64, device=start.device))
    # exp before where: a gradient through 0 * -inf would be NaN.
    weighted = terms.exp() * torch.where(terms > -math.inf, terms, 0.0)
    frequency = (2 * math.pi / period) * torch.arange(period // 2 + 1, dtype=torch.float64, device=start.device)
    half, sine = torch.sin(frequency / 2).square(), torch.sin(frequency)
    chance, product = s.chance.unsqueeze(-1), (s.chance * s.opposite).unsqueeze(-1)
    size = urn.size.unsqueeze(-1)
    modulus = 0.5 * size * torch.log1p((-4 * product * half).clamp(min=-1 + 1e-16))  # [..., c, F]
    phase = size * torch.atan2(chance * sine, 1 - 2 * chance * half)
    phase = _without(phase) - (urn.total.unsqueeze(-1) - start).unsqueeze(-1) * frequency
    others = torch.polar(_without(modulus).exp(), phase)
    # Twice, since the negative frequencies are the complex conjugates.
    average = 2 * (others * torch.fft.rfft(weighted, n=period).conj()).real.sum(-1) - weighted.sum(-1)
    return _not_negative(s.probability.log() - average.sum(-1) / (period * s.probability))


def _without(values: Tensor) -> Tensor:
    """For each group the sum of [..., c, F] over the other ones, without subtraction."""
    before, after = values.cumsum(-2), values.flip(-2).cumsum(-2).flip(-2)
    pad = torch.nn.functional.pad
    return pad(before[..., :-1, :], (0, 0, 1, 0)) + pad(after[..., 1:, :], (0, 0, 0, 1))


def mode(urn: Urn) -> Tensor:
    """A most probable count vector [..., c] (not differentiable).

    The log-probability is a sum of concave functions, one a group, so drawing one element at a time from the group
    with the largest gain log omega_i + log((m_i - x) / (x + 1)) is optimal; the number of gains above a threshold is
    closed-form, so the threshold is found by bisection and ties at it are shared out by rank.
    """
    with torch.no_grad():
        if urn.is_pair:
            first = _Pair(urn).mode
            return torch.cat([first, urn.total.unsqueeze(-1) - first], -1)
        size, log_weights, total = urn.size, urn.log_weights, urn.total

        def counts_above(threshold: Tensor) -> Tensor:
            return torch.minimum(((size + 1) * torch.sigmoid(log_weights - threshold.unsqueeze(-1))).floor(), size)

        reach = torch.log(size.amax(-1) + 2)
        low, high = log_weights.amin(-1) - reach - 1, log_weights.amax(-1) + reach + 1  # everything; nothing
        looking = can_look(size, log_weights, total)
        for _ in range(_MODE_STEPS):
            # Once no group has more than one gain between the two, ranking these gains decides.
            if looking and bool((counts_above(low) - counts_above(high) <= 1).all()):
                break
            middle = 0.5 * (low + high)
            fits = counts_above(middle).sum(-1) <= total
            low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
        counts = counts_above(high)
        missing = total - counts.sum(-1)
        gain = torch.where(counts < size, log_weights + ((size - counts) / (counts + 1)).log(), -math.inf)
        rank = gain.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        return counts + (rank < missing.unsqueeze(-1)).to(counts.dtype)
