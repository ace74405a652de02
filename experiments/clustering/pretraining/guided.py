"""Training of the VaDE with fixed assignments: moves the latent space to clusters that were found outside of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from experiments.clustering.networks import grey
from experiments.clustering.vade import Terms, VaDE
from experiments.row_training import RowTraining

if TYPE_CHECKING:
    from experiments.clustering.pretraining.pretraining import Pretraining
    from experiments.clustering.pretraining.starts import N2DStart

IMPOSSIBLE = -1e4  # log probability of the other clusters: exp gives 0, and 0 times it is 0


class GuidedTraining(RowTraining):
    """Maximises the bound with q(c | x) fixed to one cluster k per digit, plus ``weight`` times log p(c = k | z).

    The bound alone leaves clusters overlapping in the latent space; the second term pulls them apart.

    Args:
        vade: the model, usually with the uniform prior.
        images: [digits, pixels] uint8.
        assignments: cluster of every digit, [digits] int64.
        start: says how many epochs, for the learning rate, which falls to a tenth by a half cosine, and the weight.
        settings: of the pretraining.
        noise_seed: seed of everything drawn.
    """

    assignments: Tensor

    def __init__(
        self, vade: VaDE, images: Tensor, assignments: Tensor, start: N2DStart, settings: Pretraining, noise_seed: int
    ) -> None:
        names = ["elbo", *Terms._fields, "separation"]
        super().__init__(rows=images, batch_size=settings.batch_size, noise_seed=noise_seed, term_names=names)
        self.vade = vade
        self.epochs, self.weight = start.guided_epochs, start.guidance_weight
        self.initial_learning_rate = settings.learning_rate
        self.register_buffer("assignments", assignments, persistent=False)

    def step_loss(self, rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, vade = grey(rows), self.vade
        noise = vade.draw_noise(len(images), self.generator)
        assigned = self.assignments[indices]
        given = (1 - one_hot(assigned, vade.prior.num_clusters)) * IMPOSSIBLE
        mean, log_variance, latents = vade.draw_latents(images, noise)
        temperature = torch.ones((), device=self.device)  # the uniform prior draws nothing
        law = vade.prior.law(len(images))
        terms = vade.bound(images, mean, log_variance, latents, given, law, noise, temperature)
        separation = -nll_loss(vade.log_responsibilities(latents, law), assigned)
        return -(terms.elbo + self.weight * separation), torch.stack([terms.elbo, *terms, separation])

    def step_optimizer(self) -> tuple[int, float]:
        progress = self.steps_taken / (self.epochs * self.steps_per_epoch)
        return 0, self.initial_learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.vade.parameters(), fused=True)
