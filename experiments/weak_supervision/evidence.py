"""Evidence that latents are shared, and the exact posterior over which of them are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LEAST_INFORMATION = 1e-3  # of a posterior on its latent: precision beyond the prior's
_IMPOSSIBLE = -1e30  # a log weight whose exponential is 0 and whose sums stay finite


def log_bayes_factor(mean: Tensor, log_variance: Tensor, tolerance: float) -> Tensor:
    """Log of how much likelier two views are if they share a latent than if each has its own.

    A posterior N(mean, variance) under the prior N(0, 1) is what an observation c = z + noise leaves, with
    c = mean / (1 - variance) and noise of variance r = variance / (1 - variance). Encoders are not consistent to the
    last digit, so the noise is taken as r + tolerance^2. Shared, c1 and c2 have the correlation
    rho = 1 / sqrt((1 + n1) (1 + n2)) with n = r + tolerance^2; else none. A latent that says nothing (variance 1) gives
    0.

    Args:
        mean: [2, pairs, latents].
        log_variance: the same shape.
        tolerance: standard deviation of the encoder's inconsistency, in units of the prior's.

    Returns:
        [pairs, latents], in nats; positive for shared.
    """
    information = torch.expm1(-log_variance).clamp(min=_LEAST_INFORMATION)  # 1 / r
    total = 1 + information * (1 + tolerance**2)  # (1 + n) / r
    standardised = mean * (1 + information) / (information * total).sqrt()  # c / sqrt(1 + n)
    correlation = (information / total).sqrt().prod(0)
    left = 1 - correlation.square()
    squares, product = standardised.square().sum(0), standardised.prod(0)
    exponent = correlation * (product - 0.5 * correlation * squares) / left
    return exponent - 0.5 * left.log()


class SubsetPosterior(NamedTuple):
    """Posterior over the number and the set of independent latents.

    Attributes:
        log_evidence: [pairs], log of the sum over all sets of prior times likelihood, relative to the likelihood of all
            latents being independent.
        log_counts: [pairs, latents + 1], log posterior of the number of independent latents.
        partial: [latents + 1, pairs, latents + 1], log elementary symmetric polynomials of the first latents' odds.
        log_odds: [pairs, latents].
    """

    log_evidence: Tensor
    log_counts: Tensor
    partial: Tensor
    log_odds: Tensor

    def under(self, log_prior: Tensor) -> SubsetPosterior:
        """The posterior of the same evidence under another prior [latents + 1] of each single set by its size."""
        joint = self.partial[-1] + log_prior
        total = torch.logsumexp(joint, -1)
        # The odds are relative to all latents being shared, a likelihood that depends on the axes; take it out.
        evidence = total - self.log_odds.sum(-1)
        return SubsetPosterior(evidence, joint - total.unsqueeze(-1), self.partial, self.log_odds)

    def draw(self, uniform: Tensor) -> Tensor:
        """Sets drawn from the posterior, [pairs, latents] of 0 and 1.

        Args:
            uniform: [pairs, latents + 1] in [0, 1).
        """
        log_odds, partial = self.log_odds.detach(), self.partial.detach()
        cumulative = self.log_counts.detach().exp().cumsum(-1)
        last = cumulative[:, -1:]
        left = torch.searchsorted(cumulative, uniform[:, -1:] * last, right=True).clamp(max=log_odds.shape[-1])
        chosen = torch.zeros_like(log_odds)
        for latent in reversed(range(log_odds.shape[-1])):
            without = partial[latent].gather(1, (left - 1).clamp(min=0))
            log_probability = log_odds[:, latent : latent + 1] + without - partial[latent + 1].gather(1, left)
            take = (uniform[:, latent : latent + 1] < log_probability.exp()) & (left > 0)
            chosen[:, latent : latent + 1] = take.to(chosen.dtype)
            left = left - take.long()
        return chosen


def subset_posterior(log_odds: Tensor, log_prior: Tensor) -> SubsetPosterior:
    """The exact posterior when all sets of one size are equally likely beforehand.

    Args:
        log_odds: [pairs, latents], log Bayes factor of each latent being independent.
        log_prior: [latents + 1], log probability of each single set by its size: log p(k) - log (d choose k).
    """
    pairs, latents = log_odds.shape
    row = log_odds.new_full((pairs, latents + 1), _IMPOSSIBLE)
    row = torch.cat([torch.zeros_like(row[:, :1]), row[:, 1:]], dim=1)
    rows = [row]
    for latent in range(latents):
        shifted = torch.cat([row.new_full((pairs, 1), _IMPOSSIBLE), row[:, :-1]], dim=1)
        row = torch.logaddexp(row, shifted + log_odds[:, latent : latent + 1])
        rows.append(row)
    return SubsetPosterior(row[:, 0], row, torch.stack(rows), log_odds).under(log_prior)
