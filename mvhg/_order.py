"""The order in which groups are drawn."""

import itertools
import math

import torch
from torch import Tensor

# A random order costs one set of tables. Up to three groups all orders are used, else this many random ones a call.
_MOST_ORDERS = 8


def number_of_orders(num_groups: int, num_draws: int, order: tuple[int, ...] | None) -> int:
    """How many orders a call with ``num_draws`` draws an urn uses."""
    if order is not None or num_groups == 1:
        return 1
    return min(num_draws, math.factorial(num_groups) if num_groups <= 3 else _MOST_ORDERS)


def drawing_orders(
    size: Tensor, num_orders: int, order: tuple[int, ...] | None, generator: torch.Generator | None
) -> Tensor:
    """Permutations [num_orders, B, c] of the groups of each urn, empty groups first.

    An empty group is never drawn, so its place does not matter, but the last group must be able to take a remainder.

    Args:
        size: group sizes [B, c].
        num_orders: as ``number_of_orders`` says; with all orders of up to three groups, each appears once.
        order: a given order, or None for random orders.
        generator: source of randomness.
    """
    batch, groups = size.shape
    if order is not None:
        rank = torch.empty(groups, dtype=torch.float64, device=size.device)
        rank[list(order)] = torch.arange(groups, dtype=torch.float64, device=size.device)
        rank = rank.expand(num_orders, batch, groups)
    elif num_orders > 1 and num_orders == math.factorial(groups):
        every = torch.tensor(list(itertools.permutations(range(groups))), dtype=torch.float64, device=size.device)
        # Shuffled for each urn, so that no draw has the same order in all of them.
        shuffled = torch.rand(num_orders, batch, device=size.device, generator=generator).argsort(0)
        rank = every[shuffled]
    else:
        rank = torch.rand(num_orders, batch, groups, dtype=torch.float64, device=size.device, generator=generator)
    return torch.where(size == 0, -1.0, rank).argsort(dim=-1, stable=True)
