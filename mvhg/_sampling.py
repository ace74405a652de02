"""Sampling of counts by inverse transform, group after group."""

import torch
from torch import Tensor

from mvhg._bounds import Bounds
from mvhg._device import is_batched
from mvhg._inverse_transform import GuideTable
from mvhg._order import drawing_orders

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
    counts = torch.empty(num_draws, batch, groups, dtype=dtype, device=size.device)
    remaining = tables.total.expand(num_draws, batch)
    for i in range(groups):
        drawn = remaining if i == groups - 1 else _draw_group(tables, i, remaining, generator)
        remaining = remaining - drawn
        counts[..., i] = drawn
    if (permutation == torch.arange(groups, device=size.device)).all():
        return counts
    return counts.gather(-1, permutation.argsort(-1).expand_as(counts))


def _draw_group(tables: ConditionalTables, i: int, remaining: Tensor, generator: torch.Generator | None) -> Tensor:
    """Counts of the group at position ``i``, int64 [num_draws, B]."""
    num_draws, batch = remaining.shape
    uniform = torch.rand(num_draws, batch, dtype=torch.float64, device=remaining.device, generator=generator)
    urn = torch.arange(batch, device=remaining.device)
    # Draws that share urn and remaining count share a row.
    least, most = torch.aminmax(remaining, dim=0)
    span = int((most - least).max()) + 1
    if 2 * span <= num_draws and batch * span * tables.width[i] <= _MOST_SHARED_ELEMENTS:
        left = least.unsqueeze(1) + torch.arange(span, device=urn.device)
        cumulative = _cumulative(tables, i, left.reshape(-1), urn.repeat_interleave(span))
        row = (urn * span - least) + remaining
        table = GuideTable(cumulative, num_draws * batch)
        return table.draw(row.reshape(-1), uniform.reshape(-1)).reshape(num_draws, batch) + tables.low[:, i]
    parts = []
    rows = max(1, _CHUNK_ELEMENTS // tables.width[i])
    each = (uniform.reshape(-1), remaining.reshape(-1), urn.repeat(num_draws))
    for u, r, e in zip(*(a.split(rows) for a in each), strict=True):
        parts.append(torch.searchsorted(_cumulative(tables, i, r, e), u.unsqueeze(1), right=True).squeeze(1))
    return torch.cat(parts).reshape(num_draws, batch) + tables.low[:, i]


def _cumulative(tables: ConditionalTables, i: int, remaining: Tensor, instance: Tensor) -> Tensor:
    """Cumulative probabilities [R, W], exactly 1 from the last possible count on."""
    cumulative = tables.rows(i, remaining, instance).log_weights.exp().cumsum(1)
    # A row that no draw uses may be impossible, all weights 0.
    return cumulative / cumulative[:, -1:].clamp(min=1e-300)
