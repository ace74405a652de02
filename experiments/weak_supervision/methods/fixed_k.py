"""A reference: the number of independent latents is given, which ones is decided by their divergence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.settings import NonNegativeInt, checked
from experiments.weak_supervision.data.pairs import Random
from experiments.weak_supervision.group_vae import (
    OF_SHARED,
    RELAXATION,
    Choice,
    Context,
    GroupVAE,
    divergence,
    largest_latents,
)


class FixedK(GroupVAE):
    """The latents with the largest symmetric divergence are independent, as many as factors differ.

    Args:
        shared: s, the number of factors that the pairs share.
        independent: their number; None for the truth, ``num_factors - shared``.
        num_factors: of the data.
        settings: of ``GroupVAE``.

    Raises:
        ValueError: there are fewer latents, or no one truth.
    """

    idle_settings = RELAXATION

    @checked
    def __init__(
        self,
        *,
        shared: NonNegativeInt | Random,
        independent: NonNegativeInt | None = None,
        num_factors: NonNegativeInt = 7,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if independent is None:
            if shared == "random":
                raise ValueError("shared is random: of each pair another number; give model.independent, or a method")
            independent = num_factors - shared
        self.num_independent = independent
        if independent > self.num_latents:
            raise ValueError(
                f"{independent} latents should be independent (model.independent, or the factors that differ), but "
                f"model.num_latents is {self.num_latents}"
            )
        if independent == self.num_latents:
            self.idle_settings = RELAXATION | OF_SHARED

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        divergences = divergence(mean.detach(), log_variance.detach(), "symmetric")
        independent = largest_latents(divergences, self.num_independent)
        count = torch.full_like(divergences[:, 0], self.num_independent)
        return Choice(independent, count, count)
