"""Straight-through draws, one from each urn of a batch that shares its sizes and total, on a CPU.

The law and the derivative are those of ``_conditionals`` and ``_relaxation``, which serve everything else. Here every
table covers the whole support, counted from the least possible count of each group, so that all places are known
without a look at the weights, and the batch comes last in memory, where a CPU's vectors run along it.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._bernoulli_sum import solve_tilt
from mvhg._bounds import Bounds
from mvhg._once import refuse_second_derivative

# Products of probabilities a call, above which narrower tables or transforms win.
_MOST_PRODUCTS = 1 << 21
# Probabilities within exp(-600) of one another need no tilt; under it, so much below the largest is told from 0.
_DEEPEST = 600.0
# Rows that are convolved count by count instead of at once.
_FEWEST_ROWS = 16
# The least probability that may divide.
_SMALLEST = 1e-290
_PLANS: dict[tuple[tuple[int, ...], int], "Plan"] = {}
_MOST_PLANS = 64


class Plan(NamedTuple):
    """What sizes and total decide. Counts are x - least from here on, and remaining counts what is left of ``total``.

    Attributes:
        sizes: group sizes, int64 [c].
        population: their sum.
        alike: whether they are all one.
        least: least count of each group, int64 [c].
        shifted: whether any of them is above 0.
        total: what is to be drawn beyond them.
        width: counts in a table of a group, X.
        ranges: least and largest sum of the groups after position i, for all orders.
        coefficients: log C(m, least + x) up to a constant, -inf where x is impossible: [c, X], or [1, X] if all alike.
        steps: 0, 1, ... as float64, [X].
        places: ``steps`` from -1 to X, int64 [X + 2].
        sums: the sum s of each column of a table, ``total + 1 - column``: float64 [P].
    """

    sizes: Tensor
    population: int
    alike: bool
    least: Tensor
    shifted: bool
    total: int
    width: int
    ranges: tuple[tuple[int, int], ...]
    coefficients: Tensor
    steps: Tensor
    places: Tensor
    sums: Tensor

    def serves(self, batch: int, depth: float) -> bool:
        """Whether tables of the whole support pay for so many urns, and are as accurate as asked, see ``Relaxation``."""
        if len(self.ranges) > 1 and depth > _DEEPEST:
            return False
        products = self.width * (1 + sum(most - least + 1 for least, most in self.ranges[:-1]))
        return batch * products <= _MOST_PRODUCTS


def plan(bounds: Bounds) -> Plan | None:
    """Of a batch of urns; None unless the host knows that they have the same sizes and total, and few of them."""
    sizes, total = bounds.sizes, bounds.totals
    if sizes is None or total is None or len(sizes) < 2 or 0 in sizes:
        return None
    found = _PLANS.get((sizes, total))
    if found is None:
        left = sum(sizes) - total
        least = [max(0, m - left) for m in sizes]
        rest = total - sum(least)
        spans = [min(m - k, rest) for m, k in zip(sizes, least, strict=True)]
        width, most_first = max(spans) + 1, sorted(spans, reverse=True)
        if width * (rest + width) > _MOST_PRODUCTS:
            return None
        groups = len(sizes)
        ranges = [
            (max(0, rest - sum(most_first[: i + 1])), min(rest, sum(most_first[: groups - 1 - i])))
            for i in range(groups - 1)
        ]
        with torch.inference_mode(False), torch.no_grad():
            steps = torch.arange(width, dtype=torch.float64)
            alike = len(set(sizes)) == 1
            rows = list(zip(sizes, least, strict=True))[: 1 if alike else groups]
            m, k = torch.tensor(rows, dtype=torch.float64).unsqueeze(2).unbind(1)
            ratios = ((m - k + 1) - steps[1:]).clamp(min=0) / (k + steps[1:])
            found = Plan(
                torch.tensor(sizes),
                sum(sizes),
                alike,
                torch.tensor(least),
                any(least),
                rest,
                width,
                tuple(ranges),
                pad(ratios.log().cumsum(1), (1, 0)),
                steps,
                torch.arange(-1, width + 1),
                rest + 1 - torch.arange(rest + width + 3, dtype=torch.float64),
            )
        while len(_PLANS) >= _MOST_PLANS:
            _PLANS.pop(next(iter(_PLANS)))
        _PLANS[sizes, total] = found
    return found


def draw(
    urn: Plan,
    log_weights: Tensor,
    order: Tensor,
    noise: Tensor,
    temperature: float | Tensor,
    dtype: torch.dtype,
    largest: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Counts [B, c], one-hot vectors [B, c, M + 1] and prefix masks [B, c, M] in ``dtype``.

    Args:
        urn: the sizes and total.
        log_weights: float64 [B, c], differentiable once.
        order: drawing order, a permutation of the groups, int64 [B, c].
        noise: uniform variables, float64 [c-1, X, B], overwritten.
        temperature: a number or float64 [B].
        dtype: of softmax and results.
        largest: M, or None if the counts alone are wanted; the other results are then empty.
    """
    return _SingleDraws.apply(log_weights, urn, order, noise, temperature, dtype, largest)


class _SingleDraws(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: Plan,
        order: Tensor,
        noise: Tensor,
        temperature: float | Tensor,
        dtype: torch.dtype,
        largest: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, groups = log_weights.shape
        positions, width = groups - 1, urn.width
        # Rows of [B, c, ...] in the order [c, B] in which they are drawn.
        rows = (order + torch.arange(0, batch * groups, groups).unsqueeze(1)).t().flatten()
        ordered = log_weights.flatten().index_select(0, rows).view(groups, 1, batch)
        coefficients = urn.coefficients
        if urn.alike:
            coefficients = coefficients.unsqueeze(2)
        else:
            coefficients = coefficients.index_select(0, order.t().flatten())
            coefficients = coefficients.view(groups, batch, width).transpose(1, 2).contiguous()
        if groups > 2:
            farthest = float(log_weights.abs().max())
            tilted = urn.population * (farthest + math.log(2)) > _DEEPEST
            if tilted:
                size, total = urn.sizes.double().expand(batch, groups), urn.total + urn.least.sum().double()
                ordered = ordered + solve_tilt(size, log_weights, total.expand(batch), 1.0)
        own = torch.addcmul(coefficients, ordered, urn.steps.unsqueeze(1))
        if groups > 2:
            terms, table = _tables(urn, own, tilted)
            first = table[0, 1 : width + 1].log()
        else:
            terms = table = None
            first = own[1].flip(0)  # of two groups the largest counts are both all that is to be drawn
        # The Gumbel noise is -log(-log(u)).
        perturbed = own[:-1] - noise.log_().neg_().log_()
        perturbed[0] += first
        highest, count = perturbed[0].max(0)
        most, counts, indices, around = [highest], [count], [], []
        drawn = count
        for i in range(1, positions):
            index = urn.places.unsqueeze(1) + (drawn + 1)
            near = table[i].gather(0, index).log_()
            row = perturbed[i].add_(near[1:-1])
            highest, count = row.max(0)
            drawn = drawn + count
            most.append(highest)
            counts.append(count)
            indices.append(index)
            around.append(near)
        last = urn.total - drawn
        perturbed -= torch.stack(most).unsqueeze(1)
        soft = perturbed.div_(temperature).to(dtype).exp_()
        soft /= soft.sum(1, keepdim=True)
        every = torch.stack([*counts, last])
        result = torch.empty_like(rows).index_copy_(0, rows, every.flatten()).view(batch, groups)
        if urn.shifted:
            result = result + urn.least
        ctx.urn, ctx.temperature, ctx.selected, ctx.rows = urn, temperature, largest is not None, rows
        ctx.tables = (terms, table, soft, last, order, indices, around)
        ctx.save_for_backward(log_weights)
        ctx.set_materialize_grads(False)
        number = result.to(dtype)
        if largest is None:
            return number, soft.new_empty(0), soft.new_empty(0)
        steps = torch.arange(largest + 1)
        result = result.unsqueeze(2)
        return number, (result == steps).to(dtype), (result > steps[:-1]).to(dtype)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        (log_weights,) = ctx.saved_tensors
        with torch.no_grad():
            grad = _gradient(ctx, counts_grad, one_hot_grad, mask_grad)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _tables(urn: Plan, own: Tensor, tilted: bool) -> tuple[Tensor, Tensor]:
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


def _correlate(weights: Tensor, row: Tensor, first: int, result: Tensor) -> None:
    """result[p] = sum_x weights[x] row[first + p + x], for [X, B] and [P, B]."""
    width, batch = weights.shape
    length = len(result)
    if batch >= _FEWEST_ROWS:
        torch.mul(row[first : first + length], weights[0], out=result)
        for x, weight in enumerate(weights[1:].unbind(0), first + 1):
            result.addcmul_(row[x : x + length], weight)
    else:
        torch.sum(row.unfold(0, width, 1)[first : first + length] * weights.t(), 2, out=result)


def _spread(weights: Tensor, share: Tensor, first: int, result: Tensor) -> None:
    """Adds weights[x] share[p] to result[first + p + x], for [X, B] and [S, B]."""
    width, batch = weights.shape
    length = len(share)
    if batch >= _FEWEST_ROWS:
        for x, weight in enumerate(weights.unbind(0), first):
            result[x : x + length].addcmul_(share, weight)
    else:
        windows = pad(share, (0, 0, width - 1, width - 1)).unfold(0, width, 1)
        result[first : first + length + width - 1] += (windows * weights.flip(0).t()).sum(2)


def _gradient(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights [B, c]; see ``_relaxation._gradients``."""
    urn, rows = ctx.urn, ctx.rows
    terms, table, soft, last, order, indices, around = ctx.tables
    positions, width, batch = soft.shape
    dtype, groups = soft.dtype, positions + 1
    scale: Any = 1 / ctx.temperature
    scale = scale.to(dtype) if isinstance(scale, Tensor) else scale
    if not ctx.selected:
        one_hot_grad = mask_grad = None
    # The loss, to first order, is a sum over the groups of a slope times the count and of a value of each count.
    slopes: Any = None
    if counts_grad is not None:
        slopes = counts_grad.flatten().index_select(0, rows).view(groups, batch)
    gains: Any = None
    along: Any = None if slopes is None else slopes[-1]
    values = _values_of_counts(one_hot_grad, mask_grad)
    if values is not None:
        values = values.flatten(0, 1).index_select(0, rows)
        rise = _slope_at(values[-batch:], last, urn, order[:, -1])
        along = rise if along is None else along + rise
        if urn.shifted:
            low = urn.least.index_select(0, order.t().flatten()).unsqueeze(1)
            values = values.gather(1, (low + torch.arange(width)).clamp(max=values.shape[1] - 1))
        values = values.view(groups, batch, -1)[..., :width]
        gains = values[:-1].transpose(1, 2)
    ramp = urn.steps.to(dtype).unsqueeze(1)
    if along is None:
        along = soft.new_zeros(batch)
    # How a soft count, and what the values gain by it, depend on what is left to draw.
    follows = [along]
    if positions > 1:
        later = soft[1:]
        change = _rises(torch.stack(around), dtype) * later
        change = torch.addcmul(change, later, change.sum(1, keepdim=True), value=-1) * scale
        by_count = (change * ramp).sum(1).unbind(0)
        by_value = None if gains is None else (change * gains[1:]).sum(1).unbind(0)
        for i in range(positions - 2, -1, -1):
            change = -along if slopes is None else slopes[i + 1] - along
            along = torch.addcmul(along, change, by_count[i])
            along = along if by_value is None else along + by_value[i]
            follows.append(along)
    slope = -torch.stack(follows[::-1]) if positions > 1 else -along.unsqueeze(0)
    slope = slope if slopes is None else slopes[:-1] + slope
    rise = ramp * slope.unsqueeze(1)
    rise = rise if gains is None else rise.add_(gains)
    rise *= soft
    rise = torch.addcmul(rise, soft, rise.sum(1, keepdim=True), value=-1)
    grad = (rise * scale).double()
    # A log-weight multiplies the count.
    direct = (grad * urn.steps.unsqueeze(1)).sum(1)
    if positions == 1:
        result = torch.cat([direct, -direct])
    else:
        result = torch.stack([direct.new_zeros(batch), *_through_sums(urn, terms, table, grad, direct, indices)])
        result[:-1] += direct
    return torch.empty_like(result).view(-1).index_copy_(0, rows, result.flatten()).view(batch, groups)


def _through_sums(
    urn: Plan, terms: Tensor, table: Tensor, grad: Tensor, direct: Tensor, indices: list[Tensor]
) -> list[Tensor]:
    """Gradient in the log weights after position 0, through the tables of sums: of each [B].

    The derivative of log P(sum = s) in a group's log-weight is that group's mean given s. Of the gradient in each sum s
    the chances of what the later groups add up to carry a part on, and what their mean falls short of s is the group's.
    Of what enters at a position, a sum of 0 over the counts x, the mean of s = r - x is minus that of x.
    """
    positions, width, batch = grad.shape
    flow = table.new_zeros(table.shape[1:])
    flow[1 : width + 1] = grad[0]
    mean, results = -direct[0], []
    for i in range(positions - 1):
        least, most = urn.ranges[i]
        columns = slice(urn.total + 1 - most, urn.total + 2 - least)
        share = flow[columns] / table[i, columns].clamp(min=_SMALLEST)
        flow.zero_()
        _spread(terms[i + 1], share, columns.start, flow)
        flow *= table[i + 1]
        carried = torch.mv(flow.t(), urn.sums)
        results.append(mean - carried)
        flow.scatter_add_(0, indices[i][1:-1], grad[i + 1])
        mean = carried - direct[i + 1]
    return [*results, mean]


def _values_of_counts(one_hot_grad: Tensor | None, mask_grad: Tensor | None) -> Tensor | None:
    """What the loss gains, to first order and up to a constant, if a group's count is 0..M: [B, c, M + 1] or None."""
    values = one_hot_grad
    if mask_grad is not None:
        prefix = pad(mask_grad.cumsum(2), (1, 0))
        values = prefix if values is None else values + prefix
    return values


def _slope_at(values: Tensor, count: Tensor, urn: Plan, group: Tensor) -> Tensor:
    """Mean of the differences of values [B, M + 1] to the two neighbours of a group's count, or the only one; [B]."""
    if urn.shifted:
        count = count + urn.least.index_select(0, group)
    if urn.alike:
        upper = (count + 1).clamp(max=values.shape[1] - 1)
    else:
        upper = torch.minimum(count + 1, urn.sizes.index_select(0, group))
    ends = torch.stack([(count - 1).clamp(min=0), upper], 1)
    rise = values.gather(1, ends)
    return (rise[:, 1] - rise[:, 0]) / (ends[:, 1] - ends[:, 0]).clamp(min=1)


def _rises(around: Tensor, dtype: torch.dtype) -> Tensor:
    """Derivative of T_i(r - x) in r: central differences, one-sided at the ends of the support; [k, X, B]."""
    rise = (around[:, :-1] - around[:, 1:]).to(dtype)
    known = rise.abs() < math.inf
    rise = rise.nan_to_num_(0.0, 0.0, 0.0)
    return (rise[:, :-1] + rise[:, 1:]) * torch.where(known[:, :-1] & known[:, 1:], 0.5, 1.0).to(dtype)
