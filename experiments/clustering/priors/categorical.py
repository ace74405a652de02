"""Learned probabilities, independent over the digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.clustering.priors.base import Prior


class CategoricalPrior(Prior):
    """p(c_i = k) = pi_k with learned pi (Section 5.3, i); its expectation is exact, nothing is drawn."""

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__(num_clusters=num_clusters)
        self.logits = nn.Parameter(torch.zeros(num_clusters))

    def log_probabilities(self, batch_size: int) -> Tensor:
        return self.logits.log_softmax(-1)

    def expected_log_prob(self, log_responsibilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
        return (log_responsibilities.exp() * self.logits.log_softmax(-1)).sum(-1).mean()

    def log_weights(self) -> Tensor:
        return self.logits - self.logits.mean()

    @torch.no_grad()
    def initialise(self, probabilities: Tensor) -> None:
        self.logits.copy_(probabilities.clamp_min(1e-6).log())  # an empty component stays finite
