"""A reference: the number of independent latents is given, which ones is decided by their divergence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.settings import NonNegativeInt
from experiments.weak_supervision.group_vae import Choice, Context, GroupVAE, checked, divergence, largest_latents


class FixedK(GroupVAE):
    """The latents with the largest symmetric divergence are independent, as many as factors differ.

    Args:
        shared: s, the number of factors that the pairs share.
        num_factors: of the data; the number of independent latents is ``num_factors - shared``, the truth.
        settings: of ``GroupVAE``.

    Raises:
        ValueError: there are fewer latents.
    """

    @checked
    def __init__(self, *, shared: NonNegativeInt, num_factors: NonNegativeInt = 7, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_independent = num_factors - shared
        if not 0 <= self.num_independent <= self.num_latents:
            raise ValueError(f"num_independent is {self.num_independent}, but there are {self.num_latents} latents")

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        divergences = divergence(mean.detach(), log_variance.detach(), "symmetric")
        independent = largest_latents(divergences, self.num_independent)
        count = torch.full_like(divergences[:, 0], self.num_independent)
        return Choice(independent, count, count)
