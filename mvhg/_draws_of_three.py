"""Single draws from urns of three small groups, from one table of all pairs of counts."""

import math
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mvhg._once import refuse_second_derivative
from mvhg._surrogate import forms, neighbours, rises, values_of_counts

if TYPE_CHECKING:
    from mvhg._single_plan import Plan

# Pairs of counts in a table that is kept.
_MOST_PAIRS = 1 << 13


class Triple(NamedTuple):
    """What sizes and total decide. In drawing order counts are x and y beyond the least, and z = total - x - y.

    Attributes:
        orders: int64 [6, 3].
        joint: log-weights of x and y but for the part linear in them, [X X, 6], or [X X, 1] if all sizes are one.
        counting: that part, per unit of what the first two log weights are above the third, [X X, 2].
        counts: counts in the caller's order at each order, x and y, int64 [6 X X, 3].
        windows: places of x and of y in a row of values of all counts [3 (M + 1)], int64 [2 X, 6].
        around: places there of the neighbours of z at each order, x and y, int64 [6 X X, 2].
        differences: what makes of their values a derivative in z, [6 X X, 2].
        rises: derivative of the last group's log-weights in what is left at each y, order and x: [X, 6 X].
    """

    orders: Tensor
    joint: Tensor
    counting: Tensor
    counts: Tensor
    windows: Tensor
    around: Tensor
    differences: Tensor
    rises: Tensor


def triple_of(sizes: tuple[int, ...], least: list[int], total: int, coefficients: Tensor) -> Triple | None:
    """Of log-binomials [3, X], or [1, X] if all sizes are one; None of larger groups."""
    width = coefficients.shape[1]
    if len(sizes) != 3 or width * width > _MOST_PAIRS:
        return None
    every = list(permutations(range(3)))
    alike, orders, size, low = len(coefficients) == 1, torch.tensor(every), torch.tensor(sizes), torch.tensor(least)
    x = torch.arange(width)
    z = (total - x.unsqueeze(1) - x).flatten()
    known = (z >= 0) & (z < width)
    z = z.clamp(0, width - 1)
    rows = coefficients.expand(3, width)
    joint = [(rows[a].unsqueeze(1) + rows[b]).flatten() + rows[c, z] for a, b, c in every[: 1 if alike else 6]]
    x_and_y = torch.cartesian_prod(x, x)
    counts, around, differences, slopes = [], [], [], []
    of_last = rises(torch.nn.functional.pad(rows.flip(1), (1, 1), value=-math.inf), 1).flip(1)
    for order in every:
        drawn = torch.cat([x_and_y, z.unsqueeze(1)], 1) + low[list(order)]
        counts.append(torch.empty_like(drawn).index_copy_(1, torch.tensor(order), drawn))
        ends, factors = neighbours(drawn[:, 2].minimum(size[order[2]]), size[order[2]])
        around.append(ends + order[2] * (max(sizes) + 1))
        differences.append(factors)
        slopes.append(of_last[order[2]].take(z).masked_fill(~known, 0.0).view(width, width))
    first = (low.unsqueeze(1) + x).clamp(max=max(sizes)) + torch.arange(3).unsqueeze(1) * (max(sizes) + 1)
    return Triple(
        orders,
        torch.stack(joint, 1).masked_fill(~known.unsqueeze(1), -math.inf),
        x_and_y.double(),
        torch.cat(counts),
        torch.stack([first[orders[:, i]].t() for i in (0, 1)]).flatten(0, 1).contiguous(),
        torch.cat(around),
        torch.cat(differences),
        torch.cat(slopes).t().contiguous(),
    )


class DrawsOfThree(torch.autograd.Function):
    """One draw an urn, each in its own order. See ``_surrogate`` and ``_relaxation`` for the derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: "Plan",
        which: Tensor,
        noise: Tensor,
        temperature: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
    ) -> tuple[Tensor, Any, Any]:
        of, width = urn.triple, urn.width
        assert of is not None
        order = of.orders.index_select(0, which)
        ordered = log_weights.reshape(-1, 3).double().gather(1, order).t()
        joint = of.joint if urn.alike else of.joint.index_select(1, which)
        joint = torch.addmm(joint, of.counting, ordered[:2] - ordered[2]).view(width, width, -1)
        highest = joint.amax(1).clamp_(min=-1e300)
        terms = (joint - highest.unsqueeze(1)).exp_()
        whole = terms.sum(1)
        # The Gumbel noise is -log(-log(u)).
        perturbed = noise.log_().neg_().log_()
        first, second = perturbed.unbind(0)
        torch.sub(highest.add_(whole.log()), first, out=first)
        best, x = first.max(0, keepdim=True)
        first -= best
        row = joint.gather(0, x.unsqueeze(1).expand(1, width, -1)).squeeze(0)
        torch.sub(row, second, out=second)
        best, y = second.max(0)
        second -= best
        soft = torch.softmax(perturbed.div_(temperature).to(dtype), 1)
        row_of_x = torch.add(x.squeeze(0), which, alpha=width)
        place = torch.add(y, row_of_x, alpha=width)
        ctx.urn, ctx.temperature, ctx.selected, ctx.dtype = urn, temperature, selected, dtype
        ctx.save_for_backward(log_weights, terms, whole, soft, order, which, row_of_x, place)
        ctx.set_materialize_grads(False)
        counts = of.counts.index_select(0, place).view(log_weights.shape)
        return forms(counts, urn.ladder, dtype, selected)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights = ctx.saved_tensors[0]
        with torch.no_grad():
            grad = _gradient(ctx, counts_grad, one_hot_grad, mask_grad).view(log_weights.shape).to(log_weights.dtype)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _gradient(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights, float64 [B, 3]."""
    urn, of, dtype = ctx.urn, ctx.urn.triple, ctx.dtype
    _, terms, whole, soft, order, which, row_of_x, place = ctx.saved_tensors
    scale = 1 / ctx.temperature
    batch, width = len(order), urn.width
    values = values_of_counts(one_hot_grad, mask_grad) if ctx.selected else None
    if counts_grad is not None:
        linear = counts_grad.unsqueeze(-1) * urn.ladder.to(dtype)
        values = linear if values is None else values + linear
    if values is None:
        return whole.new_zeros(batch, 3)
    values = values.reshape(batch, -1)
    around = values.gather(1, of.around.index_select(0, place))
    along = (around * of.differences.index_select(0, place).to(dtype)).sum(1)
    first, second = values.t().gather(0, of.windows.index_select(1, which)).view(2, width, batch).unbind(0)
    ramp, rise = urn.ramp(dtype), of.rises.index_select(1, row_of_x)
    second = _through_softmax(torch.addcmul(second, ramp, along, value=-1), soft[1])
    # How the second group's soft count, and what the loss gains by it, depend on what the first one left.
    along = along + ((second * rise).sum(0) * scale).to(dtype)
    first = _through_softmax(torch.addcmul(first, ramp, along, value=-1), soft[0])
    # Of the first group's log-weights, sums over the second one's counts, the derivative is a conditional mean.
    steps = urn.steps.unsqueeze(1)
    one, two = (first.double() * steps).sum(0), (second.double() * steps).sum(0)
    mean = (terms * steps).sum(1).div_(whole.clamp(min=1))
    two = two + (first * mean).sum(0)
    result = torch.stack([one, two, -(one + two)], 1).mul_(scale if isinstance(scale, float) else scale.unsqueeze(1))
    return torch.empty_like(result).scatter_(1, order, result)


def _through_softmax(gains: Tensor, soft: Tensor) -> Tensor:
    """Gradient in log-weights [X, B], times the temperature, of what is gained by each count of a softmax."""
    gains = gains * soft
    return torch.addcmul(gains, soft, gains.sum(0), value=-1)
