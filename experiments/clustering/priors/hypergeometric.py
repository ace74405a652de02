"""The noncentral hypergeometric prior: the number of digits per cluster in a batch has learned class weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from experiments.clustering.priors.base import Prior, checked
from experiments.settings import PositiveInt
from mvhg import MultivariateHypergeometric


def draw_assignments(log_probabilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
    """One-hot draws with the gradient of the Gumbel-softmax (Jang et al. 2017); arguments and result [n, clusters]."""
    soft = ((log_probabilities + gumbel_noise) / temperature).softmax(-1)
    hard = one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())


class HypergeometricPrior(Prior):
    """log p(c; omega) from the counts x_k of one drawn assignment, with learned weights omega (Section 5.3, iii).

    A batch of n digits draws n elements from K groups of n elements each.

    Args:
        num_clusters: number of clusters, K.
        reading: ``"counts"``: log p is that of the count vector, the paper's wording. ``"assignments"``: divided by
            the number n! / prod_k x_k! of assignments with these counts, a proper prior over assignments, which tends
            to the categorical one for large groups.
        conditionals: ``"exact"``, or ``"merged"`` (the paper's Eq. 3, in the order 0..K-1) for log p. q(c | x) takes
            the exact mean under the weights in both cases.
        group_size: elements m_k of each group per digit of the batch; 1 gives m_k = n.
    """

    @checked
    def __init__(
        self,
        *,
        num_clusters: int,
        reading: Literal["counts", "assignments"] = "counts",
        conditionals: Literal["exact", "merged"] = "exact",
        group_size: PositiveInt = 1,
    ) -> None:
        super().__init__(num_clusters=num_clusters)
        self.reading = reading
        self.conditionals = conditionals
        self.group_size = group_size
        self.raw_log_weights = nn.Parameter(torch.zeros(num_clusters))

    def law(self, batch_size: int, conditionals: str = "exact") -> MultivariateHypergeometric:
        """The law of the counts of a batch."""
        return MultivariateHypergeometric(
            batch_size,
            [self.group_size * batch_size] * self.num_clusters,
            log_weights=self.raw_log_weights,
            conditionals=conditionals,
            validate_args=False,
        )

    def log_probabilities(self, batch_size: int) -> Tensor:
        return (self.law(batch_size).mean / batch_size).log()

    def expected_log_prob(self, log_responsibilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
        assignments = draw_assignments(log_responsibilities, gumbel_noise, temperature)
        batch_size = len(assignments)
        return self.log_prob(assignments.sum(0), batch_size) / batch_size

    def log_prob(self, counts: Tensor, batch_size: int) -> Tensor:
        """log p of counts [..., clusters], with sum ``batch_size``, or of any one assignment that has these counts."""
        log_prob = self.law(batch_size, self.conditionals).log_prob(counts)
        if self.reading == "assignments":
            log_prob = log_prob + (counts + 1).lgamma().sum(-1) - math.lgamma(batch_size + 1)
        return log_prob

    def log_weights(self) -> Tensor:
        return self.raw_log_weights - self.raw_log_weights.mean()

    @torch.no_grad()
    def initialise(self, probabilities: Tensor) -> None:
        # Inverts E[x_k] / n = p_k in the limit of large n: x_k is nearly binomial with odds p_k / (m_k / n - p_k).
        share = probabilities.clamp(1e-6, 1 - 1e-6)
        log_odds = share.log() - (self.group_size - share).log()
        self.raw_log_weights.copy_(log_odds - log_odds.mean())
