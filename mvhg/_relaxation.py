"""Gumbel-softmax relaxation of the conditionals (paper Section 4.3, Algorithms 1 and 2)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mvhg import _conditionals, _wide_draws
from mvhg._bounds import Bounds
from mvhg._hard_draws import draw_hard, narrowed
from mvhg._noise import gumbel as gumbel_noise
from mvhg._once import once_only
from mvhg._order import drawing_orders, number_of_orders, places_of_groups
from mvhg._soft_draws import draw_soft
from mvhg._validation import can_look

# Urns a call with one draw each, on a CPU: what is made of so many stays in its caches.
URNS_AT_ONCE = 1024
# Likewise of draws that share an urn.
_DRAWS_AT_ONCE = 2560
# Log-weights that a dtype tells apart have a hard softmax at the first of these temperatures, and those within 1e12 an
# even one at the second; beyond them, products overflow and underflow.
TEMPERATURES = {torch.float32: (1e-12, 1e25), torch.float64: (1e-20, 1e25)}


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
    if highest_temperature is None or highest_temperature > TEMPERATURES[dtype][1]:
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
    in_parts = num_draws == 1 and batch > URNS_AT_ONCE and relaxation.size.device.type == "cpu"
    if in_parts and not _alone(relaxation):
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
    if instance is None and _alone(relaxation):
        return _draw_wide(relaxation, log_weights, orders, temperature, generator, noise)
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
        narrow = narrowed(tables, instance, relaxation.depth, working)
        width = width if narrow is None else narrow[0].shape[1]
    inverse_temperature = temperature.reciprocal().expand(num_draws, batch).flatten()
    back = places_of_groups(permutation, order, relaxation.bounds)
    if narrow is not None and instance is not None:
        parts = []
        for k in range(0, rows, _DRAWS_AT_ONCE):
            some = slice(k, k + _DRAWS_AT_ONCE)
            scale, urns, places, returns = (a[some] for a in (inverse_temperature, instance, permutation, back))
            gumbel = gumbel_noise((groups - 1, len(scale), width), working, device, generator).transpose(0, 1)
            parts.append(draw_hard(tables, gumbel, scale, urns, places, returns, dtype, largest, narrow))
        counts, one_hot, prefix_mask = (torch.cat(fields) for fields in zip(*parts, strict=True))
    else:
        if noise is None:
            gumbel = gumbel_noise((groups - 1, rows, width), working, device, generator).transpose(0, 1)
        else:
            columns = noise.shape[-1] // max(1, groups - 1)
            gumbel = noise[..., : columns * (groups - 1)].reshape(rows, groups - 1, columns)[..., :width]
            gumbel = gumbel.log().neg_().log_().neg_().to(working)
        arguments = (tables, gumbel, inverse_temperature, instance, permutation, back, dtype, largest)
        counts, one_hot, prefix_mask = draw_hard(*arguments, None) if relaxation.hard else draw_soft(*arguments)
    shape = (num_draws, batch, groups)
    if largest is None:
        return Selection(*(counts.reshape(shape),) * 3)
    return Selection(counts.reshape(shape), one_hot.reshape(*shape, largest + 1), prefix_mask.reshape(*shape, largest))


def _alone(relaxation: Relaxation) -> bool:
    """Whether draws that share no urn are made by ``_wide_draws``."""
    if (
        relaxation.merged
        or not relaxation.hard
        or relaxation.temperature.requires_grad
        or relaxation.size.device.type != "cpu"
    ):
        return False
    if not can_look(relaxation.log_weights) or torch._C._are_functorch_transforms_active():
        return False
    return _wide_draws.serves(relaxation.bounds, relaxation.size.shape[1], relaxation.depth)


def _draw_wide(
    relaxation: Relaxation,
    log_weights: Tensor,
    orders: Tensor,
    temperature: Tensor,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> Selection:
    """One draw of each urn in each of the orders [O, B, c]."""
    num_draws, batch, groups = orders.shape
    permutation = orders.flatten(0, 1)
    logits = (log_weights + relaxation.tilt().unsqueeze(1)).expand_as(orders).gather(2, orders).flatten(0, 1)
    request = _wide_draws.Request(
        relaxation.size.expand_as(orders).gather(2, orders).flatten(0, 1),
        relaxation.total.expand(num_draws, batch).flatten(),
        permutation,
        permutation.argsort(1),
        temperature.reciprocal().expand(num_draws, batch).flatten(),
        relaxation.dtype,
        relaxation.depth,
        relaxation.bounds,
        relaxation.largest,
        generator,
        None if noise is None else noise.reshape(num_draws * batch, groups - 1, -1),
    )
    drawn = _wide_draws.draw(request, logits)
    shaped = [part.reshape(num_draws, batch, *part.shape[1:]) if part.dim() > 1 else part for part in drawn]
    return Selection(*(shaped[:1] * 3 if relaxation.largest is None else shaped))
