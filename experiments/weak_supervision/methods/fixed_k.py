"""A reference: the number of independent latents is given, which ones is decided by their divergence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.common.checks import require_integer
from experiments.weak_supervision.gaussians import divergence
from experiments.weak_supervision.group_vae import Choice, Context, GroupVAE


def largest_latents(divergences: Tensor, count: Tensor | int) -> Tensor:
    """Marks the ``count`` latents of largest divergence.

    Args:
        divergences: [pairs, latents].
        count: a number, or [pairs].

    Returns:
        [pairs, latents], 1 where marked, 0 elsewhere.
    """
    rank = divergences.argsort(-1, descending=True).argsort(-1)
    limit = count.unsqueeze(-1) if isinstance(count, Tensor) else count
    return (rank < limit).to(divergences.dtype)


class FixedK(GroupVAE):
    """The ``num_independent`` latents with the largest symmetric divergence are independent.

    Args:
        num_independent: k; the truth, 7 - s, for the reference of what a bound can reach.
        settings: of ``GroupVAE``.

    Raises:
        ValueError: a setting is not allowed.
    """

    def __init__(self, *, num_independent: int, **settings: Any) -> None:
        super().__init__(**settings)
        require_integer("model.num_independent", num_independent, 0)
        if num_independent > self.num_latents:
            raise ValueError(
                f"model.num_independent is {num_independent}, but there are only {self.num_latents} latents"
            )
        self.num_independent = num_independent

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        divergences = divergence(mean.detach(), log_variance.detach(), "symmetric")
        independent = largest_latents(divergences, self.num_independent)
        count = torch.full_like(divergences[:, 0], self.num_independent)
        return Choice(independent, count, count)
