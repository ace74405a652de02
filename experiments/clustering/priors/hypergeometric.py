"""The noncentral hypergeometric prior: the number of digits per cluster in a batch has learned class weights."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from experiments.clustering.priors.base import BatchLaw, Prior
from experiments.settings import checked
from mvhg import MultivariateHypergeometric

GroupSize = Annotated[int, Field(gt=0, le=10**6)]  # an urn for 70,000 digits in as many clusters then has below 2^53


def draw_assignments(log_probabilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
    """One-hot draws with the gradient of the Gumbel-softmax (Jang et al. 2017); arguments and result [n, clusters]."""
    soft = ((log_probabilities + gumbel_noise) / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


class CountsLaw(BatchLaw):
    """log p(c; omega) from the counts x_k of one drawn assignment.

    Args:
        batch_size: digits of the batch, n.
        exact: law of the counts, whose mean q(c | x) takes.
        scored: law whose log p is taken: the same, or that of the merged conditionals.
        of_assignments: divide by the number n! / prod_k x_k! of assignments with the same counts.

    Raises:
        ValueError: of no digit nothing can be said.
    """

    def __init__(
        self,
        batch_size: int,
        exact: MultivariateHypergeometric,
        scored: MultivariateHypergeometric,
        of_assignments: bool,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size, the number of digits, must be at least 1, got {batch_size}")
        super().__init__((exact.mean / batch_size).log())
        self.batch_size = batch_size
        self.scored = scored
        self.of_assignments = of_assignments

    def expected_log_prob(self, log_responsibilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
        assignments = draw_assignments(log_responsibilities, gumbel_noise, temperature)
        return self.log_prob(assignments.sum(0)) / self.batch_size

    def log_prob(self, counts: Tensor) -> Tensor:
        """log p of counts [..., clusters], with sum n, or of any one assignment that has these counts."""
        log_prob = self.scored.log_prob(counts)
        if self.of_assignments:
            log_prob = log_prob + (counts + 1).lgamma().sum(-1) - math.lgamma(self.batch_size + 1)
        return log_prob


class HypergeometricPrior(Prior):
    """The counts of a batch follow the noncentral hypergeometric law with learned weights omega (Section 5.3, iii).

    A batch of n digits draws n elements from K groups of n elements each.

    Args:
        num_clusters: number of clusters, K.
        reading: ``"counts"``: log p is that of the count vector, the paper's wording. ``"assignments"``: divided by
            the number n! / prod_k x_k! of assignments with these counts, a proper prior over assignments, which tends
            to the categorical one for large groups.
        conditionals: ``"exact"``, or ``"merged"`` (the paper's Eq. 3, in the order 0..K-1) for log p. q(c | x) takes
            the exact mean under the weights in both cases.
        group_size: elements m_k of each group per digit of the batch; 1 gives m_k = n; at most 10^6.
    """

    @checked
    def __init__(
        self,
        *,
        num_clusters: int,
        reading: Literal["counts", "assignments"] = "counts",
        conditionals: Literal["exact", "merged"] = "exact",
        group_size: GroupSize = 1,
    ) -> None:
        super().__init__(num_clusters=num_clusters)
        self.reading = reading
        self.conditionals = conditionals
        self.group_size = group_size
        self.raw_log_weights = nn.Parameter(torch.zeros(num_clusters))

    def law(self, batch_size: int) -> CountsLaw:
        exact = self._law(batch_size, "exact")
        scored = exact if self.conditionals == "exact" else self._law(batch_size, self.conditionals)
        return CountsLaw(batch_size, exact, scored, self.reading == "assignments")

    def _law(self, batch_size: int, conditionals: str) -> MultivariateHypergeometric:
        return MultivariateHypergeometric(
            batch_size,
            [self.group_size * batch_size] * self.num_clusters,
            log_weights=self.raw_log_weights,
            conditionals=conditionals,
            validate_args=False,
        )

    def log_weights(self) -> Tensor:
        return self.raw_log_weights - self.raw_log_weights.mean()
