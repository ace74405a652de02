"""Straight-through draws, one from each urn of a batch that shares its sizes and total, on a CPU.

The law and the derivative are those of ``_conditionals`` and ``_relaxation``, which serve everything else. Here every
table covers the whole support, counted from the least possible count of each group, so that all places are known
without a look at the weights, and the batch comes last in memory, where a CPU's vectors run along it.
"""

from typing import Any

import torch
from torch import Tensor

from mvhg._draws_of_many import DrawsOfMany
from mvhg._draws_of_three import DrawsOfThree
from mvhg._draws_of_two import DrawsOfTwo
from mvhg._kept import CPU
from mvhg._single_plan import Plan


def draw(
    urn: Plan,
    log_weights: Tensor,
    inverse: float | Tensor,
    given: tuple[int, ...] | None,
    dtype: torch.dtype,
    selected: bool,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> tuple[Tensor, Any, Any]:
    """Counts [..., c], one-hot vectors [..., c, M + 1] and prefix masks [..., c, M] in ``dtype``;
    None for the last two unless ``selected``.

    Args:
        urn: the sizes and total.
        log_weights: [..., c], differentiable once.
        inverse: of the temperature, a number or float64 [B].
        given: the drawing order; None for a random one of each urn.
        dtype: of softmax and results.
        selected: whether one-hot vectors and prefix masks are wanted.
        generator: source of randomness.
        noise: uniform variables instead of the generator's, float64 [..., columns] as in ``noise_columns``.
    """
    groups = log_weights.shape[-1]
    batch = log_weights.numel() // groups
    uniform = None
    if noise is not None:
        noise = noise.reshape(batch, -1)
        if given is None:
            uniform, noise = noise[:, :groups], noise[:, groups:]
        noise = noise.reshape(batch, groups - 1, -1)[..., : urn.width]
    if groups == 2:
        if noise is None:
            noise = torch.rand(urn.width, batch, dtype=torch.float64, device=CPU, generator=generator)
        else:
            noise = noise[:, 0].t().clone()
        return DrawsOfTwo.apply(log_weights, urn, noise, inverse, dtype, selected, given == (1, 0))
    by_pairs = urn.by_pairs(batch)
    order = _which(batch, given, uniform, generator) if by_pairs else _orders(groups, batch, given, uniform, generator)
    if noise is None:
        noise = torch.rand(groups - 1, urn.width, batch, dtype=torch.float64, device=CPU, generator=generator)
    else:
        noise = noise.permute(1, 2, 0).clone()
    of_batch = DrawsOfThree if by_pairs else DrawsOfMany
    return of_batch.apply(log_weights, urn, order, noise, inverse, dtype, selected)


def _orders(
    groups: int,
    batch: int,
    given: tuple[int, ...] | None,
    uniform: Tensor | None,
    generator: torch.Generator | None,
) -> Tensor:
    """Drawing orders, int64 [c, B]."""
    if given is not None:
        return torch.tensor(given, device=CPU).unsqueeze(1).expand(groups, batch)
    if uniform is not None:
        return uniform.t().argsort(0)
    return torch.rand(groups, batch, dtype=torch.float64, device=CPU, generator=generator).argsort(0)


def _which(
    batch: int, given: tuple[int, ...] | None, uniform: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """Which of the six orders of three groups, int64 [B]."""
    if given is None and uniform is None:
        return torch.randint(6, (batch,), device=CPU, generator=generator)
    order = _orders(3, batch, given, uniform, generator)
    return 2 * order[0] + (order[1] > order[2])
