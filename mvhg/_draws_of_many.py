"""Single draws from urns of three groups and more, group after group."""

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._once import refuse_second_derivative
from mvhg._surrogate import central_rises, forms_of, slopes_with_what_follows, values_of_counts
from mvhg._tilt import solve_tilt

if TYPE_CHECKING:
    from mvhg._single_plan import Plan

# Numbers within exp(660) of 1 need no tilt.
_LARGEST = 660.0
# Standard deviations by which the tilt may be off: near enough for the total to be made up of groups that do not
# underflow. By more than one, it might be out of reach of those.
_TOLERANCE = 0.5
# Sums that are made at once; more are added up count by count.
_AT_ONCE = 1 << 11
# The least number that may divide.
_SMALLEST = 1e-290


class DrawsOfMany(torch.autograd.Function):
    """One draw an urn, each in its own order."""

    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: "Plan",
        order: Tensor,
        noise: Tensor,
        inverse: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
    ) -> tuple[Tensor, Any, Any]:
        shape, groups = log_weights.shape, log_weights.shape[-1]
        weights = log_weights.reshape(-1, groups).double()
        batch, width = weights.shape[0], urn.width
        # Rows of [B, c, ...] in the order [c, B] in which they are drawn.
        rows = (order + torch.arange(0, batch * groups, groups, device=order.device)).flatten()
        ordered = weights.flatten().index_select(0, rows).view(groups, 1, batch)
        if urn.alike:
            coefficients = urn.coefficients.unsqueeze(2)
        else:
            coefficients = urn.coefficients.t().index_select(1, order.flatten())
            coefficients = coefficients.view(width, groups, batch).transpose(0, 1)
        tilted = urn.magnitude + urn.total * float(weights.abs().max()) > _LARGEST
        if tilted:
            size, total = urn.sizes.double().expand(batch, groups), weights.new_full((batch,), urn.drawn)
            ordered = ordered + solve_tilt(size, weights, total, _TOLERANCE)
        own = torch.addcmul(coefficients, ordered, urn.steps.unsqueeze(1))
        terms, table = _tables(urn, own, tilted)
        if groups > 3 and not urn.alike:
            _keep_reachable(urn, order, table[:-1])
        # The Gumbel noise is -log(-log(u)).
        perturbed = own[:-1] - noise.log_().neg_().log_()
        first, *rest = perturbed.unbind(0)
        first += table[0, 1 : width + 1].log()
        drawn = first.max(0)[1]
        counts = [drawn]
        indices = order.new_empty(groups - 2, width + 2, batch)
        around = own.new_empty(groups - 2, width + 2, batch)
        places = urn.places.unsqueeze(1)
        for row, sums, index, near in zip(rest, table[1:].unbind(0), indices.unbind(0), around.unbind(0), strict=True):
            torch.add(places, drawn, out=index)
            row += torch.gather(sums, 0, index, out=near).log_()[1:-1]
            count = row.max(0)[1]
            counts.append(count)
            drawn = drawn + count
        counts.append(urn.total - drawn)
        soft = torch.softmax(perturbed.mul_(inverse), 1).to(dtype)
        result = torch.empty_like(rows).index_copy_(0, rows, torch.cat(counts)).view(batch, groups)
        if urn.shifted:
            result = result + urn.least
        ctx.urn, ctx.inverse, ctx.selected = urn, inverse, selected
        ctx.save_for_backward(log_weights, terms, table, soft, counts[-1], order, rows, indices, around)
        ctx.set_materialize_grads(False)
        return forms_of(result.view(shape), urn.ladder, dtype, selected)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights = ctx.saved_tensors[0]
        with torch.no_grad():
            grad = _gradient(ctx, counts_grad, one_hot_grad, mask_grad).view(log_weights.shape).to(log_weights.dtype)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _tables(urn: "Plan", own: Tensor, tilted: bool) -> tuple[Tensor, Tensor]:
    """Probabilities of the groups' counts [c, X, B], and of the sums of those after position i, [c-1, P, B].

    Column p of the latter is of the sum ``total + 1 - p``. So what may remain when r are left and x are drawn stands,
    in ascending order of x, from column ``total + 1 - r`` on, and a sum with one more group is a correlation.
    """
    groups, width, batch = own.shape
    terms = own.exp() if not tilted else (own - own.amax(1, keepdim=True)).exp_()
    if tilted:
        terms /= terms.sum(1, keepdim=True)
    table = own.new_zeros(groups - 1, len(urn.sums), batch)
    table[-1, urn.total + 2 - width : urn.total + 2] = terms[-1].flip(0)
    for i in range(groups - 3, -1, -1):
        least, most = urn.ranges[i]
        first, end = urn.total + 1 - most, urn.total + 2 - least
        _correlate(terms[i + 1], table[i + 1], first, table[i, first:end])
    return terms, table


def _keep_reachable(urn: "Plan", order: Tensor, table: Tensor) -> None:
    """Takes out the sums that are too low in these orders, with 0..n - 1 of the groups before; [c-2, P, B]."""
    before, needed = (a.index_select(0, order.flatten()).view(order.shape).cumsum(0) for a in (urn.sizes, urn.least))
    # Of what remains beyond the least counts of the later groups.
    lowest = (urn.drawn - before).clamp(min=0) - (needed[-1] - needed)
    sums = urn.sums.unsqueeze(1)
    table.masked_fill_(sums < lowest[:-2].unsqueeze(1), 0.0)


def _correlate(weights: Tensor, row: Tensor, first: int, result: Tensor) -> Tensor:
    """result[p] = sum_x weights[x] row[first + p + x], for [X, B] and [P, B]."""
    (width, batch), length = weights.shape, result.shape[0]
    if length * batch <= _AT_ONCE:
        return torch.sum(row.unfold(0, width, 1)[first : first + length] * weights.t(), 2, out=result)
    torch.mul(row[first : first + length], weights[0], out=result)
    for x, weight in enumerate(weights[1:].unbind(0), first + 1):
        result.addcmul_(row[x : x + length], weight)
    return result


def _spread(weights: Tensor, share: Tensor) -> Tensor:
    """result[p + x] = sum of weights[x] share[p], for [X, B] and [S, B]: [S + X - 1, B]."""
    (width, batch), length = weights.shape, share.shape[0]
    if length * batch <= _AT_ONCE:
        return (pad(share, (0, 0, width - 1, width - 1)).unfold(0, width, 1) * weights.flip(0).t()).sum(2)
    result = share.new_zeros(length + width - 1, batch)
    for x, weight in enumerate(weights.unbind(0)):
        result[x : x + length].addcmul_(share, weight)
    return result


def _gradient(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights [B, c] as [B c]; see ``_relaxation._gradients``."""
    urn = ctx.urn
    _, terms, table, soft, last, order, rows, indices, around = ctx.saved_tensors
    positions, width, batch = soft.shape
    dtype, groups = soft.dtype, positions + 1
    scale: Any = ctx.inverse
    scale = scale.to(dtype) if isinstance(scale, Tensor) else scale
    if not ctx.selected:
        one_hot_grad = mask_grad = None
    # The loss, to first order, is a sum over the groups of a slope times the count and of a value of each count.
    slopes: Any = None
    if counts_grad is not None:
        slopes = counts_grad.flatten().index_select(0, rows).view(groups, batch)
    gains: Any = None
    along: Any = None if slopes is None else slopes[-1]
    values = values_of_counts(one_hot_grad, mask_grad)
    if values is not None:
        values = values.reshape(groups * batch, -1).index_select(0, rows)
        rise = _slope_at(values[-batch:], last, urn, order[-1])
        along = rise if along is None else along + rise
        if urn.shifted:
            low = urn.least.index_select(0, order.flatten()).unsqueeze(1)
            values = values.gather(1, (low + torch.arange(width, device=low.device)).clamp(max=values.shape[1] - 1))
        values = values.view(groups, batch, -1)[..., :width]
        gains = values[:-1].transpose(1, 2)
    ramp = urn.steps.to(dtype).unsqueeze(1)
    if along is None:
        along = soft.new_zeros(batch)
    # How a soft count, and what the values gain by it, depend on what is left to draw.
    later = soft[1:]
    if positions == 2:
        place = indices[0][1:-1] if urn.alike else indices[0][1:-1] + order[-1] * urn.sums.shape[0]
        change = urn.rises.take(place).to(dtype) * later
    else:
        change = central_rises(around, 1, dtype) * later
    change = torch.addcmul(change, later, change.sum(1, keepdim=True), value=-1) * scale
    by_count = (change * ramp).sum(1)
    by_value = None if gains is None else (change * gains[1:]).sum(1)
    slope = slopes_with_what_follows(along, slopes, by_count, by_value, dim=0)
    slope = slope.unsqueeze(1)
    rise = (ramp * slope if gains is None else torch.addcmul(gains, ramp, slope)).mul_(soft)
    rise = torch.addcmul(rise, soft, rise.sum(1, keepdim=True), value=-1)
    grad = (rise * scale).double()
    # A log-weight multiplies the count.
    means = (grad * urn.steps.unsqueeze(1)).sum(1)
    result = torch.stack([means[0], *_through_sums(urn, terms, table, grad, means, indices)])
    # A common factor of all weights changes nothing.
    result = torch.cat([result.flatten(), result.sum(0).neg_()])
    return torch.empty_like(result).index_copy_(0, rows, result)


def _through_sums(
    urn: "Plan", terms: Tensor, table: Tensor, grad: Tensor, means: Tensor, indices: Tensor
) -> list[Tensor]:
    """Gradients in the log weights after position 0 but for the last, [c-2, B].

    The derivative of log P(sum = s) in a group's log-weight is that group's mean given s. Of the gradient in each sum s
    the chances of what the later groups add up to carry a part on, and what their mean falls short of s is the group's.
    At the next position the gradient in its counts x enters as one in the sums s = r - x: its mean is minus that of x,
    so that a group's own part is all that the mean loses on the way.

    Args:
        grad: in the conditional log-weights [c-1, X, B].
        means: of the counts under ``grad``, [c-1, B].
    """
    last, entering, flow = len(indices) - 1, [-means[0]], None
    for i, (least, most) in enumerate(urn.ranges[:-1]):
        first, end = urn.total + 1 - most, urn.total + 2 - least
        share = grad[0, first - 1 :] if flow is None else flow[first:end]
        share = share / table[i, first:end].clamp(min=_SMALLEST)
        if i == last:
            known = _correlate(terms[i + 1] * urn.steps.unsqueeze(1), table[i + 1], first, torch.empty_like(share))
            break
        reached = _spread(terms[i + 1], share)
        flow = torch.zeros_like(table[i + 1])
        beyond = min(first + len(reached), len(flow))
        torch.mul(reached[: beyond - first], table[i + 1, first:beyond], out=flow[first:beyond])
        flow.scatter_add_(0, indices[i, 1:-1], grad[i + 1])
        entering.append(torch.mv(flow.t(), urn.sums))
    own = [before - after for before, after in itertools.pairwise(entering)]
    return [*own, (share * known).sum(0).add_(means[-1])]


def _slope_at(values: Tensor, count: Tensor, urn: "Plan", group: Tensor) -> Tensor:
    """Mean of the differences of values [B, M + 1] to the two neighbours of a group's count, or the only one; [B]."""
    place = count if urn.alike else count + group * urn.width
    around = values.gather(1, urn.neighbours.index_select(0, place))
    return (around * urn.differences.index_select(0, place).to(values.dtype)).sum(1)
