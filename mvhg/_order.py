"""The order in which groups are drawn."""

import math

import torch
from torch import Tensor

from mvhg._bounds import Bounds
from mvhg._kept import constant

# A random order costs one set of tables. Up to three groups all orders are used, else this many random ones a call.
_MOST_ORDERS = 8


def number_of_orders(num_groups: int, num_draws: int, order: tuple[int, ...] | None) -> int:
    """How many orders a call with ``num_draws`` draws an urn uses."""
    if order is not None or num_groups == 1:
        return 1
    return min(num_draws, math.factorial(num_groups) if num_groups <= 3 else _MOST_ORDERS)


def drawing_orders(
    size: Tensor, num_orders: int, order: tuple[int, ...] | None, uniform: Tensor | None, bounds: Bounds
) -> Tensor:
    """Permutations [num_orders, B, c] of the groups of each urn, empty groups first.

    An empty group is never drawn, so its place does not matter, but the last group must be able to take a remainder.

    Args:
        size: group sizes [B, c].
        num_orders: as ``number_of_orders`` says.
        order: a given order, or None for random orders.
        uniform: for random orders of more than one group, uniform variables of each draw [num_draws, B, c].
        bounds: of the urns.
    """
    batch, groups = size.shape
    if order is not None and (known := _as_given(order, bounds, size.device)) is not None:
        return known.expand(num_orders, batch, groups)
    if order is not None or uniform is None:
        given = tuple(range(groups)) if order is None else order
        rank = torch.stack([torch.full((), given.index(g), device=size.device) for g in range(groups)])
        rank = rank.double().expand(num_orders, batch, groups)
    elif groups <= 3 and len(uniform) > num_orders > 1:
        k = torch.arange(num_orders, device=size.device)
        first = k // (groups - 1)
        second = (first + 1 + k % (groups - 1)) % groups
        every = [first, second, groups * (groups - 1) // 2 - first - second][:groups]
        rank = torch.stack(every, 1).double().unsqueeze(1).expand(num_orders, batch, groups)
    else:
        rank = uniform[:num_orders]
    if bounds.sizes is None or 0 in bounds.sizes:
        rank = torch.where(size == 0, -1.0, rank)
    return rank.argsort(dim=-1, stable=True)


def places_of_groups(permutation: Tensor, order: tuple[int, ...] | None, bounds: Bounds) -> Tensor:
    """Inverse of permutations [..., c] that ``drawing_orders`` made of ``order``."""
    if order is not None:
        inverse = tuple(order.index(g) for g in range(len(order)))
        known = _as_given(inverse, bounds, permutation.device)
        if known is not None:
            return known.expand_as(permutation)
    return permutation.argsort(-1)


def _as_given(order: tuple[int, ...], bounds: Bounds, device: torch.device) -> Tensor | None:
    """The order [c] where the host knows that no group is empty."""
    if bounds.sizes is None or 0 in bounds.sizes:
        return None
    return constant(order, device, torch.int64)
