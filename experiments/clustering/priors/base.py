"""What the VAE asks of a prior over the cluster assignments."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

checked = validate_call(config=ConfigDict(strict=True))  # of the settings of a prior, by their types


class Prior(nn.Module):
    """Prior p(c; pi) over the assignments c = (c_1, ..., c_n) of a batch to the clusters.

    Args:
        num_clusters: number of clusters, K.
    """

    @checked
    def __init__(self, *, num_clusters: Annotated[int, Field(ge=2)]) -> None:
        super().__init__()
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
