"""What the VAE asks of a prior over the cluster assignments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.common.checks import require_integer


class Prior(nn.Module):
    """Prior p(c; pi) over the assignments c = (c_1, ..., c_n) of a batch to the clusters.

    Args:
        num_clusters: number of clusters, K.
    """

    def __init__(self, *, num_clusters: int) -> None:
        super().__init__()
        require_integer("prior.num_clusters", num_clusters, 2)
        self.num_clusters = num_clusters

    def log_probabilities(self, batch_size: int) -> Tensor:
        """log p(c_i = k), [clusters], of one digit among ``batch_size``; q(c | x) is built on it."""
        raise NotImplementedError

    def expected_log_prob(self, log_responsibilities: Tensor, gumbel_noise: Tensor, temperature: Tensor) -> Tensor:
        """E_q[log p(c; pi)] / n: the prior's term of the bound in nats per digit, a scalar.

        Args:
            log_responsibilities: log q(c_i = k | x_i), [n, clusters].
            gumbel_noise: standard Gumbel draws, [n, clusters], for priors that draw an assignment of every digit.
            temperature: of the Gumbel-softmax, a scalar.
        """
        raise NotImplementedError

    def log_weights(self) -> Tensor | None:
        """Log weights of the clusters with mean 0, [clusters]; None where nothing is learned."""
        return None

    @torch.no_grad()
    def initialise(self, probabilities: Tensor) -> None:
        """Starts from the probabilities of a fitted mixture, [clusters]."""
