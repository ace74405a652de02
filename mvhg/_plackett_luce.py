"""Probabilities of orders and of ordered partitions under Plackett and Luce's law of permutations.

Elements with scores w_j are taken one after another, each with a probability proportional to its score among those
left. They come in the order of independent exponential clocks with rates w_j, so that the elements S of a group come
before all later ones, of total rate W, with probability

    integral over t > 0 of  W exp(-W t) prod_{j in S} (1 - exp(-w_j t)) dt,

in which no permutation is summed over. With z = log(W t) its integrand is log-concave and entire, and the trapezoidal
rule converges exponentially.
"""

from typing import Any

import torch
from torch import Tensor

from mvhg._once import refuse_second_derivative

_NODES = 192
# What is left out is below exp(-40) of the largest term.
_DEPTH = 40.0
# Beyond this many nats ahead of all later elements together, an element comes before them for sure in double precision.
_CERTAIN = 40.0
_BISECTIONS = 16
# Numbers at a time, so that memory does not go with the number of nodes.
_CHUNK_ELEMENTS = 1 << 18


def log_order_probability(log_scores: Tensor, order: Tensor) -> Tensor:
    """log P(order), for orders [..., N] of elements: sum_r s_(r) - log sum_{q >= r} exp s_(q)."""
    taken = log_scores.gather(-1, order)
    return (taken - _log_sums_from(taken)).sum(-1)


def _log_sums_from(values: Tensor) -> Tensor:
    """log sum_{q >= r} exp(values_q), [..., N]."""
    return values.flip(-1).logcumsumexp(-1).flip(-1)


def log_partition_probability(log_scores: Tensor, group: Tensor, counts: Tensor) -> Tensor:
    """log P(the elements of group 0 come first, then those of group 1, ...), [B], float64; differentiable once.

    Args:
        log_scores: float64 [B, N].
        group: of each element, int64 [B, N].
        counts: elements of each group, int64 [B, c].
    """
    elements = log_scores.shape[-1]
    sums = _log_sums_from(log_scores.gather(-1, group.argsort(dim=-1, stable=True)))
    end = counts.cumsum(-1).gather(-1, group)  # of its group, for each element
    last = end == elements
    rest = sums.gather(-1, end.clamp(max=elements - 1))
    lead = torch.where(last, _CERTAIN, log_scores - rest).clamp(max=_CERTAIN)
    return _Precedence.apply(lead, group, counts.shape[-1])[0].sum(-1)


class _Precedence(torch.autograd.Function):
    """Of each group, the log-probability that its elements come before all later ones [B, c], and its slopes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(lead: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """``lead`` is log(w_j / W) of each element, W the later groups' total, [B, N]; so are the slopes in it."""
        rows = max(1, _CHUNK_ELEMENTS // (_NODES * lead.shape[-1]))
        parts = [_integrate(a, g, groups) for a, g in zip(lead.split(rows), group.split(rows), strict=True)]
        values, slopes = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(slopes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        lead, group, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], group, lead)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        slope, group, lead = ctx.saved_tensors
        result = grad.gather(-1, group) * slope
        return refuse_second_derivative(result, lead) if torch.is_grad_enabled() else result, None, None


def _integrate(lead: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """The logarithms of the integrals [b, c], and their derivatives in ``lead`` [b, N]."""
    membership = torch.nn.functional.one_hot(group, groups).to(lead.dtype).transpose(-1, -2)  # [b, c, N]
    # The largest term, where 1 - exp(z) + sum_j (slope of factor j) is 0: between 0 and log(1 + elements).
    low = torch.zeros(lead.shape[0], groups, dtype=lead.dtype, device=lead.device)
    high = membership.sum(-1).log1p()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        slope = 1 - middle.exp() + (membership @ _slope(lead + middle.gather(-1, group)).unsqueeze(-1)).squeeze(-1)
        low, high = torch.where(slope > 0, middle, low), torch.where(slope > 0, high, middle)
    # The second derivative is at most -exp(z), which bounds the integrand on both sides.
    peak = low
    depth = _DEPTH * (-peak).exp()
    left = 0.5 * (depth + (depth.square() + 8 * depth).sqrt())
    right = torch.minimum((2 * depth).sqrt(), depth.log1p() + 1)
    step = (left + right) / (_NODES - 1)
    places = torch.arange(_NODES, dtype=lead.dtype, device=lead.device)
    nodes = (peak - left).unsqueeze(-1) + step.unsqueeze(-1) * places  # [b, c, nodes]
    index = group.unsqueeze(-1).expand(-1, -1, _NODES)
    at = lead.unsqueeze(-1) + nodes.gather(1, index)  # [b, N, nodes]
    terms = nodes - nodes.exp() + membership @ _log_factor(at)
    slope = (terms.softmax(-1).gather(1, index) * _slope(at)).sum(-1)
    return terms.logsumexp(-1) + step.log(), slope


def _log_factor(y: Tensor) -> Tensor:
    """log(1 - exp(-exp(y)))."""
    return torch.where(y < -30, y, (-torch.expm1(-y.clamp(min=-30, max=_CERTAIN).exp())).log())


def _slope(y: Tensor) -> Tensor:
    """Its derivative, exp(y) / (exp(exp(y)) - 1), between 0 and 1."""
    rate = y.clamp(max=6.5).exp()
    return torch.where(y < -30, 1.0, rate / torch.expm1(rate).clamp(min=torch.finfo(y.dtype).tiny))
