"""AdaVAE: latents whose divergence between the views is large are independent (Locatello et al. 2020)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from experiments.settings import checked
from experiments.weak_supervision.group_vae import (
    OF_SHARED,
    RELAXATION,
    Choice,
    Context,
    Divergence,
    GroupVAE,
    divergence,
)


class AdaVAE(GroupVAE):
    """A latent is independent where its divergence is at least halfway between the pair's least and largest.

    Args:
        divergence: ``one_sided``, as in the published code, or ``symmetric``.
        settings: of ``GroupVAE``.
    """

    idle_settings = RELAXATION

    @checked
    def __init__(self, *, divergence: Divergence = "one_sided", **settings: Any) -> None:
        super().__init__(**settings)
        self.divergence: Divergence = divergence
        if self.num_latents == 1:  # which is the largest of its pair, and independent
            self.idle_settings = RELAXATION | {"model.divergence", *OF_SHARED}

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        divergences = divergence(mean.detach(), log_variance.detach(), self.divergence)
        least, largest = divergences.aminmax(dim=-1, keepdim=True)
        independent = (divergences >= 0.5 * (least + largest)).to(mean.dtype)
        count = independent.sum(-1)
        return Choice(independent, count, count)
