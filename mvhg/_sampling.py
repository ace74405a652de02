"""Sampling of counts by inverse transform, group after group."""

import torch
from torch import Tensor

from mvhg._conditionals import Bounds, ConditionalTables, is_batched
from mvhg._order import drawing_orders

# exp(-39) is below the resolution of a float64 uniform.
_LOG_PRECISION = 39.0
_CHUNK_ELEMENTS = 1 << 23


def draw_counts(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    num_draws: int,
    merged: bool,
    order: tuple[int, ...] | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
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
    """
    batch, groups = size.shape
    if is_batched(log_weights):
        raise NotImplementedError(
            "sample does not run within torch.func.vmap; give log_weights a batch dimension instead, or use rsample of "
            "MultivariateHypergeometricStraightThrough"
        )
    if batch == 0 or num_draws == 0:
        return torch.zeros(num_draws, batch, groups, dtype=dtype, device=size.device)
    # [B, c]: one order an urn, differing between urns only in where empty groups stand.
    permutation = drawing_orders(size, 1, order or tuple(range(groups)), None).squeeze(0)
    tables = ConditionalTables(
        size.gather(1, permutation),
        log_weights.gather(1, permutation),
        total,
        merged,
        _LOG_PRECISION,
        Bounds.of(size, total),
    )
    instance = torch.arange(batch, device=size.device).repeat(num_draws)
    counts = torch.empty(groups, num_draws * batch, dtype=dtype, device=size.device)
    remaining = total.long().repeat(num_draws)
    for i in range(groups - 1):
        drawn = _draw_group(tables, i, remaining, instance, generator)
        remaining = remaining - drawn
        counts[i] = drawn
    counts[-1] = remaining
    result = torch.empty_like(counts)
    if (permutation == permutation[0]).all():
        result[permutation[0]] = counts
    else:
        result.scatter_(0, permutation.t().repeat(1, num_draws), counts)
    return result.t().reshape(num_draws, batch, groups)


def _draw_group(
    tables: ConditionalTables, i: int, remaining: Tensor, instance: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Counts of the group at position ``i``, int64 [D]."""
    draws, batch = len(remaining), len(tables.total)
    uniform = torch.rand(draws, dtype=torch.float64, device=remaining.device, generator=generator)
    # Draws that share urn and remaining count share a row; offsets from the total count are alike in all urns.
    taken = tables.total[instance] - remaining
    first, last = (int(v) for v in torch.aminmax(taken))
    span = last - first + 1
    if batch * span <= draws // 2:
        urn = torch.arange(batch, device=remaining.device).repeat_interleave(span)
        offsets = torch.arange(first, last + 1, device=remaining.device).repeat(batch)
        cumulative, start = _cumulative(tables, i, tables.total[urn] - offsets, urn)
        row = instance * span + (taken - first)
        width = cumulative.shape[1]
        # One sorted vector: row k occupies [k, k + 1]. The rounding this adds is below 1e-10 of probability.
        flat = (cumulative + torch.arange(len(urn), device=urn.device).unsqueeze(1)).reshape(-1)
        found = torch.searchsorted(flat, uniform.clamp(max=1 - 1e-10) + row, right=True)
        return found - row * width + start[row]
    parts = []
    rows = max(1, _CHUNK_ELEMENTS // tables.width[i])
    for u, r, e in zip(uniform.split(rows), remaining.split(rows), instance.split(rows), strict=True):
        cumulative, start = _cumulative(tables, i, r, e)
        below_one = u.clamp(max=1 - 1e-16).unsqueeze(1)
        parts.append(torch.searchsorted(cumulative, below_one, right=True).squeeze(1) + start)
    return torch.cat(parts)


def _cumulative(tables: ConditionalTables, i: int, remaining: Tensor, instance: Tensor) -> tuple[Tensor, Tensor]:
    """Cumulative probabilities [R, W], exactly 1 from the last possible count on, and the count of column 0 [R]."""
    rows = tables.rows(i, remaining, instance)
    weights = rows.log_weights.exp()
    cumulative = weights.cumsum(1)
    # A row that no draw uses may be impossible, all weights 0.
    return cumulative / cumulative[:, -1:].clamp(min=1e-300), rows.start
