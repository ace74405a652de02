"""Equal probability for every cluster, fixed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from experiments.clustering.priors.base import Prior


class UniformPrior(Prior):
    """p(c_i = k) = 1 / K, independent over the digits (Section 5.3, ii)."""

    zero: Tensor  # knows the device

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__(num_clusters=num_clusters)
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def log_probabilities(self, batch_size: int) -> Tensor:
        return (self.zero - math.log(self.num_clusters)).expand(self.num_clusters)

    def expected_log_prob(self, log_responsibilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
        return self.zero - math.log(self.num_clusters)
