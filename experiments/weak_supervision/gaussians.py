"""Normal posteriors with independent latents: divergences between two views, and their averages."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DIVERGENCES = ("symmetric", "one_sided")
AVERAGES = ("arithmetic", "product_of_experts")


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of every latent, in nats; same shape as the arguments."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def divergence(mean: Tensor, log_variance: Tensor, kind: str) -> Tensor:
    """Divergence between the two views' posteriors, latent by latent, in nats.

    Args:
        mean: [2, pairs, latents].
        log_variance: the same shape.
        kind: ``one_sided``, KL(first || second), as the published code has it (disentanglement_lib), or ``symmetric``,
            the mean of both directions (paper C.2.2).

    Returns:
        [pairs, latents], at least 0.
    """
    difference = log_variance[0] - log_variance[1]
    squared = (mean[0] - mean[1]).square()
    one_sided = 0.5 * (difference.exp() + squared * (-log_variance[1]).exp() - 1 - difference)
    if kind == "one_sided":
        return one_sided.clamp(min=0)
    other = 0.5 * ((-difference).exp() + squared * (-log_variance[0]).exp() - 1 + difference)
    return (0.5 * (one_sided + other)).clamp(min=0)


def average(mean: Tensor, log_variance: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """One posterior for both views.

    Args:
        mean: [2, pairs, latents].
        log_variance: the same shape.
        kind: ``arithmetic``, the means of the means and of the variances (GroupVAE, Hosoya 2018), or
            ``product_of_experts``, the normalised product of the densities (ML-VAE, Bouchacourt et al. 2018).

    Returns:
        Mean and log variance, each [pairs, latents].
    """
    if kind == "arithmetic":
        return mean.mean(0), torch.logsumexp(log_variance, 0) - math.log(2)
    log_precision = torch.logsumexp(-log_variance, 0)
    weights = torch.softmax(-log_variance, 0)
    return (weights * mean).sum(0), -log_precision
