"""Counts whose probability is asked for: checked, or told from impossible ones afterwards."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mvhg._given import check_layout
from mvhg._validation import FEW, broadcast_shapes, can_list, can_read, is_true
from mvhg.constraints import rounding

if TYPE_CHECKING:
    from mvhg.distribution import MultivariateHypergeometric


def known_inside(value: Tensor, law: "MultivariateHypergeometric") -> bool:
    """Whether counts are known to lie in the law's support.

    Raises:
        ValueError: they are no real tensor [..., c] that goes with the batch or, where values are checked, not in the
            support, naming the first such row, its sum and the total.
    """
    groups, batch = law.event_shape[0], law.batch_shape
    if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[-1] != groups or value.is_complex():
        got = type(value).__name__
        if isinstance(value, Tensor):
            got = f"dtype {value.dtype}" if value.is_complex() else f"shape {tuple(value.shape)}"
        raise ValueError(f"value must be a tensor of counts [..., {groups}], got {got}")
    check_layout("value", value)
    try:
        shape = broadcast_shapes(value.shape[:-1], batch)
    except RuntimeError:
        raise ValueError(
            f"value of shape {tuple(value.shape)} does not broadcast with batch shape {tuple(batch)}"
        ) from None
    if _plainly_inside(value, law):
        return True
    if not law._validate_args or not can_read(value, law._importance):
        return False
    good = law.support.check(value)
    if is_true(good.all()):
        return True
    row = tuple((~good).expand(shape).nonzero()[0].tolist())
    counts, total = value.double().expand(*shape, -1)[row], int(law.total_count.expand(shape)[row])
    shown = ", ".join(f"{x:.12g}" for x in counts[:8].tolist()) + (", ..." if len(counts) > 8 else "")
    raise ValueError(
        "value must be whole numbers with 0 <= value <= group_sizes that sum to total_count: shape "
        f"{tuple(value.shape)}, row {row} is [{shown}] with sum {float(counts.sum()):.12g}, total_count {total}"
    )


def _plainly_inside(value: Tensor, law: "MultivariateHypergeometric") -> bool:
    """Whether few counts on the host, of a plain urn, are whole and in its support."""
    bounds = law._known_bounds
    if bounds is None or bounds.sizes is None or bounds.totals is None or value.numel() > FEW or not can_list(value):
        return False
    rows = value.detach().reshape(-1, len(bounds.sizes)).tolist()
    return all(
        sum(row) == bounds.totals and all(0 <= x <= m and x == int(x) for x, m in zip(row, bounds.sizes, strict=True))
        for row in rows
    )


def off_total(value: Tensor, counts: Tensor, total: Tensor, law: "MultivariateHypergeometric") -> Tensor:
    """Where counts, ``value`` in float64, differ in their sum from the total by more than rounding, [...]."""
    bounds = law._known_bounds
    half_unit = 0.5 * torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
    tolerance: Tensor | float
    if bounds is not None and bounds.totals is not None and bounds.group * half_unit < 1:  # nothing was rounded
        tolerance = min(max(1e-5 * bounds.totals, 1e-5), 0.5)
    else:
        tolerance = torch.maximum((1e-5 * total).clamp(min=1e-5, max=0.5), rounding(value))
    return (counts.detach().sum(-1) - total).abs() > tolerance
