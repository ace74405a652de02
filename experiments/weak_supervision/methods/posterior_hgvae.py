"""PosteriorHGVAE: which latents are independent is a latent variable, whose prior the hypergeometric law gives.

Not of the paper. The number k of independent latents has the prior HG(k; omega) of an urn with d marbles of each kind;
given k, all sets of k latents are equally likely. The likelihood of a set is the joint bound of the pair under it, so
the decoder decides, where an independent latent differs between the views: it repels its other value. Given log odds
latent by latent the posterior over all sets is exact, and omega and the widths of the repulsion follow by empirical
Bayes. Nothing is told of k. The derivation stands in docs/weak_supervision.md.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.settings import ExperimentError, NonNegativeInt, Positive
from experiments.weak_supervision.group_vae import (
    Average,
    Choice,
    Context,
    GroupVAE,
    Terms,
    average,
    checked,
    kl_to_prior,
    log_binomials,
)
from mvhg import MultivariateHypergeometric

_IMPOSSIBLE = -1e30  # a log weight whose exponential is 0 and whose sums stay finite
_LEAST = 1e-6  # nats, of a score by which candidates are ranked
_EVALUATED = 2  # times as many candidates where whole decisions are asked for
_WIDTH = 0.1  # of the repulsion before training: below every distance that counts


class PosteriorHGVAE(GroupVAE):
    """Draws the set of independent latents from its posterior.

    Args:
        decoded_share: of the pairs of a training step whose candidates the decoder tries; of the others the odds are
            those of :func:`sharing`. Whole decisions try every pair.
        candidates: latents of such a pair that are tried as shared, those whose odds are least certain; 0 for none.
        weight_learning_rate_factor: of the log weight's learning rate on the training's.
        width_learning_rate_factor: of the widths', which cross several octaves in a training.
        settings: of ``GroupVAE``; only the joint bound prices a shared latent once.
    """

    diagnostic_names = ("log_weight", "law_count", "selection_divergence")

    @checked
    def __init__(
        self,
        *,
        decoded_share: Annotated[float, Field(gt=0, le=1)] = 0.5,
        candidates: NonNegativeInt = 2,
        weight_learning_rate_factor: Positive = 10.0,
        width_learning_rate_factor: Positive = 30.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.uniform_columns = self.num_latents + 1
        if candidates > self.num_latents:
            raise ValueError(f"candidates is {candidates}, but there are {self.num_latents} latents")
        self.decoded_share = decoded_share
        self.candidates = candidates
        self.weight_learning_rate_factor = weight_learning_rate_factor
        self.width_learning_rate_factor = width_learning_rate_factor
        self.log_weight = nn.Parameter(torch.zeros(()))  # of independent marbles; shared ones have 0
        self.log_widths = nn.Parameter(torch.full((self.num_latents,), math.log(_WIDTH)))

    def law(self) -> MultivariateHypergeometric:
        """The law of the numbers (independent, shared) with the learned log weight."""
        size, log_weights = self.num_latents, torch.stack([self.log_weight, torch.zeros_like(self.log_weight)])
        return MultivariateHypergeometric(size, [size, size], log_weights=log_weights, validate_args=False)

    def log_prior(self, law: MultivariateHypergeometric) -> Tensor:
        """Log probability of each single set of independent latents by its size, [latents + 1]."""
        sizes = torch.arange(self.num_latents + 1, device=self.log_weight.device, dtype=self.log_weight.dtype)
        counts = torch.stack([sizes, self.num_latents - sizes], -1)
        return law.log_prob(counts) - log_binomials(self.num_latents, self.log_weight)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [*self.encoder.parameters(), *self.decoder.parameters()]},
            {"params": [self.log_weight], "learning_rate_factor": self.weight_learning_rate_factor},
            {"params": [self.log_widths], "learning_rate_factor": self.width_learning_rate_factor},
        ]

    @torch.no_grad()
    def log_odds(self, mean: Tensor, log_variance: Tensor, context: Context) -> Tensor:
        """Log odds [pairs, latents] of each latent being independent: joint bound of all less that without it.

        That they differ is not in them, see :func:`log_different`.
        """
        cost, gain = sharing(mean, log_variance, self.averaging)
        pairs, width = cost.shape
        tried = min(width, _EVALUATED * self.candidates) if context.hard else self.candidates
        if not tried:
            return cost - gain
        # Where cost and gain are of one size, an error of the cost decides; where one is small, nothing is at stake.
        score = torch.minimum(cost, gain).clamp(min=0).square() / torch.maximum(cost, gain).clamp(min=_LEAST)
        scores, latents = score.topk(tried, -1)  # [pairs, tried]
        chosen = pairs if context.hard else math.ceil(self.decoded_share * pairs)
        places = scores.sum(-1).topk(chosen).indices
        latents = latents[places]
        own = mean[:, places]  # [2, chosen, latents]
        shared, _ = average(mean, log_variance, self.averaging)
        averaged = torch.zeros(chosen, tried, width, device=mean.device).scatter_(-1, latents.unsqueeze(-1), 1.0)
        moved = torch.lerp(own.unsqueeze(2), shared[places].unsqueeze(1), averaged)  # [2, chosen, tried, latents]
        latent_means = torch.cat([own.unsqueeze(2), moved], 2)
        images = context.images.unflatten(0, (2, -1))[:, places]  # [2, chosen, channels, height, width]
        logits = self.decode(latent_means.flatten(0, 2))
        repeated = images.unsqueeze(2).expand(-1, -1, tried + 1, -1, -1, -1).flatten(0, 2)
        losses = binary_cross_entropy_with_logits(logits, repeated, reduction="none").flatten(1).sum(-1)
        of_sets = losses.unflatten(0, (2, chosen, tried + 1)).sum(0)
        rows = cost[places].scatter(-1, latents, of_sets[:, 1:] - of_sets[:, :1])
        return cost.index_copy(0, places, rows) - gain

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        law = self.law()
        log_prior = self.log_prior(law)
        mean, log_variance = mean.detach(), log_variance.detach()
        different = log_different(mean, log_variance, self.log_widths.exp())
        log_odds = self.log_odds(mean, log_variance, context) + different.detach()
        posterior = subset_posterior(log_odds, log_prior.detach())
        if context.hard:
            posterior.require_possible()
        uniform = context.uniform
        if uniform is None:
            uniform = torch.rand(len(log_odds), self.uniform_columns, generator=context.generator, device=mean.device)
        independent = posterior.draw(uniform.to(mean.dtype))
        of_counts = posterior.log_counts.exp()
        sizes = torch.arange(self.num_latents + 1, device=mean.device, dtype=mean.dtype)
        diagnostics = {
            "log_weight": self.log_weight.detach(),
            "law_count": law.mean[0].detach(),
            # KL(q(S) || p(S)) = E_q[sum of the odds over S] - log evidence; the first term by one draw.
            "selection_divergence": ((independent * log_odds).sum(-1) - posterior.log_evidence).mean(),
        }
        of_prior = of_counts @ log_prior + (independent * different).sum(-1)
        return Choice(independent, independent.sum(-1), of_counts @ sizes, diagnostics, -of_prior.mean())

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        assert choice.loss is not None
        return super().loss(terms, choice) + choice.loss


def sharing(mean: Tensor, log_variance: Tensor, averaging: Average) -> tuple[Tensor, Tensor]:
    """What sharing a latent costs in reconstruction, to second order, and what it gains in divergence; in nats a pair.

    Where an encoder is at its bound's maximum, reconstruction has the slope ``mean`` there and, in each view, the
    curvature ``1 - 1 / variance``: the derivatives of the divergence, with which it is in balance.

    Args:
        mean: [2, pairs, latents].
        log_variance: the same shape.
        averaging: of shared posteriors.

    Returns:
        Cost and gain, each [pairs, latents]; cost less gain are the log odds of being independent.
    """
    shared_mean, shared_log_variance = average(mean, log_variance, averaging)
    precision, moved = (-log_variance).exp(), shared_mean - mean
    spread = shared_log_variance.exp() - log_variance.exp()
    cost = (0.5 * (precision - 1) * (moved.square() + spread) - mean * moved).sum(0)
    gain = kl_to_prior(mean, log_variance).sum(0) - kl_to_prior(shared_mean, shared_log_variance)
    return cost, gain


def log_different(mean: Tensor, log_variance: Tensor, widths: Tensor) -> Tensor:
    """What being different adds to the log odds of a latent's being independent, [pairs, latents].

    An independent latent has the prior N(z1; 0, 1) N(z2; 0, 1) [1 - exp(-(z1 - z2)^2 / (2 width^2))] / Z in the two
    views, and the posteriors of the views are tilted alike: log of the expectation of the bracket under them, less that
    under the prior (log Z). 0 for a latent that carries nothing, and for every latent at width 0.

    Args:
        mean: [2, pairs, latents].
        log_variance: the same shape.
        widths: [latents], positive.
    """
    squares = widths.square()
    variance = log_variance.exp().sum(0)  # of the difference
    exponent = 0.5 * (torch.log1p(variance / squares) + (mean[0] - mean[1]).square() / (squares + variance))
    exponent = exponent.clamp(min=torch.finfo(exponent.dtype).tiny)  # equal views without a variance: finite odds
    of_prior = 0.5 * torch.log1p(2 / squares)
    return torch.log(-torch.expm1(-exponent)) - torch.log(-torch.expm1(-of_prior))


class SubsetPosterior(NamedTuple):
    """Posterior over the number and the set of independent latents.

    Attributes:
        log_evidence: [pairs], log of the sum over all sets of prior times likelihood, relative to the likelihood of all
            latents being shared.
        log_counts: [pairs, latents + 1], log posterior of the number of independent latents.
        partial: [latents + 1, pairs, latents + 1], log elementary symmetric polynomials of the first latents' odds.
        log_odds: [pairs, latents].
    """

    log_evidence: Tensor
    log_counts: Tensor
    partial: Tensor
    log_odds: Tensor

    def require_possible(self) -> None:
        """Refuses a pair of which no set is possible, or whose odds are no numbers.

        Raises:
            ExperimentError: names the pair by its place in the batch.
        """
        wrong = ~(self.log_evidence > _IMPOSSIBLE / 2) | ~self.log_evidence.isfinite()
        if wrong.any():
            pair = int(wrong.nonzero()[0])
            raise ExperimentError(
                f"no set of independent latents is possible for pair {pair} of the batch: its log odds are "
                f"{[round(value, 3) for value in self.log_odds[pair].tolist()]}"
            )

    def draw(self, uniform: Tensor) -> Tensor:
        """Sets drawn from the posterior, [pairs, latents] of 0 and 1.

        Args:
            uniform: [pairs, latents + 1] in [0, 1).
        """
        cumulative = self.log_counts.exp().cumsum(-1)
        last = cumulative[:, -1:]
        left = torch.searchsorted(cumulative, uniform[:, -1:] * last, right=True).clamp(max=self.log_odds.shape[-1])
        chosen = torch.zeros_like(self.log_odds)
        for latent in reversed(range(self.log_odds.shape[-1])):
            without = self.partial[latent].gather(1, (left - 1).clamp(min=0))
            log_probability = self.log_odds[:, latent : latent + 1] + without - self.partial[latent + 1].gather(1, left)
            take = (uniform[:, latent : latent + 1] < log_probability.exp()) & (left > 0)
            chosen[:, latent : latent + 1] = take.to(chosen.dtype)
            left = left - take.long()
        return chosen


def subset_posterior(log_odds: Tensor, log_prior: Tensor) -> SubsetPosterior:
    """The exact posterior when all sets of one size are equally likely beforehand.

    Given its size, a set follows the conditional Bernoulli law, whose constants are elementary symmetric polynomials.

    Args:
        log_odds: [pairs, latents], log likelihood ratio of each latent being independent to being shared.
        log_prior: [latents + 1], log probability of each single set by its size: log p(k) - log (d choose k).

    Raises:
        ValueError: the prior is of another number of latents.
    """
    pairs, latents = log_odds.shape
    if len(log_prior) != latents + 1:
        raise ValueError(f"log_prior is of {len(log_prior) - 1} latents, the odds are of {latents}")
    row = log_odds.new_full((pairs, latents + 1), _IMPOSSIBLE)
    row = torch.cat([torch.zeros_like(row[:, :1]), row[:, 1:]], dim=1)
    rows = [row]
    for latent in range(latents):
        shifted = torch.cat([row.new_full((pairs, 1), _IMPOSSIBLE), row[:, :-1]], dim=1)
        row = torch.logaddexp(row, shifted + log_odds[:, latent : latent + 1])
        rows.append(row)
    joint = row + log_prior
    total = torch.logsumexp(joint, -1)
    return SubsetPosterior(total, joint - total.unsqueeze(-1), torch.stack(rows), log_odds)
