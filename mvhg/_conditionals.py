"""Conditional laws of one group after another, the chain rule of the hypergeometric law (paper Eq. 2).

With r elements left to draw at group i, log p(x | r) = F_i(x) + T_i(r - x) + const, where F_i is the log-pmf of a
binomial of group i and T_i that of the sum of the later groups' binomials ("exact"), all under one common tilt, or of
the one binomial that replaces them ("merged", paper Eq. 3). The pmf of a sum is a convolution of positive terms, in
which nothing cancels: every entry is accurate relative to itself, however far out in the tail.

The widths of the tables follow from the sizes, the total and the depth at which they are read, never from a value on a
device; where the tables begin does depend on the weights.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._bernoulli_sum import solve_tilt
from mvhg._bounds import Bounds
from mvhg._convolution import log_sums, log_sums_gradient, stretch, sum_products
from mvhg._fisher import merged_log_weight
from mvhg._once import once_only

# A float64 is subnormal below exp(-708): what is read deeper is convolved by logarithms, at some five times the cost,
# and so is what has so few terms that the tilt would cost more.
_DEEPEST_LINEAR = 650.0
_FEWEST_LINEAR = 64
# Columns of a table beyond its ends on each side, more than a window: neighbours of the entries at its edge.
_MARGIN = 2


class Tables(NamedTuple):
    """Conditional laws of E urns whose c groups are drawn in order.

    Attributes:
        own: F_i(x) for x = low_i, low_i + 1, ..., up to a constant, -inf outside the support: [E, c, X], float64.
        sums: T_i(s), up to a constant, in descending order of s with -inf on both sides, so that what belongs to one
            remaining count is ascending in x: [E, c-1, P], float64.
        low: first count of each group's window, int64 [E, c].
        base: least s of each sum's window, int64 [E, c-1].
        later: elements in the later groups, int64 [E, c].
        total: int64 [E].
        spans: bounds of the number of remaining counts at each position; the first is base_{i-1}.
    """

    own: Tensor
    sums: Tensor
    low: Tensor
    base: Tensor
    later: Tensor
    total: Tensor
    spans: tuple[int, ...]

    @property
    def width(self) -> int:
        """Counts in a window."""
        return self.own.shape[2]

    def columns(self, i: int, remaining: Tensor, instance: Tensor | None) -> Tensor:
        """Column of ``sums`` that belongs to count low_i of the group at position i, int64 [R].

        Args:
            i: position in drawing order, 0..c-2.
            remaining: elements left to draw, int64 [R].
            instance: the urn of each row [R]; None where row e belongs to urn e.
        """
        shift = self.low[:, i] + self.base[:, i]
        if instance is not None:
            shift = shift.index_select(0, instance)
        last = self.sums.shape[2] - self.width - _MARGIN
        return (shift - remaining + (last - 1)).clamp(_MARGIN, last)

    def windows(self, i: int, column: Tensor, instance: Tensor | None, margin: tuple[int, int] = (0, 0)) -> Tensor:
        """T_i(r - x) for the counts x of a window and so many before and after; [R, before + X + after]."""
        urns, _, columns = self.sums.shape
        urn = torch.arange(urns, device=column.device) if instance is None else instance
        flat = self.sums[:, i].reshape(-1).unfold(0, margin[0] + self.width + margin[1], 1)
        return flat.index_select(0, urn * columns + (column - margin[0]))

    def log_weights(self, i: int, column: Tensor, instance: Tensor | None) -> Tensor:
        """Conditional log-weights log p(x | r) of the group at position i, the largest 0: [R, X]."""
        own = self.own[:, i] if instance is None else self.own[:, i].index_select(0, instance)
        values = own + self.windows(i, column, instance)
        return values - values.amax(1, keepdim=True).clamp(min=-1e300)


def build(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    order: Tensor,
    merged: bool,
    depth: float,
    bounds: Bounds,
    read_values: bool,
) -> Tables:
    """Tables of E = O B urns.

    Args:
        size: group sizes, float64 [B, c].
        log_weights: float64 [B, c], differentiable once.
        total: float64 [B].
        order: drawing orders, int64 [O, B, c].
        merged: whether the later groups are merged (paper) instead of summed exactly.
        depth: counts of probability below exp(-depth) may be left out; infinity keeps the whole support.
        bounds: of the B urns.
        read_values: whether windows may be narrowed by the weights' values, which a device would have to be asked for.
    """
    groups = size.shape[1]
    merged = merged and groups > 2
    size, log_weights = (a.expand_as(order).gather(2, order).flatten(0, 1) for a in (size, log_weights))
    total = total.expand(order.shape[:2]).flatten()
    count, spans = widths(bounds, groups)
    with torch.no_grad():
        drawn, n = size.cumsum(1), total.unsqueeze(1)
        later = drawn[:, -1:] - drawn
        low = (size - (drawn[:, -1:] - n)).clamp(min=0)
        base = (n - drawn).clamp(min=0)[:, :-1]
        linear = groups > 2 and not merged and depth <= _DEEPEST_LINEAR
        linear = linear and count * max(spans[2:], default=1) > _FEWEST_LINEAR
        narrow, narrow_spans = (count, spans) if merged else windows_within(bounds, groups, depth)
        windowed = narrow < count or narrow_spans != spans
    logits = log_weights
    if linear or windowed:
        logits = log_weights + solve_tilt(size, log_weights, total).unsqueeze(1)
    if windowed:
        with torch.no_grad():
            chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
            mean = size * chance
            if read_values:
                variance = mean * opposite
                variances = float(variance.amax()), float(variance[:, 1:].sum(1).amax())
                narrow, narrow_spans = windows_within(bounds, groups, depth, *variances)
            count, spans = narrow, narrow_spans
            low = _centred(mean, low, torch.minimum(size, n), [count] * groups)
            rest = mean.sum(1, keepdim=True) - mean.cumsum(1)
            base = _centred(rest[:, :-1], base, torch.minimum(later, n)[:, :-1], spans[1:])
    if not merged:
        base = torch.cat([base[:, :-1], low[:, -1:]], 1)  # the last sum is the last group
    coefficients = _log_binomials(size, low, count)
    if merged:
        weight = torch.stack([merged_log_weight(size[:, i:], logits[:, i:]) for i in range(1, groups)], 1)
        width = max(spans)
        steps = torch.arange(width, dtype=torch.float64, device=size.device)
        own = coefficients + logits.unsqueeze(2) * steps[:count]
        sums = _log_binomials(later[:, :-1], base, width) + weight.unsqueeze(2) * steps
        sums = _reversed(sums - sums.detach().amax(2, keepdim=True), count, width)
    else:
        own, sums = _Tabulate.apply(logits, coefficients, low, base, spans, linear, depth)
    return Tables(own, sums, low.long(), base.long(), later.long(), total.long(), spans)


def widths(bounds: Bounds, groups: int) -> tuple[int, tuple[int, ...]]:
    """Bounds of the number of counts of a group and of remaining counts at each position, in any order of groups."""
    n, population = bounds.total, bounds.population
    if bounds.sizes is None or bounds.totals is None:
        count = min(bounds.group, n) + 1
        return count, (1,) + (min(n, population) + 1,) * (groups - 2) + (count,) * (groups > 1)
    most = max(min(m, n) - max(0, m - (population - n)) for m in bounds.sizes)
    decreasing = sorted(bounds.sizes, reverse=True)
    spans = [min(n, population - n, sum(decreasing[:i]), sum(decreasing[: groups - i])) + 1 for i in range(groups)]
    return most + 1, (1, *spans[1:-1], *((most + 1,) * (groups > 1)))


def windows_within(
    bounds: Bounds, groups: int, depth: float, variance: float = math.inf, variance_of_sums: float = math.inf
) -> tuple[int, tuple[int, ...]]:
    """As ``widths``, of windows that miss no more than exp(-depth) (Bernstein's inequality, on each binomial and sum).

    Under the tilt the variances sum to at most n (1 - n / N), since p (1 - p) is concave, and p (1 - p) <= 1 / 4.
    """
    count, spans = widths(bounds, groups)
    if math.isinf(depth):
        return count, spans
    whole = min(float(bounds.total), bounds.population / 4)
    if bounds.totals is not None and bounds.sizes is not None:
        whole = bounds.total * (1 - bounds.total / max(bounds.population, 1))
    variance, variance_of_sums = min(variance, bounds.group / 4, whole), min(variance_of_sums, whole)
    # Conditioning on the sum costs a factor of the order of its spread.
    depth = depth + 0.5 * math.log1p(6.3 * whole)

    def window(variance: float) -> int:
        return 2 * math.ceil(depth / 3 + math.sqrt(depth * depth / 9 + 2 * depth * variance)) + 2

    narrow = min(count, window(variance))
    sums = [min(span, window(variance_of_sums)) for span in spans[1:-1]]
    return narrow, (1, *sums, *((narrow,) * (groups > 1)))


def _centred(mean: Tensor, fewest: Tensor, most: Tensor, widths: Any) -> Tensor:
    """First counts of windows around means [E, k], within the support; k widths."""
    columns = []
    for k, width in enumerate(widths):
        highest = (most[:, k] - (width - 1)).maximum(fewest[:, k])
        columns.append((mean[:, k].floor() - (width - 2) // 2).maximum(fewest[:, k]).minimum(highest))
    return torch.stack(columns, 1)


def _log_binomials(size: Tensor, low: Tensor, count: int) -> Tensor:
    """log C(m, x) - log C(m, low) for x = low + 0..count-1: [E, k, count], -inf beyond m.

    Sums of logarithms of ratios: no factorials of the sizes, whose logarithms lose digits, nor tables of their length.
    """
    steps = torch.arange(1, count, dtype=torch.float64, device=size.device)
    low = low.unsqueeze(-1)
    ratios = ((size.unsqueeze(-1) - low + 1) - steps).clamp(min=0) / (low + steps)
    return pad(ratios.log().cumsum(-1), (1, 0))


def _reversed(sums: Tensor, count: int, width: int) -> Tensor:
    """Tables in ascending order of s [..., S] as ``Tables`` holds them, with room for windows of so many counts."""
    margin = count + _MARGIN
    return pad(sums.flip(-1), (margin + width - sums.shape[-1], margin), value=-math.inf)


class _Tabulate(torch.autograd.Function):
    """Logits [E, c] and log-binomial coefficients [E, c, X] to ``own`` and ``sums`` of ``Tables``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor,
        coefficients: Tensor,
        low: Tensor,
        base: Tensor,
        spans: tuple[int, ...],
        linear: bool,
        depth: float,
    ) -> tuple[Tensor, Tensor]:
        count, groups = coefficients.shape[2], len(spans)
        steps = torch.arange(count, dtype=torch.float64, device=logits.device)
        own = torch.addcmul(coefficients, logits.unsqueeze(2), steps)
        own = own - own.amax(2, keepdim=True)
        if groups == 1:
            return own, own[:, :0]
        terms = own
        if linear:
            # Probabilities, so that their sums' neither grow nor fade.
            terms = own.exp()
            whole = terms.sum(2, keepdim=True)
            terms, own = terms / whole, own - whole.log()
        current = terms[:, -1]
        tables = [own[:, -1]]
        for i in range(groups - 3, -1, -1):
            width = spans[i + 1]
            later = stretch(current, _offset(low, base, i) - (count - 1), width + count - 1, linear)
            reverse = terms[:, i + 1].flip(1)
            current = sum_products(reverse, later, width, depth) if linear else log_sums(reverse, later, width)
            tables.append(current.log() if linear else current)
        width = max(spans)
        return own, torch.stack([_reversed(table, count, width) for table in reversed(tables)], 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, _, low, base, ctx.spans, ctx.linear, ctx.depth = inputs
        ctx.save_for_backward(*output, low, base)

    @staticmethod
    def backward(ctx: Any, own_grad: Tensor, sums_grad: Tensor) -> tuple[Any, ...]:
        own, sums, low, base = ctx.saved_tensors
        spans, linear, incoming = ctx.spans, ctx.linear, own_grad
        own, sums, own_grad, sums_grad = (a.detach() for a in (own, sums, own_grad, sums_grad))
        groups, count = own.shape[1], own.shape[2]
        grads = [own_grad[:, i] for i in range(groups)]
        carried: Tensor | None = None
        end = sums.shape[2] - count - _MARGIN
        for i in range(groups - 1):
            ascending = slice(end - spans[i + 1], end)
            grad = sums_grad[:, i, ascending].flip(1)
            grad = grad if carried is None else grad + carried
            if i == groups - 2:
                grads[-1] = grads[-1] + grad
                break
            table = sums[:, i, ascending].flip(1)
            later = sums[:, i + 1, end - spans[i + 2] : end].flip(1)
            offset, width = _offset(low, base, i), spans[i + 1] + count - 1
            grad = torch.where(table > -math.inf, grad, 0.0)
            if linear:
                # In units of the tables' values; what underflowed to 0 has no gradient.
                reverse, values = own[:, i + 1].exp(), later.exp()
                share = torch.where(table > -math.inf, grad * (-table).exp(), 0.0)
                around = stretch(values, offset - (count - 1), width, True)
                mine = sum_products(share, around, count, ctx.depth).flip(1) * reverse
                back = stretch(share, -offset, spans[i + 2] + count - 1, True)
                carried = sum_products(reverse, back, spans[i + 2], ctx.depth) * values
            else:
                mine, carried = log_sums_gradient(own[:, i + 1], later, table, grad, offset)
            grads[i + 1] = grads[i + 1] + mine
        steps = torch.arange(count, dtype=torch.float64, device=own.device)
        result = (torch.stack(grads, 1) * steps).sum(2)
        return once_only(result, incoming), None, None, None, None, None, None


def _offset(low: Tensor, base: Tensor, i: int) -> Tensor:
    """Place of s = base_i - low_{i+1} in the table of the next sum, int64 [E]."""
    return (base[:, i] - low[:, i + 1] - base[:, i + 1]).long()
