"""Gumbel-softmax relaxation of the conditionals (paper Section 4.3, Algorithms 1 and 2)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mvhg._conditionals import Bounds, ConditionalTables, is_batched
from mvhg._once import once_only
from mvhg._order import drawing_orders, number_of_orders

# Above this temperature a softmax reads log-weights that lie below the resolution of the fast tables.
_MOST_FAST_TEMPERATURE = 1.0


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


# Urns a call, on a CPU: tables of this many stay in its caches.
_URNS_AT_ONCE = 2048
_MOST_SHARED_ELEMENTS = 1 << 26


class Draws(NamedTuple):
    """Relaxed draws in the caller's order of groups."""

    counts: Tensor  # [num_draws, B, c], float64
    one_hot: Tensor | None  # [num_draws, B, c, largest + 1]


def draw_relaxed(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    temperature: Tensor,
    num_draws: int,
    hard: bool,
    merged: bool,
    order: tuple[int, ...] | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    largest: int | None = None,
) -> Draws:
    """Reparameterised draws of B urns.

    With one draw an urn on a CPU, urns are taken in portions that stay in its caches.

    Args:
        size: float64 [B, c].
        log_weights: float64 [B, c], differentiable.
        total: float64 [B].
        temperature: [B], positive.
        num_draws: draws an urn.
        hard: whether the values are those of the largest perturbed log-weight (straight-through) or of its softmax.
        merged: paper's merged conditionals instead of the exact ones.
        order: drawing order; None is random for exact conditionals and 0..c-1 for merged ones.
        generator: source of randomness.
        dtype: of noise, softmax and results; soft draws use float64 within, so that the counts sum to the total.
        largest: largest group size, if one-hot vectors are wanted.
    """
    if num_draws == 0 or len(size) == 0:
        empty = log_weights.expand(num_draws, *log_weights.shape)
        return Draws(empty, None if largest is None else empty.to(dtype).unsqueeze(-1).repeat(1, 1, 1, largest + 1))
    if num_draws == 1 and len(size) > _URNS_AT_ONCE and size.device.type == "cpu":
        parts = [
            _draw_relaxed(m, w, n, t, 1, hard, merged, order, generator, dtype, largest)
            for m, w, n, t in zip(
                *(a.split(_URNS_AT_ONCE) for a in (size, log_weights, total, temperature)), strict=True
            )
        ]
        one_hot = None if largest is None else torch.cat([p.one_hot for p in parts if p.one_hot is not None], 1)
        return Draws(torch.cat([p.counts for p in parts], 1), one_hot)
    return _draw_relaxed(
        size, log_weights, total, temperature, num_draws, hard, merged, order, generator, dtype, largest
    )


def _draw_relaxed(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    temperature: Tensor,
    num_draws: int,
    hard: bool,
    merged: bool,
    order: tuple[int, ...] | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    largest: int | None,
) -> Draws:
    batch, groups = size.shape
    if merged and order is None:
        order = tuple(range(groups))
    working = dtype if hard else torch.float64
    num_orders = number_of_orders(groups, num_draws, order)
    permutation = drawing_orders(size, num_orders, order, generator).reshape(-1, groups)  # [E, c]
    if num_draws == num_orders:
        instance, draw_permutation = None, permutation
    else:
        # At random, so that the order does not depend on the place of a draw.
        draw = torch.zeros(num_draws, 1, dtype=torch.long, device=size.device)
        if num_orders > 1:
            draw = (torch.randperm(num_draws, device=size.device, generator=generator) % num_orders).unsqueeze(1)
        instance = (draw * batch + torch.arange(batch, device=size.device)).reshape(-1)
        draw_permutation = permutation[instance]
    urns = [a.unsqueeze(0).expand(num_orders, *a.shape).flatten(0, 1) for a in (size, log_weights, total)]
    # The fast tables' widths depend on the weights' values, which cannot be asked for within torch.func.vmap.
    fast = not is_batched(log_weights) and bool((temperature <= _MOST_FAST_TEMPERATURE).all())
    # exp(-20) is below the resolution of float32 and exp(-39) below that of float64.
    precision = (39.0 if working == torch.float64 else 20.0) if fast else None
    tables = ConditionalTables(
        urns[0].gather(1, permutation),
        urns[1].gather(1, permutation),
        urns[2],
        merged,
        precision,
        Bounds.of(size, total),
    )
    remaining = total.repeat(num_draws)
    inverse_temperature = (1 / temperature).to(working).repeat(num_draws)
    counts, one_hots = [], []
    for i in range(groups - 1):
        drawn, one_hot = _draw_group(
            tables, i, remaining, instance, inverse_temperature, hard, generator, working, largest
        )
        remaining = remaining - drawn
        counts.append(drawn)
        one_hots.append(one_hot)
    counts.append(remaining if groups > 1 else remaining + 0 * tables.logits[:, 0].expand(num_draws, -1).reshape(-1))
    back = draw_permutation.argsort(-1)
    result = torch.stack(counts, -1).gather(1, back).reshape(num_draws, batch, groups)
    if largest is None:
        return Draws(result, None)
    last_size = tables.size[:, -1] if instance is None else tables.size[instance, -1]
    one_hots.append(_determined_one_hot(remaining, last_size, hard, working, largest))
    stacked = torch.stack(one_hots, 1)  # type: ignore[arg-type]
    stacked = stacked.gather(1, back.unsqueeze(-1).expand_as(stacked))
    return Draws(result, stacked.reshape(num_draws, batch, groups, largest + 1).to(dtype))


def _draw_group(
    tables: ConditionalTables,
    i: int,
    remaining: Tensor,
    instance: Tensor | None,
    inverse_temperature: Tensor,
    hard: bool,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    largest: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Count of the group at position ``i``, float64 [D], and its one-hot vector [D, largest + 1]."""
    logits, start = _conditional_logits(tables, i, remaining, instance, hard, dtype)
    # Not ``exponential_``, which is six times slower on a CPU; above 0, so that the noise is finite.
    uniform = torch.empty_like(logits).uniform_(torch.finfo(dtype).tiny, 1, generator=generator)
    # Finite, for the gradient in the temperature.
    perturbed = (logits - uniform.log_().neg_().log_()).clamp(min=-1e30)
    soft = torch.softmax(perturbed * inverse_temperature.unsqueeze(1), -1)
    width = soft.shape[1]
    steps = torch.arange(width, dtype=dtype, device=soft.device)
    count = start + (soft @ steps).double()
    one_hot = soft
    if hard:
        best = perturbed.detach().argmax(-1)
        count = (start + best) + (count - count.detach())
        if largest is not None:
            one_hot = torch.nn.functional.one_hot(best, width).to(dtype) + (soft - soft.detach())
    if largest is None:
        return count, None
    place = (start.unsqueeze(1) + torch.arange(width, device=soft.device)).clamp(max=largest)
    return count, torch.zeros(len(soft), largest + 1, dtype=dtype, device=soft.device).scatter_add(1, place, one_hot)


def _conditional_logits(
    tables: ConditionalTables, i: int, remaining: Tensor, instance: Tensor | None, hard: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Log-weights [D, W] in ``dtype``, differentiable in the remaining count, and the count of column 0 [D]."""
    whole = remaining.detach().round()
    if not hard:
        # Rounding must turn a whole count neither into a fraction nor into more than there is.
        rounding, most = (
            4 * torch.finfo(torch.float64).eps * tables.total.clamp(min=1),
            tables.later[:, i] + tables.size[:, i],
        )
        if instance is not None:
            rounding, most = rounding[instance], most[instance]
        value = remaining.detach()
        is_whole = ((value - whole).abs() <= rounding) | (value > most) | (value < 0)
        whole = torch.where(is_whole, whole, value.floor()).clamp(min=0).minimum(most)
        fraction = torch.where(is_whole, remaining - value, remaining - whole)
        rows = tables.rows(i, whole.long(), instance, fraction=fraction)
        return rows.log_weights, rows.start
    whole = whole.long()
    row, start = None, None
    if instance is not None:
        urns = len(tables.total)
        least = whole.new_full((urns,), torch.iinfo(torch.long).max).scatter_reduce(0, instance, whole, "amin")
        span = int((whole - least[instance]).max()) + 1
        if urns * span <= len(whole) // 2 and urns * span * tables.width[i] <= _MOST_SHARED_ELEMENTS:
            # Draws that share urn and remaining count share a row of log-weights.
            row = instance * span + (whole - least[instance])
            whole = (least.unsqueeze(1) + torch.arange(span, device=whole.device)).reshape(-1)
            instance = torch.arange(urns, device=whole.device).repeat_interleave(span)
    rows = tables.rows(i, whole, instance, slopes=remaining.requires_grad)
    logits, start = rows.log_weights.to(dtype), rows.start
    if row is not None:
        logits, start = logits.index_select(0, row), start[row]
    if rows.slopes is not None:
        logits = _Along.apply(logits, remaining, rows.slopes.to(dtype), row)
    return logits, start


class _Along(torch.autograd.Function):
    """Log-weights as they are; backward, they also depend on the remaining count by the given slopes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, remaining: Tensor, slopes: Tensor, row: Tensor | None) -> Tensor:
        return logits.view_as(logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2], inputs[3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        slopes, row = ctx.saved_tensors
        if row is not None:
            slopes = slopes.index_select(0, row)
        # Slopes are finite, but mean nothing where a log-weight is -inf and its gradient 0.
        derivative = once_only((grad.detach() * slopes).sum(1).double(), grad)
        return grad, derivative, None, None


def _determined_one_hot(count: Tensor, size: Tensor, hard: bool, dtype: torch.dtype, largest: int) -> Tensor:
    """One-hot vector of the group that takes the remainder, linear in it between whole counts; [D, largest + 1]."""
    places = torch.arange(largest + 1, dtype=torch.float64, device=count.device)
    whole = count.detach().floor().clamp(min=0).minimum(size)
    low = torch.where(whole == size, (size - 1).clamp(min=0), whole)
    if not hard:
        # Within [0, 1] but for rounding, which must not make an entry negative.
        upper = (count - low) - (count - low).detach() + (count - low).detach().clamp(0, 1)
        upper = upper.unsqueeze(1)
        below, above = (places == low.unsqueeze(1)).double(), (places == low.unsqueeze(1) + 1).double()
        return (below * (1 - upper) + above * upper).to(dtype)
    # At a whole count the two one-sided derivatives differ: their mean, or the only one at an end of the support.
    has_up, has_down = (whole < size).double(), (whole > 0).double()
    sides = (has_up + has_down).clamp(min=1)
    at = [(places == (whole + shift).unsqueeze(1)).double() for shift in (-1, 0, 1)]
    up, down = (has_up / sides).unsqueeze(1), (has_down / sides).unsqueeze(1)
    derivative = up * (at[2] - at[1]) + down * (at[1] - at[0])
    return (at[1] + derivative * (count - count.detach()).unsqueeze(1)).to(dtype)
