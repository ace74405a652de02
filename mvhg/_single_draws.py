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
# Numbers within exp(660) of 1 need no tilt; under it, what is read so much below the largest is told from 0.
_LARGEST, _DEEPEST = 660.0, 600.0
# Standard deviations by which the tilt may be off: it need only be near enough for the numbers not to underflow.
_TOLERANCE = 10.0
# Sums that are made at once; more are added up count by count.
_AT_ONCE = 1 << 10
# The least number that may divide.
_SMALLEST = 1e-290
_PLANS: dict[tuple[tuple[int, ...], int], "Plan"] = {}
_MOST_PLANS = 64


class Pair(NamedTuple):
    """Two groups in the order in which they are drawn.

    Attributes:
        order: the groups.
        least: their least counts.
        row: log-weights of the first one's counts, but for the part linear in them, [X].
        sign: by which the log weights enter that part, float64 [2, 1].
        counting: that part's slope in the log weights at each count, float64 [X, 2].
        start, direction: the groups' counts, in the caller's order, if the first is x: start + x direction, int64 [2].
    """

    order: tuple[int, int]
    least: tuple[int, int]
    row: Tensor
    sign: Tensor
    counting: Tensor
    start: Tensor
    direction: Tensor


class Plan(NamedTuple):
    """What sizes and total decide. Counts are x - least from here on, and remaining counts what is left of ``total``.

    Attributes:
        sizes: group sizes, int64 [c].
        magnitude: bound on the logarithm of the number of ways to draw, and of its inverse.
        alike: whether they are all one.
        least: least count of each group, int64 [c].
        shifted: whether any of them is above 0.
        drawn: the total count.
        total: what of it is beyond the least counts.
        width: counts in a table of a group, X.
        ranges: least and largest sum of the groups after position i, for all orders.
        coefficients: log C(m, least + x) up to a constant, -inf where x is impossible: [c, X], or [1, X] if all alike.
        steps: 0, 1, ... as float64, [X].
        places: columns that a group's counts, and one on each side, read if nothing is drawn before: int64 [X + 2].
        sums: the sum s of each column of a table, ``total + 1 - column``: float64 [P].
        rises: derivative in s, up to a constant, of a last group's log-weights at the columns of its table: central
            differences, one-sided at the ends of the support; [c P], or [P] if all groups are alike.
        ladder: 0..M, int64.
        neighbours: x - 1 and x + 1, or x itself where there is none, for each count x of each group: int64 [c X, 2], or
            [X, 2] if all groups are alike.
        differences: factors that make of what stands there the mean difference to the neighbours: [c X, 2].
        pairs: of two groups, by whether the second is drawn first.
    """

    sizes: Tensor
    magnitude: float
    alike: bool
    least: Tensor
    shifted: bool
    drawn: int
    total: int
    width: int
    ranges: tuple[tuple[int, int], ...]
    coefficients: Tensor
    steps: Tensor
    places: Tensor
    sums: Tensor
    rises: Tensor
    ladder: Tensor
    neighbours: Tensor
    differences: Tensor
    pairs: tuple[Pair, ...]

    def serves(self, batch: int, depth: float) -> bool:
        """Whether tables of the whole support pay for so many urns and reach the depth, see ``depth_read``."""
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
        width = max(spans) + 1
        if width * (rest + width) > _MOST_PRODUCTS:
            return None
        with torch.inference_mode(False), torch.no_grad():
            found = _plan(sizes, total, least, spans)
        while len(_PLANS) >= _MOST_PLANS:
            _PLANS.pop(next(iter(_PLANS)))
        _PLANS[sizes, total] = found
    return found


def _plan(sizes: tuple[int, ...], drawn: int, least: list[int], spans: list[int]) -> Plan:
    groups, total = len(sizes), drawn - sum(least)
    width, most_first = max(spans) + 1, sorted(spans, reverse=True)
    ranges = [
        (max(0, total - sum(most_first[: i + 1])), min(total, sum(most_first[: groups - 1 - i])))
        for i in range(groups - 1)
    ]
    alike, steps = len(set(sizes)) == 1, torch.arange(width, dtype=torch.float64)
    m, k = (torch.tensor(a[:1] if alike else a, dtype=torch.float64).unsqueeze(1) for a in (list(sizes), least))
    # Sums of logarithms of ratios: logarithms of factorials lose digits.
    coefficients = pad((((m - k + 1) - steps[1:]).clamp(min=0) / (k + steps[1:])).log().cumsum(1), (1, 0))
    n, most = sum(sizes), min(total, sum(sizes) // 2)
    magnitude = math.lgamma(n + 1) - math.lgamma(most + 1) - math.lgamma(n - most + 1)
    if any(least):  # relative to the number of ways to draw these
        magnitude = n * math.log(2)
    counts = (k + steps).minimum(m)
    ends = torch.stack([(counts - 1).clamp(min=0), (counts + 1).minimum(m)], 2).flatten(0, 1)
    differences = torch.tensor([-1.0, 1.0]) / (ends[:, 1:] - ends[:, :1]).clamp(min=1)
    columns = total + width + 3
    logs = coefficients.new_full((len(coefficients), columns), -math.inf)
    logs[:, total + 2 - width : total + 2] = coefficients.flip(1)
    rises = pad(_rises(logs.t().unsqueeze(0), torch.float64)[0].t(), (1, 1))
    pairs = []
    for order in ((0, 1), (1, 0)) if groups == 2 else ():
        signs = [1 - 2 * g for g in order]
        sign = torch.tensor(signs, dtype=torch.float64)
        start = torch.tensor([k + (total if s < 0 else 0) for k, s in zip(least, signs, strict=True)])
        row = coefficients[order[0] % len(coefficients)] + coefficients[order[1] % len(coefficients)].flip(0)
        in_order = (least[order[0]], least[order[1]])
        pairs.append(
            Pair(order, in_order, row, sign.unsqueeze(1), steps.unsqueeze(1) * sign, start, torch.tensor(signs))
        )
    return Plan(
        torch.tensor(sizes),
        magnitude,
        alike,
        torch.tensor(least),
        any(least),
        drawn,
        total,
        width,
        tuple(ranges),
        coefficients,
        steps,
        torch.arange(width + 2),
        total + 1 - torch.arange(columns, dtype=torch.float64),
        rises.flatten(),
        torch.arange(max(sizes) + 1),
        ends.long(),
        differences,
        tuple(pairs),
    )


def draw(
    urn: Plan,
    log_weights: Tensor,
    given: tuple[int, ...] | None,
    temperature: float | Tensor,
    dtype: torch.dtype,
    selected: bool,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Counts [..., c], one-hot vectors [..., c, M + 1] and prefix masks [..., c, M] in ``dtype``.

    Args:
        urn: the sizes and total.
        log_weights: [..., c], differentiable once.
        given: the drawing order; None for a random one of each urn.
        temperature: a number or float64 [...].
        dtype: of softmax and results.
        selected: whether one-hot vectors and prefix masks are wanted; they are empty otherwise.
        generator: source of randomness.
        noise: uniform variables instead of the generator's, float64 [..., columns] as in ``noise_columns``.
    """
    groups = log_weights.shape[-1]
    batch = log_weights.numel() // groups
    uniform = None
    if noise is not None:
        noise = noise.reshape(batch, -1)
        if given is None:
            uniform, noise = noise[:, :groups], noise[:, groups:]
        noise = noise.reshape(batch, groups - 1, -1)[..., : urn.width]
    if groups == 2:
        if noise is None:
            noise = torch.rand(batch, urn.width, dtype=torch.float64, generator=generator)
        else:
            noise = noise[:, 0].clone()
        temperature = temperature.unsqueeze(1) if isinstance(temperature, Tensor) else temperature
        return _PairDraws.apply(log_weights, urn, noise, temperature, dtype, selected, given == (1, 0))
    if given is None:
        if uniform is None:
            order = torch.rand(groups, batch, dtype=torch.float64, generator=generator).argsort(0)
        else:
            order = uniform.t().argsort(0)
    else:
        order = torch.tensor(given).unsqueeze(1).expand(groups, batch)
    if noise is None:
        noise = torch.rand(groups - 1, urn.width, batch, dtype=torch.float64, generator=generator)
    else:
        noise = noise.permute(1, 2, 0).clone()
    return _SingleDraws.apply(log_weights, urn, order, noise, temperature, dtype, selected)


def _selection(
    urn: Plan, counts: Tensor, shape: torch.Size, dtype: torch.dtype, selected: bool
) -> tuple[Tensor, Tensor, Tensor]:
    counts = counts.view(shape)
    number = counts.to(dtype)
    if not selected:
        return number, number.new_empty(0), number.new_empty(0)
    counts = counts.unsqueeze(-1)
    return number, (counts == urn.ladder).to(dtype), (counts > urn.ladder[:-1]).to(dtype)


class _PairDraws(torch.autograd.Function):
    """Of two groups. The first is drawn, and its softmax, reversed, is that of the second as well."""

    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: Plan,
        noise: Tensor,
        temperature: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
        second_first: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        pair = urn.pairs[second_first]
        logits = log_weights.reshape(-1, 2).double() @ pair.sign
        # The Gumbel noise is -log(-log(u)).
        perturbed = torch.addcmul(pair.row, logits, urn.steps).sub_(noise.log_().neg_().log_())
        highest, count = perturbed.max(1, keepdim=True)
        soft = perturbed.sub_(highest).div_(temperature).to(dtype).exp_()
        soft /= soft.sum(1, keepdim=True)
        ctx.urn, ctx.pair, ctx.temperature, ctx.selected = urn, pair, temperature, selected
        ctx.save_for_backward(log_weights, soft)
        ctx.set_materialize_grads(False)
        return _selection(urn, torch.addcmul(pair.start, count, pair.direction), log_weights.shape, dtype, selected)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights, soft = ctx.saved_tensors
        with torch.no_grad():
            grad = _pair_gradient(ctx, soft, counts_grad, one_hot_grad, mask_grad).view(log_weights.shape)
            grad = grad.to(log_weights.dtype)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _pair_gradient(ctx: Any, soft: Tensor, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights [B, 2]."""
    urn, pair, width = ctx.urn, ctx.pair, ctx.urn.width
    gains: Any = None
    values = _values_of_counts(one_hot_grad, mask_grad) if ctx.selected else None
    if values is not None:
        (a, b), (k, m) = pair.order, pair.least
        values = values.reshape(-1, 2, values.shape[-1])
        gains = values[:, a, k : k + width] + values[:, b, m : m + width].flip(1)
    if counts_grad is not None:
        slope = (counts_grad.reshape(-1, 2) * pair.direction).sum(1, keepdim=True)
        gains = slope * urn.steps.to(soft.dtype) + (0 if gains is None else gains)
    if gains is None:
        return soft.new_zeros(len(soft), 2)
    rise = soft * gains
    rise = torch.addcmul(rise, soft, rise.sum(1, keepdim=True), value=-1)
    return (rise.double() @ pair.counting).div_(ctx.temperature)


class _SingleDraws(torch.autograd.Function):
    """Of three groups and more."""

    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: Plan,
        order: Tensor,
        noise: Tensor,
        temperature: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape, groups = log_weights.shape, log_weights.shape[-1]
        weights = log_weights.reshape(-1, groups).double()
        batch, width = weights.shape[0], urn.width
        # Rows of [B, c, ...] in the order [c, B] in which they are drawn.
        rows = (order + torch.arange(0, batch * groups, groups)).flatten()
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
        # The Gumbel noise is -log(-log(u)).
        perturbed = own[:-1] - noise.log_().neg_().log_()
        places = urn.places.unsqueeze(1)
        drawn: Any = None
        most, counts, indices, around = [], [], [], []
        for i, row in enumerate(perturbed.unbind(0)):
            if drawn is None:
                row += table[0, 1 : width + 1].log()
            else:
                indices.append(places + drawn)
                around.append(table[i].gather(0, indices[-1]).log_())
                row += around[-1][1:-1]
            highest, count = row.max(0)
            most.append(highest)
            counts.append(count)
            drawn = count if drawn is None else drawn + count
        counts.append(urn.total - drawn)
        soft = perturbed.sub_(torch.stack(most).unsqueeze(1)).div_(temperature).to(dtype).exp_()
        soft /= soft.sum(1, keepdim=True)
        result = torch.empty_like(rows).index_copy_(0, rows, torch.cat(counts)).view(batch, groups)
        if urn.shifted:
            result = result + urn.least
        ctx.urn, ctx.temperature, ctx.selected = urn, temperature, selected
        ctx.save_for_backward(log_weights, terms, table, soft, counts[-1], order, rows, *indices, *around)
        ctx.set_materialize_grads(False)
        return _selection(urn, result, shape, dtype, selected)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights = ctx.saved_tensors[0]
        with torch.no_grad():
            grad = _gradient(ctx, counts_grad, one_hot_grad, mask_grad).view(log_weights.shape).to(log_weights.dtype)
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


def _correlate(weights: Tensor, row: Tensor, first: int, result: Tensor) -> Tensor:
    """result[p] = sum_x weights[x] row[first + p + x], for [X, B] and [P, B]."""
    (width, batch), length = weights.shape, result.shape[0]
    if length * batch <= _AT_ONCE:
        return torch.sum(row.unfold(0, width, 1)[first : first + length] * weights.t(), 2, out=result)
    torch.mul(row[first : first + length], weights[0], out=result)
    for x, weight in enumerate(weights[1:].unbind(0), first + 1):
        result.addcmul_(row[x : x + length], weight)
    return result


def _spread(weights: Tensor, share: Tensor, first: int, columns: int) -> Tensor:
    """result[first + p + x] = sum of weights[x] share[p], for [X, B] and [S, B]: [columns, B]."""
    (width, batch), length = weights.shape, share.shape[0]
    if length * batch <= _AT_ONCE:
        after = columns - first - length
        windows = pad(share, (0, 0, first + width - 1, after)).unfold(0, width, 1)
        return (windows * weights.flip(0).t()).sum(2)
    result = share.new_zeros(columns, batch)
    for x, weight in enumerate(weights.unbind(0), first):
        result[x : x + length].addcmul_(share, weight)
    return result


def _gradient(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights [B, c] as [B c]; see ``_relaxation._gradients``."""
    urn = ctx.urn
    _, terms, table, soft, last, order, rows, *others = ctx.saved_tensors
    indices, around = others[: len(others) // 2], others[len(others) // 2 :]
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
        values = values.reshape(groups * batch, -1).index_select(0, rows)
        rise = _slope_at(values[-batch:], last, urn, order[-1])
        along = rise if along is None else along + rise
        if urn.shifted:
            low = urn.least.index_select(0, order.flatten()).unsqueeze(1)
            values = values.gather(1, (low + torch.arange(width)).clamp(max=values.shape[1] - 1))
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
        change = _rises(torch.stack(around), dtype) * later
    change = torch.addcmul(change, later, change.sum(1, keepdim=True), value=-1) * scale
    by_count = (change * ramp).sum(1).unbind(0)
    by_value = None if gains is None else (change * gains[1:]).sum(1).unbind(0)
    follows = [along]
    for i in range(positions - 2, -1, -1):
        step = -along if slopes is None else slopes[i + 1] - along
        along = torch.addcmul(along, step, by_count[i])
        along = along if by_value is None else along + by_value[i]
        follows.append(along)
    slope = -torch.stack(follows[::-1]) if slopes is None else slopes[:-1] - torch.stack(follows[::-1])
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
    urn: Plan, terms: Tensor, table: Tensor, grad: Tensor, means: Tensor, indices: list[Tensor]
) -> list[Tensor]:
    """Gradients in the log weights after position 0 but for the last, of each [B].

    The derivative of log P(sum = s) in a group's log-weight is that group's mean given s. Of the gradient in each sum s
    the chances of what the later groups add up to carry a part on, and what their mean falls short of s is the group's.
    Of what enters at a position, a sum of 0 over the counts x, the mean of s = r - x is minus that of x.

    Args:
        grad: in the conditional log-weights [c-1, X, B].
        means: of the counts under ``grad``, [c-1, B].
    """
    positions = len(indices) + 1
    flow: Any = None
    mean, results = -means[0], []
    for i in range(positions - 1):
        least, most = urn.ranges[i]
        first, end = urn.total + 1 - most, urn.total + 2 - least
        share = grad[0, first - 1 :] if flow is None else flow[first:end]
        share = share / table[i, first:end].clamp(min=_SMALLEST)
        if i == positions - 2:
            known = _correlate(terms[i + 1] * urn.steps.unsqueeze(1), table[i + 1], first, torch.empty_like(share))
            results.append((share * known).sum(0).add_(means[i + 1]))
            break
        flow = _spread(terms[i + 1], share, first, len(urn.sums)).mul_(table[i + 1])
        carried = torch.mv(flow.t(), urn.sums)
        results.append((mean - carried).add_(means[i + 1]))
        flow.scatter_add_(0, indices[i][1:-1], grad[i + 1])
        mean = carried - means[i + 1]
    return results


def _values_of_counts(one_hot_grad: Tensor | None, mask_grad: Tensor | None) -> Tensor | None:
    """What the loss gains, to first order and up to a constant, if a group's count is 0..M: [..., c, M + 1] or None."""
    values = one_hot_grad
    if mask_grad is not None:
        prefix = pad(mask_grad.cumsum(-1), (1, 0))
        values = prefix if values is None else values + prefix
    return values


def _slope_at(values: Tensor, count: Tensor, urn: Plan, group: Tensor) -> Tensor:
    """Mean of the differences of values [B, M + 1] to the two neighbours of a group's count, or the only one; [B]."""
    place = count if urn.alike else count + group * urn.width
    around = values.gather(1, urn.neighbours.index_select(0, place))
    return (around * urn.differences.index_select(0, place).to(values.dtype)).sum(1)


def _rises(around: Tensor, dtype: torch.dtype) -> Tensor:
    """Derivative of T_i(r - x) in r: central differences, one-sided at the ends of the support; [k, X, B]."""
    rise = (around[:, :-1] - around[:, 1:]).to(dtype)
    known = (rise.abs() < math.inf).to(dtype)
    rise.nan_to_num_(0.0, 0.0, 0.0)
    return (rise[:, :-1] + rise[:, 1:]) / (known[:, :-1] + known[:, 1:]).clamp_(min=1)
