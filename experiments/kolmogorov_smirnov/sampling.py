"""Draws from an urn, counted in histograms.

The histogram of integers is the whole sample: its cumulative sum is the exact empirical distribution function.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import mvhg
from experiments.kolmogorov_smirnov.series import Urn

TEMPERATURE = 0.5  # the hard counts do not depend on it


def histogram(urn: Urn, draw: Callable[[int], Tensor], draws: int, batch_size: int) -> Tensor:
    """Returns how often each group held 0, 1, ..., largest size elements, int64 [groups, values].

    Args:
        urn: The urn.
        draw: Gives so many draws, [draws, groups].
        draws: In all.
        batch_size: Draws at a time.

    Raises:
        RuntimeError: a draw can't come from this urn.
    """
    sizes = torch.tensor(urn.group_sizes)
    groups, values = len(sizes), int(sizes.max()) + 1
    offsets = torch.arange(groups) * values  # each group has its own row of bins
    found = torch.zeros(groups * values, dtype=torch.int64)
    for start in range(0, draws, batch_size):
        counts = draw(min(batch_size, draws - start)).cpu()
        if not bool(((counts.sum(-1) == urn.total_count) & ((counts >= 0) & (counts <= sizes)).all(-1)).all()):
            raise RuntimeError(f"the sampler left the support of {urn}")
        found += torch.bincount((counts.long() + offsets).flatten(), minlength=groups * values)
    return found.view(groups, values)


def sampler(urn: Urn, conditionals: str, kind: str, generator: torch.Generator) -> Callable[[int], Tensor]:
    """Returns what draws on the generator's device, a number of draws -> counts [draws, groups].

    Args:
        urn: The urn.
        conditionals: ``exact`` or ``merged`` (the paper's; groups in the order 0, 1, 2, ...).
        kind: ``sample`` (the distribution's own) or ``straight_through`` (the differentiable one's hard counts).
        generator: Random source.
    """
    sizes = torch.tensor(urn.group_sizes, device=generator.device)
    weights = torch.tensor(urn.weights, dtype=torch.float32, device=generator.device)
    order = tuple(range(len(urn.weights))) if conditionals == "merged" else None
    if kind == "sample":
        exact = mvhg.MultivariateHypergeometric(
            urn.total_count, sizes, weights, conditionals=conditionals, group_order=order
        )
        return lambda draws: exact.sample((draws,), generator=generator)
    relaxed = mvhg.MultivariateHypergeometricStraightThrough(
        TEMPERATURE, urn.total_count, sizes, weights, conditionals=conditionals, group_order=order
    )
    return lambda draws: relaxed.rsample((draws,), generator=generator)
