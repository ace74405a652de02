"""The priors of independent digits: equal probabilities, fixed, and learned ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.clustering.priors.base import BatchLaw, Prior


class UniformPrior(Prior):
    """p(c_i = k) = 1 / K, fixed (Section 5.3, ii)."""

    equal: Tensor  # [clusters], log 1 / K; a buffer knows the device

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__(num_clusters=num_clusters)
        self.register_buffer("equal", torch.zeros(num_clusters).log_softmax(-1), persistent=False)

    def law(self, batch_size: int) -> BatchLaw:
        return BatchLaw(self.equal)


class CategoricalPrior(Prior):
    """p(c_i = k) = pi_k with learned pi (Section 5.3, i); its expectation is exact, nothing is drawn."""

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__(num_clusters=num_clusters)
        self.logits = nn.Parameter(torch.zeros(num_clusters))

    def law(self, batch_size: int) -> BatchLaw:
        return BatchLaw(self.logits.log_softmax(-1))

    def log_weights(self) -> Tensor:
        return self.logits - self.logits.mean()
