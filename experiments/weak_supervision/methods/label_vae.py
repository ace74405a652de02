"""LabelVAE: one latent is independent, the one that a weak label names (Bouchacourt et al. 2018; Hosoya 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

from experiments.weak_supervision.group_vae import RELAXATION, Choice, Context, GroupVAE


class LabelVAE(GroupVAE):
    """Takes the number of independent latents as known to be 1 and the label, a changed factor, as its index."""

    needs_every_factor = True
    idle_settings = RELAXATION

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        independent = one_hot(context.label, self.num_latents).to(mean.dtype)
        count = independent.sum(-1)
        return Choice(independent, count, count)
