"""Gumbel-softmax relaxation of the conditionals (paper Section 4.3, Algorithms 1 and 2)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mvhg import _conditionals
from mvhg._bounds import Bounds
from mvhg._conditionals import Tables
from mvhg._once import once_only
from mvhg._order import drawing_orders, number_of_orders
from mvhg._validation import can_look

# Urns a call with one draw each, on a CPU: what is made of so many stays in its caches.
URNS_AT_ONCE = 1024
# Likewise of draws that share an urn.
_DRAWS_AT_ONCE = 2560


class Selection(NamedTuple):
    """A draw in three forms; M is the largest group size and groups are in the caller's order.

    Attributes:
        counts: number drawn from each group, [sample, batch, c].
        one_hot: indicator of the count over 0..M, [sample, batch, c, M + 1].
        prefix_mask: 1 in the first ``counts`` places of M and 0 after, [sample, batch, c, M]; sums to ``counts``.
    """

    counts: Tensor
    one_hot: Tensor
    prefix_mask: Tensor


class Relaxation(NamedTuple):
    """What is drawn, of B urns.

    Attributes:
        size: float64 [B, c].
        log_weights: float64 [B, c], differentiable.
        total: float64 [B].
        temperature: float64 [B], positive.
        highest_temperature: where the host knows it.
        hard: whether the values are those of the largest perturbed log-weight (straight-through) or of its softmax.
        merged: paper's merged conditionals instead of the exact ones.
        order: drawing order; None is random for exact conditionals and 0..c-1 for merged ones.
        dtype: of noise, softmax and results; soft draws use float64 within, so that the counts sum to the total.
        bounds: of the urns.
        largest: largest group size, if one-hot vectors and prefix masks are wanted.
        tilt: solves for the tilt [B], see ``solve_tilt``; called where it is needed.
    """

    size: Tensor
    log_weights: Tensor
    total: Tensor
    temperature: Tensor
    highest_temperature: float | None
    hard: bool
    merged: bool
    order: tuple[int, ...] | None
    dtype: torch.dtype
    bounds: Bounds
    largest: int | None
    tilt: Callable[[], Tensor]

    @property
    def depth(self) -> float:
        """See ``depth_read``."""
        return depth_read(self.highest_temperature, self.hard, self.dtype)

    def part(self, rows: slice) -> "Relaxation":
        """Some of the urns."""
        return self._replace(
            size=self.size[rows],
            log_weights=self.log_weights[rows],
            total=self.total[rows],
            temperature=self.temperature[rows],
            tilt=lambda: self.tilt()[rows],
        )


def depth_read(highest_temperature: float | None, hard: bool, dtype: torch.dtype) -> float:
    """Depth below the largest log-weight, in nats, at which the softmax still tells a count from 0.

    A softmax at temperature T reads T times as deep as the working precision, exp(-20) or exp(-39), below the mode
    of a conditional whose own place is a draw: the half is for the two together.
    """
    if highest_temperature is None:
        return math.inf
    precision = 20.0 if hard and dtype == torch.float32 else 39.0
    # Soft counts wander where whole ones would not.
    return (1 if hard else 2) * precision * max(1.0, highest_temperature + 0.5)


def drawing_order(order: tuple[int, ...] | None, groups: int, merged: bool, hard: bool) -> tuple[int, ...] | None:
    """The order used where ``order`` was asked for; None is a random one, which of two hard groups makes no odds."""
    return tuple(range(groups)) if order is None and (merged or (hard and groups == 2)) else order


def noise_columns(relaxation: Relaxation) -> int:
    """Uniform variables that one draw takes."""
    groups = relaxation.size.shape[1]
    order = drawing_order(relaxation.order, groups, relaxation.merged, relaxation.hard)
    ordering = groups if order is None else 0
    return ordering + (groups - 1) * _conditionals.columns(
        relaxation.bounds, groups, relaxation.merged, relaxation.depth
    )


def draw_relaxed(
    relaxation: Relaxation, num_draws: int, generator: torch.Generator | None, noise: Tensor | None
) -> Selection:
    """Reparameterised draws of B urns: counts [num_draws, B, c] in ``dtype``, and the other forms if wanted.

    Args:
        relaxation: what is drawn.
        num_draws: draws an urn.
        generator: source of randomness.
        noise: uniform on [0, 1), float64 [num_draws, B, ``noise_columns``], instead of the generator's.
    """
    batch, groups = relaxation.size.shape
    largest = relaxation.largest
    if num_draws == 0 or batch == 0:
        empty = relaxation.log_weights.to(relaxation.dtype).expand(num_draws, batch, groups)
        if largest is None:
            return Selection(empty, empty, empty)
        wide = empty.unsqueeze(-1).expand(*empty.shape, largest + 1)
        return Selection(empty, wide, wide[..., 1:])
    if num_draws == 1 and batch > URNS_AT_ONCE and relaxation.size.device.type == "cpu":
        parts = []
        for k in range(0, batch, URNS_AT_ONCE):
            rows = slice(k, k + URNS_AT_ONCE)
            part = _draw(relaxation.part(rows), 1, generator, None if noise is None else noise[:, rows])
            parts.append(part)
        return Selection(*(torch.cat(fields, 1) for fields in zip(*parts, strict=True)))
    return _draw(relaxation, num_draws, generator, noise)


def _draw(relaxation: Relaxation, num_draws: int, generator: torch.Generator | None, noise: Tensor | None) -> Selection:
    size, total, dtype, largest = relaxation.size, relaxation.total, relaxation.dtype, relaxation.largest
    batch, groups = size.shape
    order = drawing_order(relaxation.order, groups, relaxation.merged, relaxation.hard)
    log_weights, temperature = once_only(relaxation.log_weights), relaxation.temperature
    if temperature.requires_grad:
        temperature = once_only(temperature)
    uniform = None
    if order is None and groups > 1:
        if noise is None:
            uniform = torch.rand(num_draws, batch, groups, dtype=torch.float64, device=size.device, generator=generator)
        else:
            uniform, noise = noise[..., :groups], noise[..., groups:]
    orders = drawing_orders(size, number_of_orders(groups, num_draws, order), order, uniform, relaxation.bounds)
    num_orders, device = len(orders), size.device
    instance, permutation = None, orders.flatten(0, 1)
    if num_draws != num_orders:
        # At random, so that the order does not depend on the place of a draw.
        which = torch.zeros(num_draws, batch, dtype=torch.long, device=device)
        if num_orders > 1 and uniform is not None:
            which = (uniform[..., 0] * num_orders).long()
        instance = (which * batch + torch.arange(batch, device=device)).flatten()
        permutation = permutation.index_select(0, instance)
    read_values = noise is None and can_look(relaxation.log_weights)
    tables = _conditionals.build(
        size,
        log_weights,
        total,
        orders,
        relaxation.merged,
        relaxation.depth,
        relaxation.bounds,
        relaxation.tilt,
        read_values,
    )
    rows, width, narrow = num_draws * batch, tables.width, None
    working = torch.float32 if relaxation.hard and dtype == torch.float32 else torch.float64
    if read_values and relaxation.hard and instance is not None:
        narrow = _narrowed(tables, instance, relaxation.depth, working)
        width = width if narrow is None else narrow[0].shape[1]
    inverse_temperature = temperature.reciprocal().expand(num_draws, batch).flatten()
    back = permutation.argsort(-1)
    if narrow is not None and instance is not None:
        parts = []
        for k in range(0, rows, _DRAWS_AT_ONCE):
            some = slice(k, k + _DRAWS_AT_ONCE)
            scale, urns, places, returns = (a[some] for a in (inverse_temperature, instance, permutation, back))
            gumbel = _gumbel((groups - 1, len(scale), width), working, device, generator).transpose(0, 1)
            parts.append(_draw_hard(tables, gumbel, scale, urns, places, returns, dtype, largest, narrow))
        counts, one_hot, prefix_mask = (torch.cat(fields) for fields in zip(*parts, strict=True))
    else:
        if noise is None:
            gumbel = _gumbel((groups - 1, rows, width), working, device, generator).transpose(0, 1)
        else:
            gumbel = noise.reshape(rows, groups - 1, -1)[..., :width].log().neg_().log_().neg_().to(working)
        arguments = (tables, gumbel, inverse_temperature, instance, permutation, back, dtype, largest)
        counts, one_hot, prefix_mask = _draw_hard(*arguments, None) if relaxation.hard else _draw_soft(*arguments)
    shape = (num_draws, batch, groups)
    if largest is None:
        return Selection(*(counts.reshape(shape),) * 3)
    return Selection(counts.reshape(shape), one_hot.reshape(*shape, largest + 1), prefix_mask.reshape(*shape, largest))


def _gumbel(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Gumbel noise [..., X], minus the logarithm of exponential noise."""
    if dtype == torch.float64:
        return torch.rand(shape, dtype=dtype, device=device, generator=generator).log_().neg_().log_().neg_()
    # A float32 uniform has 24 bits, too few for rare counts, which are those of small exponential noise. It says which
    # of 2^24 cells a number is in; where in it only matters in the first, so one finer number serves a whole row.
    cell = torch.rand(shape, dtype=dtype, device=device, generator=generator).mul_(1 << 24).floor_()
    within = torch.rand(*shape[:-1], 1, dtype=torch.float64, device=device, generator=generator)
    uniform = cell.add_((1 - within).to(dtype)).mul_(2.0**-24).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _narrowed(
    tables: Tables, instance: Tensor, depth: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Rows of all pairs of urn and remaining count, in windows that hold what is within ``depth`` of the largest.

    Returns:
        Of all positions one after another: log-weights relative to the largest, and how T_i rises with what is left,
        [Q, X] in ``dtype``; places of the windows in the tables' own, int64 [Q]. None unless draws share their rows at
        every position.
    """
    positions = range(len(tables.spans) - 1)
    if not positions or not all(_shared(i, tables, instance) for i in positions):
        return None
    with torch.no_grad():
        values = torch.cat([tables.all_log_weights(i) for i in positions])
        values = values - values.amax(1, keepdim=True).clamp(min=-1e300)
        near = values >= -depth
        width = max(1, int(near.sum(1).amax()))
        starts = near.byte().argmax(1).clamp(max=tables.width - width)
        rises = torch.cat([_rises(tables, tables.every(i)) for i in positions])
        return _within(values, starts, width).to(dtype), _within(rises, starts, width).to(dtype), starts


def _starts(i: int, tables: Tables, starts: Tensor) -> Tensor:
    """Those of the group at position i, int64 [E spans_i]."""
    first, urns = sum(tables.spans[:i]), len(tables.total)
    return starts[urns * first : urns * (first + tables.spans[i])]


def _within(values: Tensor, start: Tensor, width: int) -> Tensor:
    """Windows of rows [Q, X]: [Q, width]."""
    return values.gather(1, start.unsqueeze(1) + torch.arange(width, device=start.device))


def _shared(i: int, tables: Tables, instance: Tensor | None) -> bool:
    """Whether draws outnumber the pairs of urn and remaining count, so that a row is made of each pair."""
    return instance is not None and len(instance) >= 2 * len(tables.total) * tables.spans[i]


def _row(i: int, tables: Tables, remaining: Tensor, instance: Tensor) -> Tensor:
    """Place of each draw among the rows of all pairs of urn and remaining count, int64 [R]."""
    least = tables.base[:, i - 1] if i > 0 else tables.total
    urn = torch.arange(0, len(tables.total) * tables.spans[i], tables.spans[i], device=remaining.device)
    return remaining + (urn - least).index_select(0, instance)


def _narrow_row(i: int, tables: Tables, remaining: Tensor, instance: Tensor) -> Tensor:
    """As ``_row``, among those of all positions one after another."""
    return _row(i, tables, remaining, instance) + len(tables.total) * sum(tables.spans[:i])


def _relative_log_weights(
    i: int, tables: Tables, remaining: Tensor, instance: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Log-weights of each draw [R, X], of which the largest is 0, so that a float32 has the digits that matter."""
    if instance is not None and _shared(i, tables, instance):
        values = tables.all_log_weights(i)
        values = (values - values.amax(1, keepdim=True).clamp(min=-1e300)).to(dtype)
        values = values.index_select(0, _row(i, tables, remaining, instance))
    else:
        values = tables.log_weights(i, tables.places(i, remaining, instance), instance)
        values = (values - values.amax(1, keepdim=True)).to(dtype)
    return values, tables.low[:, i] if instance is None else tables.low[:, i].index_select(0, instance)


def _draw_hard(
    tables: Tables,
    gumbel: Tensor,
    inverse_temperature: Tensor,
    instance: Tensor | None,
    permutation: Tensor,
    back: Tensor,
    dtype: torch.dtype,
    largest: int | None,
    narrow: tuple[Tensor, Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    result = _StraightThrough.apply(
        tables.own,
        tables.sums,
        inverse_temperature,
        gumbel,
        *tables[2:],
        instance,
        permutation,
        back,
        *((None,) * 3 if narrow is None else narrow),
        dtype,
        largest,
    )
    return result[0], result[1], result[2]


class _StraightThrough(torch.autograd.Function):
    """Draws by the largest perturbed log-weight, differentiated as draws by its softmax would be."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        own: Tensor,
        sums: Tensor,
        inverse_temperature: Tensor,
        gumbel: Tensor,
        low: Tensor,
        base: Tensor,
        later: Tensor,
        total: Tensor,
        origin: Tensor,
        spans: tuple[int, ...],
        from_zero: bool,
        instance: Tensor | None,
        permutation: Tensor,
        back: Tensor,
        row_values: Tensor | None,
        row_rises: Tensor | None,
        starts: Tensor | None,
        dtype: torch.dtype,
        largest: int | None,
    ) -> tuple[Tensor, ...]:
        tables = Tables(own, sums, low, base, later, total, origin, spans, from_zero)
        remaining = total.expand(len(gumbel)) if instance is None else total.index_select(0, instance)
        left, counts, noisy = [remaining], [], []
        steps = torch.arange(gumbel.shape[2], dtype=gumbel.dtype, device=gumbel.device)
        for i, noise in enumerate(gumbel.unbind(1)):
            if row_values is not None and starts is not None and instance is not None:
                row = _narrow_row(i, tables, remaining, instance)
                values = row_values.index_select(0, row)
                first = (low[:, i].repeat_interleave(spans[i]) + _starts(i, tables, starts)).index_select(
                    0, row - len(total) * sum(spans[:i])
                )
            else:
                values, first = _relative_log_weights(i, tables, remaining, instance, noise.dtype)
            perturbed = values + noise
            # As argmax would, which is slow along short rows.
            count = torch.where(perturbed == perturbed.amax(1, keepdim=True), steps, 0).amax(1).long()
            if not from_zero or starts is not None:
                count = count + first
            remaining = remaining - count
            noisy.append(perturbed)
            counts.append(count)
            left.append(remaining)
        drawn = torch.stack([*counts, remaining], 1).gather(1, back)
        perturbed = torch.stack(noisy, 1) if noisy else torch.zeros_like(gumbel)
        soft = torch.softmax((perturbed * inverse_temperature.to(perturbed.dtype).reshape(-1, 1, 1)).to(dtype), 2)
        saved = (torch.stack(left, 1), soft, perturbed)
        counts_out = drawn.to(dtype)
        if largest is None:
            return counts_out, soft.new_zeros(0), soft.new_zeros(0), *saved
        steps = torch.arange(largest + 1, device=drawn.device)
        drawn = drawn.unsqueeze(2)
        return counts_out, (drawn == steps).to(dtype), (drawn > steps[:-1]).to(dtype), *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        (
            own,
            sums,
            inverse_temperature,
            _,
            low,
            base,
            later,
            total,
            origin,
            ctx.spans,
            ctx.from_zero,
            *others,
            _,
            ctx.largest,
        ) = inputs
        ctx.mark_non_differentiable(*output[3:])
        perturbed = output[5] if ctx.needs_input_grad[2] else None
        ctx.save_for_backward(
            own, sums, inverse_temperature, low, base, later, total, origin, *others, output[3], output[4], perturbed
        )
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any, *_: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            return _gradients(ctx, counts_grad, one_hot_grad, mask_grad)


def _gradients(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
    """Of ``_StraightThrough``, in its inputs."""
    own, sums, inverse, low, base, later, total, origin, *others, left, soft, perturbed = ctx.saved_tensors
    instance, permutation, _, _, row_rises, starts = others
    if ctx.largest is None:  # of which torch.compile hands over zeros
        one_hot_grad = mask_grad = None
    tables = Tables(own, sums, low, base, later, total, origin, ctx.spans, ctx.from_zero)
    urns, groups, width = own.shape
    dtype, device, positions = soft.dtype, soft.device, groups - 1
    # The loss, to first order, is a sum over the groups of a slope times the count and of a value of each count.
    slopes = None if counts_grad is None else counts_grad.gather(1, permutation)
    values = _values_of_counts(one_hot_grad, mask_grad)
    along: Any = None if slopes is None else slopes[:, -1]
    gains: Any = None
    if values is not None:
        values = values.gather(1, permutation.unsqueeze(2).expand(-1, -1, values.shape[2]))
        gains = _windows_of(values, tables, left, instance, starts, soft.shape[2])
        steps = torch.arange(soft.shape[2], device=device)
        if groups == 2:
            # Of two groups the second takes what the first leaves, which is a softmax as well.
            rest = left[:, 0] - _first_counts(tables, left, instance, starts)[:, 0]
            places = (rest.unsqueeze(1) - steps).clamp(0, values.shape[2] - 1)
            gains = gains + values[:, 1].gather(1, places).unsqueeze(1)
            along = values.new_zeros(len(values)) if along is None else along
        else:
            size = later[:, -2] if groups > 1 else total
            size = size if instance is None else size.index_select(0, instance)
            rise = _slope_at(values[:, -1], left[:, -1], size)
            along = rise if along is None else along + rise
    places, rises = _places_and_rises(tables, left, instance, row_rises, soft)
    steps = torch.arange(soft.shape[2], device=device)
    ramp, scale = steps.to(dtype), inverse.to(dtype).unsqueeze(1)
    # Derivatives of the soft counts in the log-weights, times the temperature.
    spread = soft * (ramp - (soft @ ramp).unsqueeze(2))
    # How a soft count, and what the values gain by it, depend on what is left to draw.
    by_count: Any = None
    by_value: Any = None
    if positions > 1:
        by_count = (spread[:, 1:] * rises).sum(2) * scale
        if values is not None:
            around = soft[:, 1:] * rises
            around = torch.addcmul(around, soft[:, 1:], around.sum(2, keepdim=True), value=-1)
            by_value = (around * gains[:, 1:]).sum(2) * scale
    # The derivative in what is left, after each group; of the last group, its count.
    follows = [along]
    for i in range(positions - 2, -1, -1):
        change = -along if slopes is None else slopes[:, i + 1] - along
        along = torch.addcmul(along, change, by_count[:, i])
        along = along if by_value is None else along + by_value[:, i]
        follows.append(along)
    if positions:
        slope = torch.stack(follows[::-1], 1)
        slope = -slope if slopes is None else slopes[:, :-1] - slope
        weighted = spread * slope.unsqueeze(2)
    else:
        weighted = spread
    if gains is not None:
        gained = soft * gains
        weighted = weighted + torch.addcmul(gained, soft, gained.sum(2, keepdim=True), value=-1)
    inverse_grad = None
    if perturbed is not None:
        below = perturbed - perturbed.amax(2, keepdim=True).clamp(min=-1e30)
        # Finite where a count is impossible.
        inverse_grad = (weighted * below.clamp(min=-1e30)).flatten(1).sum(1).to(inverse.dtype)
    grad = weighted * scale.unsqueeze(2)
    own_grad, sums_grad = own.new_zeros(urns, positions, width), own.new_zeros(sums.numel())
    if instance is None:
        own_grad = grad.double()
        sums_grad.index_add_(0, (places.unsqueeze(2) + steps).flatten(), own_grad.flatten())
    else:
        columns = torch.arange(width, device=device)
        for i, (part, place) in enumerate(zip(grad.unbind(1), places, strict=True)):
            if starts is not None or _shared(i, tables, instance):
                # A row is of at most some thousands of draws: float32 sums keep the digits that a gradient has.
                rows = part.new_zeros(len(place), len(steps))
                rows = rows.index_add_(0, _row(i, tables, left[:, i], instance), part).double()
                if starts is not None:
                    at = _starts(i, tables, starts).unsqueeze(1) + steps
                    rows = rows.new_zeros(len(place), width).scatter_(1, at, rows)
                own_grad[:, i] = rows.reshape(urns, -1, width).sum(1)
            else:
                rows = part.double()
                own_grad[:, i] = rows.new_zeros(urns, width).index_add_(0, instance, rows)
            sums_grad.index_add_(0, (place.unsqueeze(1) + columns).flatten(), rows.flatten())
    own_grad = torch.nn.functional.pad(own_grad, (0, 0, 0, 1))
    return own_grad, sums_grad.reshape(sums.shape), inverse_grad, *(None,) * 16


def _places_and_rises(
    tables: Tables, left: Tensor, instance: Tensor | None, row_rises: Tensor | None, soft: Tensor
) -> tuple[Any, Any]:
    """Places of what was read for each draw or row, and how it rises with what is left to draw, after position 0.

    Returns:
        Places [R, c-1], or one tensor [Q] a position where urns are shared; and rises [R, c-2, X].
    """
    positions, width, dtype = left.shape[1] - 1, soft.shape[2], soft.dtype
    if instance is None:
        places = tables.origin - left[:, :-1]
        if positions < 2:
            return places, None
        rises = _rises(tables, places[:, 1:].flatten()).to(dtype)
        return places, rises.reshape(len(left), -1, width)
    every, parts = [], []
    for i in range(positions):
        shared = row_rises is not None or _shared(i, tables, instance)
        place = tables.every(i) if shared else tables.places(i, left[:, i], instance)
        every.append(place)
        if i > 0 and row_rises is not None:
            parts.append(row_rises.index_select(0, _narrow_row(i, tables, left[:, i], instance)).unsqueeze(1))
        elif i > 0:
            rises = _rises(tables, place).to(dtype)
            if shared:
                rises = rises.index_select(0, _row(i, tables, left[:, i], instance))
            parts.append(rises.unsqueeze(1))
    return every, torch.cat(parts, 1) if parts else None


def _values_of_counts(one_hot_grad: Tensor | None, mask_grad: Tensor | None) -> Tensor | None:
    """What the loss gains, to first order and up to a constant, if a group's count is 0..M: [R, c, M + 1] or None."""
    values = one_hot_grad
    if mask_grad is not None:
        prefix = torch.nn.functional.pad(mask_grad.cumsum(2), (1, 0))
        values = prefix if values is None else values + prefix
    return values


def _windows_of(
    values: Tensor, tables: Tables, left: Tensor, instance: Tensor | None, starts: Tensor | None, width: int
) -> Tensor:
    """Values [R, c, M + 1] of the counts in the windows of all groups but the last: [R, c-1, X]."""
    last = values.shape[2] - 1
    if tables.from_zero and starts is None and width <= last + 1:
        return values[:, :-1, :width]
    low = _first_counts(tables, left, instance, starts)
    # What is beyond M does not matter.
    return values[:, :-1].gather(2, (low.unsqueeze(2) + torch.arange(width, device=low.device)).clamp(max=last))


def _first_counts(tables: Tables, left: Tensor, instance: Tensor | None, starts: Tensor | None) -> Tensor:
    """First count of each draw's window, of all groups but the last: int64 [R, c-1]."""
    low = tables.low[:, :-1] if instance is None else tables.low[:, :-1].index_select(0, instance)
    if starts is None or instance is None:
        return low
    rows = [_row(i, tables, left[:, i], instance) for i in range(low.shape[1])]
    return low + torch.stack([_starts(i, tables, starts).index_select(0, row) for i, row in enumerate(rows)], 1)


def _slope_at(values: Tensor, count: Tensor, size: Tensor) -> Tensor:
    """Mean of the differences to the two neighbours of a count within 0..size, or the only one; [R]."""
    size = size.clamp(max=values.shape[1] - 1)
    upper, lower = torch.minimum(count + 1, size), (count - 1).clamp(min=0)
    rise = values.gather(1, upper.unsqueeze(1)) - values.gather(1, lower.unsqueeze(1))
    return rise.squeeze(1) / (upper - lower).clamp(min=1)


def _rises(tables: Tables, place: Tensor) -> Tensor:
    """Derivative of T_i(r - x) in r: central differences, one-sided at the ends of the support; [Q, X]."""
    around = tables.windows(place, (1, 1))
    rise = around[:, :-1] - around[:, 1:]
    known = rise.isfinite()
    rise = torch.where(known, rise, 0.0)
    return (rise[:, :-1] + rise[:, 1:]) / (known[:, :-1].to(rise.dtype) + known[:, 1:]).clamp(min=1)


def _draw_soft(
    tables: Tables,
    gumbel: Tensor,
    inverse_temperature: Tensor,
    instance: Tensor | None,
    permutation: Tensor,
    back: Tensor,
    dtype: torch.dtype,
    largest: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    groups, width = tables.own.shape[1], tables.width
    per_row = [a if instance is None else a.index_select(0, instance) for a in (tables.total, tables.low, tables.later)]
    total, low, later = per_row
    remaining = total.double()
    rounding = 4 * torch.finfo(torch.float64).eps * remaining.clamp(min=1)
    steps = torch.arange(width, device=gumbel.device)
    counts, one_hots = [], []
    for i in range(groups - 1):
        most = later[:, i - 1] if i > 0 else total
        whole, fraction = _split(remaining, most, rounding)
        place = tables.places_within(i, whole, instance)
        own = tables.own[:, i] if instance is None else tables.own[:, i].index_select(0, instance)
        values = own + _interpolated(tables.windows(place, (2, 1)), fraction)
        values = values - values.detach().amax(1, keepdim=True).clamp(min=-1e300)
        # Finite, for the gradient in the temperature.
        perturbed = (values + gumbel[:, i]).clamp(min=-1e30)
        soft = torch.softmax(perturbed * inverse_temperature.unsqueeze(1), 1)
        count = low[:, i] + (soft * steps).sum(1)
        remaining = remaining - count
        counts.append(count)
        if largest is not None:
            place = (low[:, i].unsqueeze(1) + steps).clamp(max=largest)
            one_hots.append(soft.new_zeros(len(soft), largest + 1).scatter_add(1, place, soft))
    counts.append(remaining if groups > 1 else remaining + 0 * tables.own[:, 0, :1].sum())
    drawn = torch.stack(counts, 1).gather(1, back)
    if largest is None:
        return drawn.to(dtype), drawn, drawn
    one_hots.append(_determined(remaining, later[:, -2] if groups > 1 else total, largest))
    one_hot = torch.stack(one_hots, 1)
    one_hot = one_hot.gather(1, back.unsqueeze(2).expand_as(one_hot)).to(dtype)
    return drawn.to(dtype), one_hot, one_hot[..., 1:].flip(-1).cumsum(-1).flip(-1)


def _split(remaining: Tensor, most: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Whole part and differentiable fraction of what is left to draw; rounding makes no whole count a fraction."""
    value = remaining.detach()
    whole = value.round()
    is_whole = ((value - whole).abs() <= rounding) | (value > most) | (value < 0)
    whole = torch.where(is_whole, whole, value.floor()).clamp(min=0).minimum(most)
    return whole.long(), torch.where(is_whole, remaining - value, remaining - whole)


def _interpolated(values: Tensor, fraction: Tensor) -> Tensor:
    """Cubic between whole counts, by central differences: [R, X] from T at r - x + 2, ..., r - x - 1 [R, X + 3].

    It is -inf unless both ends are possible (or the count is whole).
    """
    t = fraction.unsqueeze(1)
    whole = t.detach() == 0
    exists = values.detach() > -math.inf
    values = torch.where(exists, values, 0.0)
    pairs = exists[:, :-1] & exists[:, 1:]
    rise = torch.where(pairs, -values.diff(dim=1), 0.0)
    slopes = (rise[:, :-1] + rise[:, 1:]) / (pairs[:, :-1].double() + pairs[:, 1:]).clamp(min=1)  # at s + 1, s
    left, right, left_slope, right_slope = values[:, 2:-1], values[:, 1:-2], slopes[:, 1:], slopes[:, :-1]
    possible = exists[:, 2:-1] & (whole | exists[:, 1:-2])
    # At a whole count the derivative is the slope there; the far end, which may not exist, has no weight.
    right = torch.where(whole, left.detach(), right)
    blend = t * t * (3 - 2 * t)
    value = (1 - blend) * left + blend * right + t * (1 - t) * ((1 - t) * left_slope - t * right_slope)
    return torch.where(possible, value, -math.inf)


def _determined(count: Tensor, size: Tensor, largest: int) -> Tensor:
    """One-hot vector of the group that takes the remainder, linear in it between whole counts; [R, largest + 1]."""
    places = torch.arange(largest + 1, dtype=torch.float64, device=count.device)
    size = size.double()
    whole = count.detach().floor().clamp(min=0).minimum(size)
    low = torch.where(whole == size, (size - 1).clamp(min=0), whole)
    # Within [0, 1] but for rounding, which must not make an entry negative.
    upper = (count - low) - (count - low).detach() + (count - low).detach().clamp(0, 1)
    below, above = (places == low.unsqueeze(1)).double(), (places == low.unsqueeze(1) + 1).double()
    return below * (1 - upper.unsqueeze(1)) + above * upper.unsqueeze(1)
