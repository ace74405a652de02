"""Straight-through draws: the largest perturbed conditional log-weight forward, its softmax backward."""

from typing import Any

import torch
from torch import Tensor

from mvhg._conditionals import Tables
from mvhg._surrogate import central_rises, slopes_with_what_follows, values_of_counts


def narrowed(
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
        rises = torch.cat([central_rises(tables.windows(tables.every(i), (1, 1)), 1, torch.float64) for i in positions])
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


def draw_hard(
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
        *tuple(tables)[2:],
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
            count = perturbed.max(1)[1]  # along short rows faster than argmax
            if not from_zero or starts is not None:
                count = count + first
            remaining = remaining - count
            noisy.append(perturbed)
            counts.append(count)
            left.append(remaining)
        drawn = torch.stack([*counts, remaining], 1).gather(1, back)
        if len(noisy) == 1:
            perturbed = noisy[0].unsqueeze(1)
        else:
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
    values = values_of_counts(one_hot_grad, mask_grad)
    along: Any = None if slopes is None else slopes[:, -1]
    gains: Any = None
    steps = torch.arange(soft.shape[2], device=device)
    if values is not None:
        values = values.gather(1, permutation.unsqueeze(2).expand(-1, -1, values.shape[2]))
        gains = _windows_of(values, tables, left, instance, starts, soft.shape[2])
        if groups == 2:
            # Of two groups the second takes what the first leaves, which is a softmax as well.
            rest = left[:, 0] - _first_counts(tables, left, instance, starts)[:, 0]
            places = (rest.unsqueeze(1) - steps).clamp(0, values.shape[2] - 1)
            gains = gains + values[:, 1].gather(1, places).unsqueeze(1)
        else:
            size = later[:, -2] if groups > 1 else total
            size = size if instance is None else size.index_select(0, instance)
            rise = slope_at(values[:, -1], left[:, -1], size)
            along = rise if along is None else along + rise
    places, rises = _places_and_rises(tables, left, instance, row_rises, soft)
    ramp, scale = steps.to(dtype), inverse.to(dtype).unsqueeze(1)
    # How a soft count, and what the values gain by it, depend on what is left to draw.
    by_count: Any = None
    by_value: Any = None
    if positions > 1:
        around = soft[:, 1:] * rises
        around = torch.addcmul(around, soft[:, 1:], around.sum(2, keepdim=True), value=-1)
        by_count = (around * ramp).sum(2) * scale  # no product of matrices, which autocast rounds
        if values is not None:
            by_value = (around * gains[:, 1:]).sum(2) * scale
    # What a count's log-weight gains, up to a constant a group.
    gained: Any = gains
    if along is not None and positions:
        slope = slopes_with_what_follows(along, slopes, by_count, by_value, dim=1).unsqueeze(2)
        gained = ramp * slope if gains is None else torch.addcmul(gains, ramp, slope)
    gained = torch.zeros_like(soft) if gained is None else soft * gained
    weighted = torch.addcmul(gained, soft, gained.sum(2, keepdim=True), value=-1)
    inverse_grad = None
    if perturbed is not None:
        below = perturbed - perturbed.amax(2, keepdim=True).clamp(min=-1e30)
        # Finite where a count is impossible.
        inverse_grad = (weighted * below.clamp(min=-1e30)).flatten(1).sum(1).to(inverse.dtype)
    grad = weighted * scale.unsqueeze(2)
    # Nothing in place: torch.func.jacrev maps over gradients.
    if instance is None:
        own_grad = grad.double()
        into, of_sums = (places.unsqueeze(2) + steps).flatten(), own_grad.flatten()
    else:
        columns = torch.arange(width, device=device)
        own_grads, into_parts, parts = [own.new_zeros(urns, 0, width)], [left.new_zeros(0)], [own.new_zeros(0)]
        for i, (part, place) in enumerate(zip(grad.unbind(1), places, strict=True)):
            if starts is not None or _shared(i, tables, instance):
                # A row is of at most some thousands of draws: float32 sums keep the digits that a gradient has.
                rows = part.new_zeros(len(place), len(steps))
                rows = rows.index_add(0, _row(i, tables, left[:, i], instance), part).double()
                if starts is not None:
                    at = _starts(i, tables, starts).unsqueeze(1) + steps
                    rows = rows.new_zeros(len(place), width).scatter(1, at, rows)
                own_grads.append(rows.reshape(urns, -1, width).sum(1, keepdim=True))
            else:
                rows = part.double()
                own_grads.append(rows.new_zeros(urns, width).index_add(0, instance, rows).unsqueeze(1))
            into_parts.append((place.unsqueeze(1) + columns).flatten())
            parts.append(rows.flatten())
        own_grad, into, of_sums = torch.cat(own_grads, 1), torch.cat(into_parts), torch.cat(parts)
    sums_grad = own.new_zeros(sums.numel()).index_add(0, into, of_sums)
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
        rises = central_rises(tables.windows(places[:, 1:].flatten(), (1, 1)), 1, torch.float64).to(dtype)
        return places, rises.reshape(len(left), -1, width)
    every, parts = [], []
    for i in range(positions):
        shared = row_rises is not None or _shared(i, tables, instance)
        place = tables.every(i) if shared else tables.places(i, left[:, i], instance)
        every.append(place)
        if i > 0 and row_rises is not None:
            parts.append(row_rises.index_select(0, _narrow_row(i, tables, left[:, i], instance)).unsqueeze(1))
        elif i > 0:
            rises = central_rises(tables.windows(place, (1, 1)), 1, torch.float64).to(dtype)
            if shared:
                rises = rises.index_select(0, _row(i, tables, left[:, i], instance))
            parts.append(rises.unsqueeze(1))
    return every, torch.cat(parts, 1) if parts else None


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


def slope_at(values: Tensor, count: Tensor, size: Tensor) -> Tensor:
    """Mean of the differences to the two neighbours of a count within 0..size, or the only one; [R]."""
    size = size.clamp(max=values.shape[1] - 1)
    upper, lower = torch.minimum(count + 1, size), (count - 1).clamp(min=0)
    rise = values.gather(1, upper.unsqueeze(1)) - values.gather(1, lower.unsqueeze(1))
    return rise.squeeze(1) / (upper - lower).clamp(min=1)
