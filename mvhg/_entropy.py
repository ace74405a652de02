"""Entropy of Fisher's law, float64, differentiable in the log weights to any order."""

import math

import torch
from torch import Tensor

from mvhg._bernoulli_sum import mostly_left
from mvhg._bounds import Bounds
from mvhg._tilt import MOST_BY_PLAIN_PHASE
from mvhg._urn import Pair, Urn, in_chunks, log_factors, not_negative

# Some hundred megabytes a law and group, reached by ten thousand million draws.
_LONGEST_WINDOW = 10_000_000
_LEAST_LOG_MODULUS = -600.0


def entropy(urn: Urn) -> Tensor:
    """-E[log p(X)] in nats: log p splits into one term a group and the normaliser."""
    if urn.is_pair:
        pair = Pair(urn)
        return not_negative(-pair.expect(pair.log_pmf))
    assert urn.bounds is not None
    if urn.log_weights.numel() == 0:
        return urn.log_weights.sum(-1)
    window, period = _entropy_widths(urn.bounds)
    if window + period > _LONGEST_WINDOW:
        raise ValueError(
            f"entropy sums over the counts that matter, {window:,} a group for total_count {urn.bounds.total:,} and "
            f"group_sizes up to {urn.bounds.group:,}; more than {_LONGEST_WINDOW:,} are refused"
        )
    return in_chunks(lambda part: _entropy(part, window, period), urn, urn.size.shape[-1] * (window + period))


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
    terms = log_factors(urn, start.unsqueeze(-1) + torch.arange(window, dtype=torch.float64, device=start.device))
    # exp before where: a gradient through 0 * -inf would be NaN.
    weighted = terms.exp() * torch.where(terms > -math.inf, terms, 0.0)
    frequency = (2 * math.pi / period) * torch.arange(period // 2 + 1, dtype=torch.float64, device=start.device)
    half, sine = torch.sin(frequency / 2).square(), torch.sin(frequency)
    product, size = (s.chance * s.opposite).unsqueeze(-1), urn.size.unsqueeze(-1)
    modulus = 0.5 * size * torch.log1p((-4 * product * half).clamp(min=-1 + 1e-16))  # [..., c, F]
    turned, rare, rest = urn.size, s.chance, urn.total.unsqueeze(-1)
    if urn.bounds is None or urn.bounds.population > MOST_BY_PLAIN_PHASE:
        turned, rare, _, rest = mostly_left(urn.size, s.chance, s.opposite, urn.total)
        rest = rest.unsqueeze(-1) + (urn.size - turned) / 2  # that of its own group is not among the others
    rare = rare.unsqueeze(-1)
    phase = turned.unsqueeze(-1) * torch.atan2(rare * sine, 1 - 2 * rare * half)
    phase = _without(phase) - (rest - start).unsqueeze(-1) * frequency
    modulus = _without(modulus)
    # What counts for nothing is 0: the derivative of torch.polar is no number where it underflows.
    others = torch.polar(modulus.masked_fill(modulus < _LEAST_LOG_MODULUS, -math.inf).exp(), phase)
    # Twice, since the negative frequencies are the complex conjugates.
    average = 2 * (others * torch.fft.rfft(weighted, n=period).conj()).real.sum(-1) - weighted.sum(-1)
    return not_negative(s.probability.log() - average.sum(-1) / (period * s.probability))


def _without(values: Tensor) -> Tensor:
    """For each group the sum of [..., c, F] over the other ones, without subtraction."""
    before, after = values.cumsum(-2), values.flip(-2).cumsum(-2).flip(-2)
    pad = torch.nn.functional.pad
    return pad(before[..., :-1, :], (0, 0, 1, 0)) + pad(after[..., 1:, :], (0, 0, 0, 1))
