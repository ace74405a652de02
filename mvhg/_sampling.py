"""Sampling of counts by inverse transform, group after group."""

from collections.abc import Callable

import torch
from torch import Tensor

from mvhg import _conditionals
from mvhg._bounds import Bounds
from mvhg._conditionals import Tables
from mvhg._inverse_transform import GuideTable
from mvhg._order import drawing_orders
from mvhg._validation import can_look

# exp(-39) is below the resolution of a float64 uniform.
_LOG_PRECISION = 39.0
_CHUNK_ELEMENTS = 1 << 23
_MOST_SHARED_ELEMENTS = 1 << 26


def draw_counts(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    num_draws: int,
    merged: bool,
    order: tuple[int, ...] | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    bounds: Bounds,
    tilt: Callable[[], Tensor],
) -> Tensor:
    """Counts [num_draws, B, c] of B urns, in ``dtype``.

    Args:
        size: float64 [B, c].
        log_weights: float64 [B, c].
        total: float64 [B].
        num_draws: draws an urn.
        merged: paper's merged conditionals instead of the exact ones.
        order: drawing order; None is 0..c-1, since no order changes the exact law.
        generator: source of randomness.
        dtype: of the result.
        bounds: of the urns.
        tilt: solves for the tilt [B], see ``solve_tilt``.
    """
    batch, groups = size.shape
    if batch == 0 or num_draws == 0:
        return torch.zeros(num_draws, batch, groups, dtype=dtype, device=size.device)
    order = order or tuple(range(groups))
    # One order an urn, differing between urns only in where empty groups stand.
    orders = drawing_orders(size, 1, order, None, bounds)
    readable = can_look(log_weights)
    tables = _conditionals.build(size, log_weights, total, orders, merged, _LOG_PRECISION, bounds, tilt, readable)
    counts, remaining = [], tables.total.expand(num_draws, batch)
    for i in range(groups - 1):
        draw = _draw_by_guide if readable else _draw_by_search
        drawn = tables.low[:, i] + draw(tables, i, remaining, generator)
        remaining = remaining - drawn
        counts.append(drawn.to(dtype))
    counts.append(remaining.to(dtype))
    drawn = torch.stack(counts, -1)
    if order == tuple(range(groups)) and bounds.sizes is not None and 0 not in bounds.sizes:
        return drawn
    return drawn.gather(-1, orders.argsort(-1).expand_as(drawn))


def _draw_by_guide(tables: Tables, i: int, remaining: Tensor, generator: torch.Generator | None) -> Tensor:
    """Places in the window of the group at position ``i``, int64 [num_draws, B]; looks at values."""
    num_draws, batch = remaining.shape
    uniform = torch.rand(num_draws, batch, dtype=torch.float64, device=remaining.device, generator=generator)
    urn = torch.arange(batch, device=remaining.device)
    # Draws that share urn and remaining count share a row.
    least, most = torch.aminmax(remaining, dim=0)
    span = int((most - least).max()) + 1
    if 2 * span <= num_draws and batch * span * tables.width <= _MOST_SHARED_ELEMENTS:
        left = torch.minimum(least.unsqueeze(1) + torch.arange(span, device=urn.device), most.unsqueeze(1))
        cumulative = _cumulative(tables, i, left.flatten(), urn.repeat_interleave(span))
        row = (urn * span - least) + remaining
        table = GuideTable(cumulative, num_draws * batch)
        return table.draw(row.flatten(), uniform.flatten()).reshape(num_draws, batch)
    rows = max(1, _CHUNK_ELEMENTS // tables.width)
    each = (uniform.flatten(), remaining.flatten(), urn.repeat(num_draws))
    parts = [
        torch.searchsorted(_cumulative(tables, i, r, e), u.unsqueeze(1), right=True).squeeze(1)
        for u, r, e in zip(*(a.split(rows) for a in each), strict=True)
    ]
    return torch.cat(parts).reshape(num_draws, batch)


def _draw_by_search(tables: Tables, i: int, remaining: Tensor, generator: torch.Generator | None) -> Tensor:
    """As ``_draw_by_guide``, with a number of steps that depends on no value."""
    num_draws, batch = remaining.shape
    device, span = remaining.device, tables.spans[i]
    uniform = torch.rand(num_draws, batch, dtype=torch.float64, device=device, generator=generator).flatten()
    urn = torch.arange(batch, device=device)
    if 2 * span > num_draws or batch * span * tables.width > _MOST_SHARED_ELEMENTS:
        rows = max(1, _CHUNK_ELEMENTS // tables.width)
        each = (uniform, remaining.flatten(), urn.repeat(num_draws))
        parts = [
            (_cumulative(tables, i, r, e) <= u.unsqueeze(1)).sum(1)
            for u, r, e in zip(*(a.split(rows) for a in each), strict=True)
        ]
        return torch.cat(parts).reshape(num_draws, batch)
    least = tables.base[:, i - 1] if i > 0 else tables.total
    # A row that no draw uses may be impossible; all must be sorted.
    cumulative = _accumulated(tables.all_log_weights(i)).nan_to_num(1.0)
    # One search for all rows, each a unit above the one before.
    row = ((urn * span - least) + remaining).flatten()
    floor = torch.arange(batch * span, dtype=torch.float64, device=device).unsqueeze(1)
    ceiling = row.double() + 1
    place = torch.minimum(row + uniform, torch.nextafter(ceiling, ceiling - 1))
    found = torch.searchsorted((cumulative + floor).flatten(), place, right=True) - row * tables.width
    return found.reshape(num_draws, batch)


def _cumulative(tables: Tables, i: int, remaining: Tensor, urn: Tensor) -> Tensor:
    """Cumulative probabilities [R, X], exactly 1 from the last possible count on."""
    return _accumulated(tables.log_weights(i, tables.places(i, remaining, urn), urn))


def _accumulated(log_weights: Tensor) -> Tensor:
    cumulative = (log_weights - log_weights.amax(1, keepdim=True)).exp_().cumsum(1)
    return cumulative / cumulative[:, -1:]
