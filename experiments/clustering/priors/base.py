"""What the VaDE asks of a prior over the cluster assignments, and the priors of independent digits."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from experiments.settings import checked

_RELAXATION = frozenset(f"training.{name}" for name in ("initial_temperature", "final_temperature", "annealing_share"))


class BatchLaw:
    """A prior for batches of one size, with what its values share computed once a step.

    This class is the law of independent assignments; priors with another one override :meth:`expected_log_prob`.

    Args:
        log_probabilities: log p(c_i = k) of one digit of the batch, [clusters]; q(c | x) is built on it.
    """

    def __init__(self, log_probabilities: Tensor) -> None:
        self.log_probabilities = log_probabilities

    def expected_log_prob(self, log_responsibilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
        """E_q[log p(c; pi)] / n: the prior's term of the bound in nats per digit, a scalar.

        Args:
            log_responsibilities: log q(c_i = k | x_i), [n, clusters].
            gumbel_noise: standard Gumbel draws, [n, clusters], for priors that draw an assignment of every digit.
            temperature: of the Gumbel-softmax, a scalar.
        """
        return (log_responsibilities.exp() * self.log_probabilities).sum(-1).mean()


class Prior(nn.Module):
    """Prior p(c; pi) over the assignments c = (c_1, ..., c_n) of a batch to the clusters; it starts with equal ones.

    Args:
        num_clusters: number of clusters, K.
    """

    idle_settings: frozenset[str] = frozenset()  # of the experiment, that it does not read, see ``Experiment``

    @checked
    def __init__(self, *, num_clusters: Annotated[int, Field(ge=2)]) -> None:
        super().__init__()
        self.num_clusters = num_clusters

    def law(self, batch_size: int) -> BatchLaw:
        """The prior for batches of ``batch_size`` digits under the present weights; asked for once a step."""
        raise NotImplementedError

    def log_weights(self) -> Tensor | None:
        """Log weights of the clusters with mean 0, [clusters]; None where nothing is learned."""
        return None


class UniformPrior(Prior):
    """p(c_i = k) = 1 / K, fixed (Section 5.3, ii)."""

    idle_settings = _RELAXATION | {"training.prior_learning_rate_factor"}
    equal: Tensor  # [clusters], log 1 / K; a buffer knows the device

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__(num_clusters=num_clusters)
        self.register_buffer("equal", torch.zeros(num_clusters).log_softmax(-1), persistent=False)

    def law(self, batch_size: int) -> BatchLaw:
        return BatchLaw(self.equal)


class CategoricalPrior(Prior):
    """p(c_i = k) = pi_k with learned pi (Section 5.3, i); its expectation is exact, nothing is drawn."""

    idle_settings = _RELAXATION

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__(num_clusters=num_clusters)
        self.logits = nn.Parameter(torch.zeros(num_clusters))

    def law(self, batch_size: int) -> BatchLaw:
        return BatchLaw(self.logits.log_softmax(-1))

    def log_weights(self) -> Tensor:
        return self.logits - self.logits.mean()
