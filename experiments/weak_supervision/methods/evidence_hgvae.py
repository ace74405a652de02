"""EvidenceHGVAE: infers which latents are shared by their evidence, under a hypergeometric prior on their number.

Not of the paper. HGVAE learns the number k of independent latents from a bound that hardly depends on it. Here k is a
latent variable with the prior HG(k; omega) of an urn with d marbles of each kind; given k, all sets of k latents are
equally likely. How likely a latent is to be shared follows from the two views' posteriors (a Bayes factor), and the
posterior over all sets is exact, by elementary symmetric polynomials. The weights are fitted by maximum likelihood: the
law's mean is then the posterior's, and a latent that says nothing counts as the others do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.settings import NonNegative, Positive
from experiments.weak_supervision.group_vae import Choice, Context, GroupVAE, Terms, checked, log_binomials
from mvhg import MultivariateHypergeometric

_LEAST_INFORMATION = 1e-3  # of a posterior on its latent: precision beyond the prior's
_IMPOSSIBLE = -1e30  # a log weight whose exponential is 0 and whose sums stay finite


class EvidenceHGVAE(GroupVAE):
    """Draws the set of independent latents from its exact posterior.

    The axes of the latent space are learned too: a rotation, to which the prior of the VAE is indifferent, turns them
    to where sharing has the most evidence. Nothing else of the networks is trained by the evidence.

    Args:
        tolerance: see ``log_bayes_factor``.
        weight_learning_rate_factor: of the log weight's learning rate on the training's.
        rotation_learning_rate_factor: of the rotation's; 0: the axes stay as they are.
        settings: of ``GroupVAE``.
    """

    diagnostic_names = ("log_weight", "posterior_count", "selection_divergence")

    @checked
    def __init__(
        self,
        *,
        tolerance: NonNegative,
        weight_learning_rate_factor: Positive,
        rotation_learning_rate_factor: NonNegative,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.tolerance = tolerance
        self.weight_learning_rate_factor = weight_learning_rate_factor
        self.rotation_learning_rate_factor = rotation_learning_rate_factor
        self.log_weight = nn.Parameter(torch.zeros(()))  # of independent marbles; shared ones have 0
        self.generator_of_rotation = nn.Parameter(torch.zeros(self.num_latents, self.num_latents))

    @property
    def rotation(self) -> Tensor:
        """The axes of the latent space, orthogonal [latents, latents]; row i is axis i."""
        # matrix_exp multiplies matrices, which autocast would do in half precision.
        with torch.autocast(self.log_weight.device.type, enabled=False):
            return torch.matrix_exp(self.generator_of_rotation - self.generator_of_rotation.T)

    def law(self) -> MultivariateHypergeometric:
        """The law of the numbers (independent, shared) with the learned log weight."""
        size, log_weights = self.num_latents, torch.stack([self.log_weight, torch.zeros_like(self.log_weight)])
        group_sizes = torch.tensor([size, size], device=log_weights.device)
        return MultivariateHypergeometric(size, group_sizes, log_weights=log_weights, validate_args=False)

    def log_prior(self, law: MultivariateHypergeometric) -> Tensor:
        """Log probability of each single set of independent latents by its size, [latents + 1]."""
        sizes = torch.arange(self.num_latents + 1, device=self.log_weight.device, dtype=self.log_weight.dtype)
        counts = torch.stack([sizes, self.num_latents - sizes], -1)
        return law.log_prob(counts) - log_binomials(self.num_latents, self.log_weight)

    def parameter_groups(self) -> list[dict[str, Any]]:
        factors = (self.weight_learning_rate_factor, self.rotation_learning_rate_factor)
        own = zip((self.log_weight, self.generator_of_rotation), factors)
        groups = [{"params": [parameter], "learning_rate_factor": factor} for parameter, factor in own]
        return [{"params": [*self.encoder.parameters(), *self.decoder.parameters()]}, *groups]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = super().encode(images)
        rotation = self.rotation.detach()
        with torch.autocast(mean.device.type, enabled=False):
            # The variances along the new axes; the covariances, which a normal posterior could have, are left out.
            return mean @ rotation.T, (log_variance.exp() @ rotation.square().T).log()

    def decode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents @ self.rotation.detach()
        return super().decode(latents)

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        rotation = self.rotation
        turned = (mean.detach() @ rotation.detach()) @ rotation.T  # the same means, with the rotation's gradient
        log_odds = -log_bayes_factor(turned, log_variance.detach(), self.tolerance)
        law = self.law()
        posterior = subset_posterior(log_odds, self.log_prior(law))
        uniform = torch.rand(len(log_odds), self.num_latents + 1, generator=context.generator, device=mean.device)
        independent = posterior.draw(uniform)
        with torch.no_grad():
            sizes = torch.arange(self.num_latents + 1, device=mean.device)
            posterior_count = (posterior.log_counts.exp() * sizes).sum(-1)
            expected = law.mean[0].expand(len(log_odds))
            # KL(q(S) || p(S)) = E_q[log likelihood ratio of S] - log evidence; the first term by one draw.
            divergence = ((independent - 1) * log_odds).sum(-1) - posterior.log_evidence
        diagnostics = {
            "log_weight": self.log_weight.detach(),
            "posterior_count": posterior_count.mean(),
            "selection_divergence": divergence.mean(),
        }
        return Choice(independent, independent.sum(-1), expected, diagnostics, -posterior.log_evidence.mean())

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        assert choice.loss is not None
        return super().loss(terms, choice) + choice.loss


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
    joint = row + log_prior
    total = torch.logsumexp(joint, -1)
    # The odds are relative to all latents being shared, a likelihood that depends on the axes; take it out.
    evidence = total - log_odds.sum(-1)
    return SubsetPosterior(evidence, joint - total.unsqueeze(-1), torch.stack(rows), log_odds)
