"""Single draws from urns of three small groups, from one table of all pairs of counts."""

import math
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mvhg._kept import CPU
from mvhg._once import refuse_second_derivative
from mvhg._surrogate import Forms, central_rises, neighbours, through_softmax, values_of_counts

if TYPE_CHECKING:
    from mvhg._single_plan import Plan

# Pairs of counts in a table that is kept.
_MOST_PAIRS = 1 << 13


class Triple(NamedTuple):
    """What sizes and total decide. In drawing order counts are x and y beyond the least, and z = total - x - y.

    Attributes:
        orders: int64 [6, 3].
        joint: log-weights of x and y but for the part linear in them, [X X, 6], or [X X, 1] if all sizes are one.
        counting: x and y, that part's slopes in what the first two log weights are above the third, [X X, 2].
        balance: x, y and - x - y, [3, X X].
        sign: how a second count enters that, [3, 1].
        forms: of the draw at each order, x and y, [6 X X].
        windows: places of x and of y in a row of values of all counts [3 (M + 1)], int64 [2 X, 6].
        around: places there of the neighbours of z at each order, x and y, int64 [6 X X, 2].
        differences: what makes of their values a derivative in z, [6 X X, 2].
        rises: derivative of the last group's log-weights in what is left at each y, order and x: [X, 6 X].
    """

    orders: Tensor
    joint: Tensor
    counting: Tensor
    balance: Tensor
    sign: Tensor
    forms: Forms
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
    alike, x = len(coefficients) == 1, torch.arange(width, device=CPU)
    orders, size, low = (torch.tensor(numbers, device=CPU) for numbers in (every, sizes, least))
    z = (total - x.unsqueeze(1) - x).flatten()
    known = (z >= 0) & (z < width)
    z = z.clamp(0, width - 1)
    rows = coefficients.expand(3, width)
    joint = [(rows[a].unsqueeze(1) + rows[b]).flatten() + rows[c, z] for a, b, c in every[: 1 if alike else 6]]
    x_and_y = torch.cartesian_prod(x, x)
    counts, around, differences, slopes = [], [], [], []
    of_last = central_rises(torch.nn.functional.pad(rows.flip(1), (1, 1), value=-math.inf), 1, rows.dtype).flip(1)
    for order in every:
        drawn = torch.cat([x_and_y, z.unsqueeze(1)], 1) + low[list(order)]
        counts.append(torch.empty_like(drawn).index_copy_(1, torch.tensor(order, device=CPU), drawn))
        ends, factors = neighbours(drawn[:, 2].minimum(size[order[2]]), size[order[2]])
        around.append(ends + order[2] * (max(sizes) + 1))
        differences.append(factors)
        slopes.append(of_last[order[2]].take(z).masked_fill(~known, 0.0).view(width, width))
    ladder = torch.arange(max(sizes) + 1, device=CPU)
    first = (low.unsqueeze(1) + x).clamp(max=max(sizes)) + x.new_tensor([[0], [1], [2]]) * len(ladder)
    return Triple(
        orders,
        torch.stack(joint, 1).masked_fill(~known.unsqueeze(1), -math.inf),
        x_and_y.double(),
        torch.cat([x_and_y, -x_and_y.sum(1, keepdim=True)], 1).double().t().contiguous(),
        torch.tensor([[0.0], [1.0], [-1.0]], dtype=torch.float64, device=CPU),
        Forms(torch.cat(counts), ladder),
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
        inverse: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
    ) -> tuple[Tensor, Any, Any]:
        of, width = urn.triple, urn.width
        assert of is not None
        order = of.orders.index_select(0, which)
        ordered = log_weights.reshape(-1, 3).double().gather(1, order).t()
        joint = of.joint if urn.alike else of.joint.gather(1, which.expand(width * width, -1))
        joint = torch.addmm(joint, of.counting, ordered[:2] - ordered[2]).view(width, width, -1)
        highest = joint.amax(1).clamp_(min=-1e300)
        terms = (joint - highest.unsqueeze(1)).exp_()
        whole = terms.sum(1)
        # The Gumbel noise is -log(-log(u)).
        perturbed = noise.log_().neg_().log_()
        first, second = perturbed.unbind(0)
        torch.sub(highest.add_(whole.log()), first, out=first)
        x = first.max(0, keepdim=True)[1]  # along a short column faster than argmax
        torch.sub(joint.gather(0, x.unsqueeze(1).expand(1, width, -1)).squeeze(0), second, out=second)
        soft = torch.softmax(perturbed.mul_(inverse), 1)
        row_of_x = torch.add(x.squeeze(0), which, alpha=width)
        place = torch.add(second.max(0)[1], row_of_x, alpha=width)
        ctx.urn, ctx.inverse, ctx.selected = urn, inverse, selected
        ctx.save_for_backward(log_weights, terms, whole, soft, order, which, row_of_x, place)
        ctx.set_materialize_grads(False)
        return of.forms.at(place, log_weights.shape, dtype, selected)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights = ctx.saved_tensors[0]
        with torch.no_grad():
            grad = _gradient(ctx, counts_grad, one_hot_grad, mask_grad).to(log_weights.dtype).view(log_weights.shape)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _gradient(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights, float64 [B, 3]."""
    urn, of, inverse = ctx.urn, ctx.urn.triple, ctx.inverse
    _, terms, whole, soft, order, which, row_of_x, place = ctx.saved_tensors
    batch, width = len(order), urn.width
    values = values_of_counts(one_hot_grad, mask_grad, counts_grad, urn.ladder)
    if values is None:
        return whole.new_zeros(batch, 3)
    values = values.reshape(batch, -1).double()
    # The slope of what the last group gains, at what is left for it.
    around = values.gather(1, of.around.index_select(0, place))
    along = (around * of.differences.index_select(0, place)).sum(1)
    first, second = (
        values.t().gather(0, of.windows.gather(1, which.expand(2 * width, -1))).view(2, width, batch).unbind(0)
    )
    soft_first, soft_second = soft.unbind(0)
    second = through_softmax(torch.addcmul(second, urn.ramp, along, value=-1), soft_second)
    # How the second group's soft count, and what the loss gains by it, depend on what the first one left.
    risen = (second * of.rises.index_select(1, row_of_x)).sum(0)
    along = torch.addcmul(along, risen, inverse) if isinstance(inverse, Tensor) else along.add_(risen, alpha=inverse)
    first = through_softmax(torch.addcmul(first, urn.ramp, along, value=-1), soft_first)
    # The first group's log-weights are sums over the second one's counts: each is pushed as it has a part in them.
    pushed = terms * (first / whole.clamp(min=1)).unsqueeze(1)
    result = torch.addcmul(of.balance @ pushed.view(-1, batch), of.sign, (second * urn.ramp).sum(0)).mul_(inverse).t()
    return torch.empty_like(result).scatter_(1, order, result)
