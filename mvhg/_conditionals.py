"""Conditional laws of one group after another, the chain rule of the hypergeometric law (paper Eq. 2).

With r elements left to draw at group i, log p(x | r) = F_i(x) + T_i(r - x) + const, where F_i is the log-pmf of a
binomial of group i and T_i that of the sum of the later groups' binomials ("exact"), all under one common tilt, or of
the one binomial that replaces them ("merged", paper Eq. 3). The pmf of a sum is a convolution of positive terms, in
which nothing cancels: every entry is accurate relative to itself, however far out in the tail.

The widths of the tables follow from the sizes, the total and the depth at which they are read, never from a value on a
device; where the tables begin does depend on the weights.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._bounds import Bounds
from mvhg._convolution import convolved, convolved_gradient, log_sums, log_sums_gradient, stretch
from mvhg._fisher import merged_log_weight
from mvhg._kept import Memory, may_be_kept
from mvhg._log_binomials import log_binomials
from mvhg._windows import centred, supports, widths, windows_within

# A float64 is subnormal below exp(-708): what is read deeper is convolved by logarithms, at some five times the cost,
# and so is what has so few terms that the tilt would cost more.
_DEEPEST_LINEAR = 650.0
_DEEPEST_KEPT = 700.0
_FEWEST_LINEAR = 64
# Where the tilt takes a fixed number of steps, as on an accelerator, it costs more than that.
_FEWEST_BLIND = 1 << 16
# Entries of an urn's tables: half a gigabyte.
_MOST_ENTRIES = 1 << 26
# Columns of a table beyond its ends on each side, more than a window: neighbours of the entries at its edge.
_MARGIN = 2


class Tables(NamedTuple):
    """Conditional laws of E urns whose c groups are drawn in order.

    Attributes:
        own: F_i(x) for x = low_i, low_i + 1, ..., up to a constant, -inf outside the support: [E, c, X], float64.
        sums: T_i(s), up to a constant, in descending order of s with -inf on both sides, so that what belongs to one
            remaining count is ascending in x: [E, c-1, P], float64. Also -inf where no draw leaves s.
        low: first count of each group's window, int64 [E, c].
        base: least s of each sum's window, int64 [E, c-1].
        later: elements in the later groups, int64 [E, c].
        total: int64 [E].
        origin: place in the flattened ``sums`` of s = -low_i, int64 [E, c-1]; that of s = r - low_i is r before it.
        spans: bounds of the number of remaining counts at each position; the first is base_{i-1}.
        from_zero: whether the host knows that every low_i is 0.
    """

    own: Tensor
    sums: Tensor
    low: Tensor
    base: Tensor
    later: Tensor
    total: Tensor
    origin: Tensor
    spans: tuple[int, ...]
    from_zero: bool

    @property
    def width(self) -> int:
        """Counts in a window."""
        return self.own.shape[2]

    def places(self, i: int, remaining: Tensor, instance: Tensor | None) -> Tensor:
        """Places in the flattened ``sums`` that belong to count low_i of the group at position i, int64 [R].

        Args:
            i: position in drawing order, 0..c-2.
            remaining: possible numbers of elements left to draw, int64 [R].
            instance: the urn of each row [R]; None where row e belongs to urn e.
        """
        origin = self.origin[:, i]
        return (origin if instance is None else origin.index_select(0, instance)) - remaining

    def places_within(self, i: int, remaining: Tensor, instance: Tensor | None) -> Tensor:
        """As ``places``, for remaining counts that a window may have left out."""
        urns, positions, columns = self.sums.shape
        first = torch.arange(i * columns, urns * positions * columns, positions * columns, device=remaining.device)
        first = first if instance is None else first.index_select(0, instance)
        column = self.places(i, remaining, instance) - first
        return first + column.clamp(_MARGIN, columns - self.width - _MARGIN)

    def every(self, i: int) -> Tensor:
        """As ``places``, for every number of elements left, possible or not, of every urn: int64 [E spans_i]."""
        urns, positions, columns = self.sums.shape
        least = (self.base[:, i - 1] if i > 0 else self.total).unsqueeze(1)
        steps = torch.arange(self.spans[i], device=least.device)
        first = torch.arange(i * columns, urns * positions * columns, positions * columns, device=least.device)
        column = self.origin[:, i : i + 1] - first.unsqueeze(1) - least - steps
        return (first.unsqueeze(1) + column.clamp(_MARGIN, columns - self.width - _MARGIN)).flatten()

    def windows(self, place: Tensor, margin: tuple[int, int] = (0, 0)) -> Tensor:
        """T_i(r - x) for the counts x of a window and so many before and after; [R, before + X + after]."""
        flat, width = self.sums.reshape(-1), margin[0] + self.width + margin[1]
        first = place - margin[0] if margin[0] else place
        if flat.requires_grad:  # of a view of windows the derivative is slow
            steps = torch.arange(width, device=place.device)
            return flat.index_select(0, (first.unsqueeze(1) + steps).flatten()).reshape(-1, width)
        return flat.unfold(0, width, 1).index_select(0, first)

    def log_weights(self, i: int, place: Tensor, instance: Tensor | None) -> Tensor:
        """Conditional log-weights log p(x | r) of the group at position i, up to a constant: [R, X]."""
        own = self.own[:, i]
        return (own if instance is None else own.index_select(0, instance)) + self.windows(place)

    def all_log_weights(self, i: int) -> Tensor:
        """As ``log_weights``, for every number of elements left of every urn: [E spans_i, X]."""
        own = self.own[:, i].unsqueeze(1)
        return (own + self.windows(self.every(i)).reshape(len(own), -1, self.width)).flatten(0, 1)


def build(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    order: Tensor,
    merged: bool,
    depth: float,
    bounds: Bounds,
    tilt: Callable[[], Tensor],
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
        tilt: solves for the tilt [B], see ``solve_tilt``; called where it is needed.
        read_values: whether windows may be narrowed by the weights' values, which a device would have to be asked for.
    """
    groups = size.shape[1]
    merged = merged and groups > 2
    layout = _layout(bounds, groups, merged, depth, read_values)
    log_weights = log_weights.expand_as(order).gather(2, order).flatten(0, 1)
    count, spans, linear, windowed = layout
    if linear or windowed:
        log_weights = log_weights + tilt().expand(order.shape[:2]).reshape(-1, 1)
    with torch.no_grad():
        if bounds.sizes is not None and bounds.totals is not None and len(set(bounds.sizes)) == 1 and not windowed:
            # The order does not matter.
            low, base, later, total, coefficients = _equal_groups(bounds.sizes, bounds.totals, count, size.device)
            low, base, later = (a.expand(len(log_weights), -1) for a in (low, base, later))
            total = total.expand(len(log_weights))
        else:
            size = size.expand_as(order).gather(2, order).flatten(0, 1)
            total = total.expand(order.shape[:2]).flatten()
            low, base, later = supports(size, total)
            if windowed:
                chance, opposite = torch.sigmoid(log_weights), torch.sigmoid(-log_weights)
                mean = size * chance
                if read_values:
                    variance = mean * opposite
                    variances = float(variance.amax()), float(variance[:, 1:].sum(1).amax())
                    count, spans = windows_within(bounds, groups, depth, *variances)
                n = total.unsqueeze(1)
                low = centred(mean, low, torch.minimum(size, n), [count] * groups)
                rest = mean.sum(1, keepdim=True) - mean.cumsum(1)
                base = centred(rest[:, :-1], base, torch.minimum(later, n)[:, :-1], spans[1:])
            if not merged:
                base = _with_last(base, low)
            coefficients = log_binomials(size, low, count)
            low, base, later, total = (a.long() for a in (low, base, later, total))
    if merged:
        weight = torch.stack([merged_log_weight(size[:, i:], log_weights[:, i:]) for i in range(1, groups)], 1)
        width = max(spans)
        steps = torch.arange(width, dtype=torch.float64, device=size.device)
        own = coefficients + log_weights.unsqueeze(2) * steps[:count]
        sums = log_binomials(later[:, :-1].double(), base.double(), width) + weight.unsqueeze(2) * steps
        most = later.minimum(total.unsqueeze(1))[:, :-1]
        sums = sums.masked_fill(steps > (most - base).unsqueeze(2), -math.inf)  # no draw leaves more
        sums = _reversed(sums - sums.detach().amax(2, keepdim=True), count, width)
    else:
        most = None
        if bounds.sizes is None or bounds.totals is None or (groups > 3 and len(set(bounds.sizes)) > 1):
            # Where another urn of the batch, or another order of the groups, would reach further.
            most = later.minimum(total.unsqueeze(1))
        own, sums = _Tabulate.apply(log_weights, coefficients, low, base, most, spans, linear, depth)
    urns, positions, columns = sums.shape
    last = columns - count - _MARGIN - 1
    first = torch.arange(last, last + urns * positions * columns, columns, device=size.device)
    origin = (low[:, :positions] + base[:, :positions]) + first.reshape(urns, positions)
    from_zero = not windowed and bounds.sizes is not None and bounds.totals is not None
    from_zero = from_zero and max(bounds.sizes) <= bounds.population - bounds.totals  # type: ignore[operator, arg-type]
    return Tables(own, sums, low, base, later, total, origin, spans, from_zero)


class _Layout(NamedTuple):
    """How tables are made; what is decided without a look at the weights."""

    width: int
    spans: tuple[int, ...]
    linear: bool  # probabilities are convolved, not their logarithms
    windowed: bool


def _layout(bounds: Bounds, groups: int, merged: bool, depth: float, read_values: bool) -> _Layout:
    count, spans = widths(bounds, groups)
    terms = count * max(spans[2:], default=1)
    if merged or groups == 1 or terms <= (_FEWEST_LINEAR if read_values else _FEWEST_BLIND):
        layout = _Layout(count, spans, False, False)
    else:
        narrow = windows_within(bounds, groups, depth)
        layout = _Layout(*narrow, groups > 2 and depth <= _DEEPEST_LINEAR, narrow != (count, spans))
    longest = max(layout.width, *layout.spans)
    if groups > 1 and longest * groups > _MOST_ENTRIES:
        raise ValueError(
            f"a draw needs tables of the counts that matter, {longest:,} for each of {groups} groups, of total_count "
            f"{bounds.total:,} and group_sizes up to {bounds.group:,}; more than {_MOST_ENTRIES:,} in all are refused"
        )
    return layout


def columns(bounds: Bounds, groups: int, merged: bool, depth: float) -> int:
    """Counts in a window where values are not looked at."""
    return _layout(bounds, groups, merged, depth, False).width


def _with_last(base: Tensor, low: Tensor) -> Tensor:
    """First entries of the sums' tables, of which the last is the last group's own."""
    return torch.cat([base[:, :-1], low[:, -1:]], 1) if base.shape[1] else base


_EQUAL_GROUPS: Memory[tuple[Tensor, ...]] = Memory(64)


def _equal_groups(
    sizes: tuple[int, ...], total: int, count: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Supports, total and log-binomials of an urn whose groups have one size: [1, c] and so on; kept between calls."""
    key = (sizes, total, count)
    found = _EQUAL_GROUPS.get(key, device) if may_be_kept(None) else None
    if found is None:
        size = torch.full((1, len(sizes)), sizes[0], dtype=torch.float64, device=device)
        n = torch.full((1,), total, dtype=torch.float64, device=device)
        low, base, later = supports(size, n)
        base = _with_last(base, low)
        coefficients = log_binomials(size, low, count)
        found = (low.long(), base.long(), later.long(), n.long(), coefficients)
        if may_be_kept(coefficients) and coefficients.numel() <= 1 << 16:
            _EQUAL_GROUPS.keep(key, device, found)
    return found  # type: ignore[return-value]


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
        most: Tensor | None,
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
        tables = [own[:, -1] if most is None else _up_to(own[:, -1], most[:, -2] - base[:, -1])]
        for i in range(groups - 3, -1, -1):
            width = spans[i + 1]
            offset = _offset(low, base, i)
            if linear:
                current = convolved(terms[:, i + 1], current, offset, width, depth)
            else:
                later = stretch(current, offset - (count - 1), width + count - 1, False)
                current = log_sums(terms[:, i + 1].flip(1), later, width)
            table = current.log() if linear else current
            tables.append(table if most is None else _up_to(table, most[:, i] - base[:, i]))
        margin, width = count + _MARGIN, max(spans)
        sums = own.new_full((len(own), groups - 1, width + 2 * margin), -math.inf)
        for i, table in enumerate(reversed(tables)):
            sums[:, i, margin + width - table.shape[1] : margin + width] = table.flip(1)
        return own, sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, _, low, base, _, ctx.spans, ctx.linear, ctx.depth = inputs
        ctx.save_for_backward(*output, low, base)

    @staticmethod
    def backward(ctx: Any, own_grad: Tensor, sums_grad: Tensor) -> tuple[Any, ...]:
        with torch.no_grad():
            return _gradients(ctx, own_grad, sums_grad)


def _gradients(ctx: Any, own_grad: Tensor, sums_grad: Tensor) -> tuple[Any, ...]:
    """Of ``_Tabulate``, in its inputs."""
    own, sums, low, base = ctx.saved_tensors
    spans, linear = ctx.spans, ctx.linear
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
        offset = _offset(low, base, i)
        grad = torch.where(table > -math.inf, grad, 0.0)
        if linear:
            # In units of the tables' values; what underflowed to 0 has no gradient.
            terms, values = own[:, i + 1].exp(), later.exp()
            share = torch.where(table > -_DEEPEST_KEPT, grad * (-table).clamp(max=_DEEPEST_KEPT).exp(), 0.0)
            mine, carried = convolved_gradient(terms, values, share, offset, ctx.depth)
            mine, carried = mine * terms, carried * values
        else:
            mine, carried = log_sums_gradient(own[:, i + 1], later, table, grad, offset)
        grads[i + 1] = grads[i + 1] + mine
    steps = torch.arange(count, dtype=torch.float64, device=own.device)
    result = (torch.stack(grads, 1) * steps).sum(2)
    return result, None, None, None, None, None, None, None


def _up_to(table: Tensor, place: Tensor) -> Tensor:
    """Rows [E, S], -inf after a place in each [E]."""
    beyond = torch.arange(table.shape[1], device=table.device) > place.unsqueeze(1)
    return table.masked_fill(beyond, -math.inf)


def _offset(low: Tensor, base: Tensor, i: int) -> Tensor:
    """Place of s = base_i - low_{i+1} in the table of the next sum, int64 [E]."""
    return base[:, i] - low[:, i + 1] - base[:, i + 1]
