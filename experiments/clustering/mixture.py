"""The mixture of Gaussians with diagonal covariance that is the prior of the latent space (Eq. 54)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class GaussianMixture(nn.Module):
    """Means and variances of the components; their probabilities belong to the prior p(c).

    Args:
        num_clusters: number of components, K.
        latent_dim: dimension D of the latent space.
        minimum_variance: variances don't fall below it, so that a component that collapses onto a point stays finite;
            there, its variance has no gradient and stays as it is.
    """

    def __init__(self, num_clusters: int, latent_dim: int, minimum_variance: float) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(num_clusters, latent_dim))
        self.raw_log_variances = nn.Parameter(torch.zeros(num_clusters, latent_dim))
        self.minimum_log_variance = math.log(minimum_variance)

    @property
    def log_variances(self) -> Tensor:
        """[clusters, latent]."""
        return self.raw_log_variances.clamp_min(self.minimum_log_variance)

    @torch.no_grad()
    def initialise(self, means: Tensor, variances: Tensor) -> None:
        """Sets the components, both [clusters, latent]."""
        self.means.copy_(means)
        self.raw_log_variances.copy_(variances.log())

    def log_density(self, latents: Tensor) -> Tensor:
        """log p(z | c = k), [batch, clusters], for latents [batch, latent]."""
        log_variances = self.log_variances
        squared = (latents.unsqueeze(-2) - self.means).square() / log_variances.exp()  # [batch, clusters, latent]
        return -0.5 * (squared + log_variances + math.log(2 * math.pi)).sum(-1)

    def expected_log_density(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """E[log p(z | c = k)] under z ~ N(mean, exp(log_variance)), [batch, clusters]; arguments [batch, latent]."""
        log_variances = self.log_variances
        squared = (mean.unsqueeze(-2) - self.means).square() + log_variance.exp().unsqueeze(-2)
        return -0.5 * (squared / log_variances.exp() + log_variances + math.log(2 * math.pi)).sum(-1)
