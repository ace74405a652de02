"""Mean of Fisher's law, and its derivative, the covariance times a vector, by the spectra that the mean is made of.

On a plateau, where S hardly varies, E[X_j] = m_j omega_j P_0(m - e_j, n - 1) / P_0(m, n) is a product of small factors.
They are accurate relative to themselves at the tilt for n - 1 draws, where all rare groups can share one spectrum: a
group is taken out of it by a division.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mvhg._bernoulli_sum import Spectrum
from mvhg._urn import Urn, derives_once
from mvhg._validation import can_look

# Where a mean is less than this part of that of the tilted binomial, it is too small beside the terms it is a sum of.
RARE = 1e-4


class _Parts(NamedTuple):
    """What mean and derivative share; first dimension: total counts n and, where ``common`` is given, n - 1."""

    s: Spectrum
    columns: Tensor  # [k, ..., K, 3], what averages of functions of z weigh
    skew: Tensor  # [k, ..., c]: 1 - 2 p
    fall: Tensor  # [k, ..., c]: what the mean falls short of m p
    mean: Tensor  # [..., c]
    plain_mean: Tensor  # [..., c], where nothing is taken for rare
    common: Tensor | None  # [..., c], groups that are not rare; None if none is
    of_binomials: Tensor  # [k, ..., c]: m p
    few: Any  # [..., c]: the means of rare groups, 0 of others
    factor: Any  # [..., c]: of rare groups m omega P_0(m, n - 1) / P_0(m, n), of a group of 1 - p; 0 of others


def mean(urn: Urn) -> Tensor:
    """Mean [..., c] of an urn with its tilt, differentiable in the log weights to any order."""
    if derives_once(urn):
        value: Tensor = _Mean.apply(urn.log_weights, urn)
        return value
    return _parts(urn).mean


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, urn: Urn) -> Tensor:
        parts = _parts(urn._replace(log_weights=log_weights))
        if urn.found is not None and "log_normaliser" not in urn.found:
            urn.found["log_normaliser"], urn.found["expected"] = parts.s.probability[0].log(), parts.plain_mean
        ctx.urn, ctx.parts = urn._replace(found=None), parts
        ctx.save_for_backward(log_weights)
        return parts.mean.view_as(parts.mean)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        urn, parts = ctx.urn, ctx.parts
        if torch.is_grad_enabled():  # to be differentiated again
            parts = _parts(urn._replace(log_weights=ctx.saved_tensors[0]))
        return _covariance_times(urn, parts, grad), None


def _parts(urn: Urn) -> _Parts:
    if can_look(urn.log_weights, urn.size, urn.total):
        seen = _averaged(urn._replace(total=urn.total.unsqueeze(0), tilt=urn.tilt.unsqueeze(0)))
        if bool(_common(urn, seen).all()):
            return seen
    return _with_rare(urn)


def _averaged(urns: Urn) -> _Parts:
    """Of urns with the total counts along the first dimension, no group of which is taken for rare."""
    s = urns.spectrum()
    half = s.real * s.half
    columns = torch.stack([s.real, half, s.imaginary * s.sine], -1)
    sums = s.inverse @ columns[..., 1:]
    skew = s.opposite - s.chance
    fall = s.spread * torch.addcmul(sums[..., 1], skew, sums[..., 0], value=2)
    of_binomials = urns.size * s.chance
    mean = of_binomials[0] - fall[0]
    return _Parts(s, columns, skew, fall, mean, mean, None, of_binomials, None, None)


def _common(urn: Urn, parts: _Parts) -> Tensor:
    """Where means are not rare, or those of a group that can't be drawn."""
    common = parts.mean >= RARE * parts.of_binomials[0]
    plain = urn.plain(1)
    if plain is None or 0 in (*plain[0], *plain[1]):
        common = common | (urn.size == 0) | (urn.total == 0).unsqueeze(-1)
    return common


def _with_rare(urn: Urn) -> _Parts:
    both = urn.with_one_less()
    parts = _averaged(both)
    s, logits, common = parts.s, both.logits, _common(urn, parts)
    positive = softplus(logits, threshold=40)
    change = (urn.size * (positive[1] - positive[0])).sum(-1)
    change = torch.addcmul(change, urn.total, both.tilt[0] - both.tilt[1])
    change = change + (s.probability[1] / s.probability[0]).log()
    exponent = change.unsqueeze(-1) + (logits[1] - positive[1])
    factor = exponent.masked_fill(common, -torch.inf).exp() * urn.size
    few = factor * _without_one(parts)
    return parts._replace(mean=torch.where(common, parts.mean, few), common=common, few=few, factor=factor)


def _without_one(parts: _Parts) -> Tensor:
    """Average of 1 / (q + p z) at n - 1, [..., c]."""
    s = parts.s
    sums = s.inverse[1] @ parts.columns[1]
    turned = torch.sub(sums[..., 2], sums[..., 1], alpha=2)
    return torch.addcmul(sums[..., 0] + s.constant[1].unsqueeze(-1), s.chance[1], turned)


def _covariance_times(urn: Urn, parts: _Parts, grad: Tensor) -> Tensor:
    """Covariance of X times a vector, [..., c]; accurate relative to the mean in the rows of rare groups.

    With A_j = m_j p_j q_j (z - 1) / (q_j + p_j z), whose average is E[X_j] - m_j p_j, and F = sum_j g_j A_j, it is
    avg(A_i F) - avg(A_i) avg(F), and on the diagonal the average of the derivative of A. Of a rare group j it is E[X_j]
    times the difference that one element of j less makes to the mean, by the spectrum of n - 1 draws.
    """
    s, skew, fall = parts.s, parts.skew, parts.fall
    # Averages of z / (q + p z)^2.
    squares = s.inverse.square() @ parts.columns
    uneven = torch.addcmul(s.chance.square(), s.opposite, s.opposite)
    bends = s.constant.unsqueeze(-1) + squares[..., 0]
    bends = torch.addcmul(bends, uneven, squares[..., 1], value=-2)
    bends = torch.addcmul(bends, skew, squares[..., 2], value=-1)
    if parts.common is None:
        common = grad
        weights = (grad * s.spread[0]).unsqueeze(0)
    else:
        common = grad * parts.common
        rare = grad * parts.factor
        taken = rare * s.chance[1]
        weights = torch.stack([common * s.spread[0], -taken])
    table = torch.stack([s.half, s.sine], -2)  # [k, ..., 2, K]
    real, imaginary = ((torch.stack([weights * skew, weights], -2) @ s.inverse) * table).unbind(
        -2
    )  # of F, over -2 and 1
    along = torch.addcmul(s.imaginary * imaginary, s.real, real, value=2)  # less the real part of the integrand
    across = torch.addcmul(s.real * imaginary, s.imaginary, real, value=-2)
    sums = s.inverse @ (torch.stack([along, across], -2) * table).mT
    product = s.spread * torch.addcmul(sums[..., 1], skew, sums[..., 0], value=-2)  # less avg(A_i F)
    result = torch.addcmul(-product.sum(0), common, s.spread[0] * bends[0])
    result = torch.addcmul(result, fall[0], (fall[0] * common).sum(-1, keepdim=True), value=-1)
    if parts.common is None:
        return result
    wanted = grad * parts.few
    result = result + torch.addcmul(wanted, taken, bends[1], value=-1)
    result = torch.addcmul(result, wanted.sum(-1, keepdim=True), parts.of_binomials[1] - parts.mean)
    return torch.addcmul(result, rare.sum(-1, keepdim=True), fall[1], value=-1)
