"""Mean, variance and covariance of Fisher's law, float64, differentiable in the log weights to any order."""

import torch
from torch import Tensor

from mvhg._bernoulli_sum import Moments, Spectrum, moments
from mvhg._bernoulli_sum import covariance as sum_covariance
from mvhg._binomial import log_sigmoid
from mvhg._mean import RARE
from mvhg._mean import mean as mean_of_many
from mvhg._urn import Pair, Urn, not_negative
from mvhg._validation import can_look


def _rare(urn: Urn, at: Spectrum, ratio: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Where means are rare, E[X_j] and E[X_j (X_j - 1)] there; None if no group is.

    By the spectrum of n - 1 draws, see ``_mean``.
    """
    rare = (ratio.detach() < RARE) & (urn.size > 0) & (urn.total > 0).unsqueeze(-1)
    if can_look(rare) and not bool(rare.any()):
        return None
    total = (urn.total - 1).clamp(min=0)
    tilt = urn.solve(total, None) if urn.tilts is None else urn.tilts[1]
    less = Urn(urn.size, urn.log_weights, total, tilt, urn.bounds)
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
    return Pair(urn).mean() if urn.is_pair else mean_of_many(urn)


def variance(urn: Urn) -> Tensor:
    """Variance [..., c]; that of a rarely drawn group is accurate relative to its size."""
    if urn.is_pair:
        return Pair(urn).variance().unsqueeze(-1).expand_as(urn.log_weights)
    return _variance(urn, urn.spectrum()).variance


def _variance(urn: Urn, s: Spectrum) -> Moments:
    m = moments(s)
    few = _rare(urn, s, m.ratio)
    value = m.variance if few is None else torch.where(few[0], few[1] + few[2] - few[1].square(), m.variance)
    return m._replace(variance=not_negative(value))


def covariance(urn: Urn) -> Tensor:
    """Covariance matrix [..., c, c]."""
    if urn.is_pair:
        variance = Pair(urn).variance()
        return torch.stack([torch.stack([variance, -variance], -1), torch.stack([-variance, variance], -1)], -1)
    s = urn.spectrum()
    matrix = sum_covariance(s, _variance(urn, s))
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return matrix + torch.diag_embed(not_negative(diagonal) - diagonal)
