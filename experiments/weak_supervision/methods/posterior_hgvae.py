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
    RELAXATION,
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
_MOST_LATENTS = 16  # 65,536 sets of a pair
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

    uniform_columns = 1
    diagnostic_names = ("log_weight", "law_count", "selection_divergence")
    sizes: Tensor  # [latents + 1]
    log_central: Tensor  # [latents + 1], log HG(k; 1)
    log_choices: Tensor  # [latents + 1], log (d choose k)
    sets: Tensor  # [2^latents, latents]

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
        if self.num_latents > _MOST_LATENTS:
            raise ValueError(
                f"num_latents is {self.num_latents}, but the posterior enumerates all sets of latents: at most "
                f"{_MOST_LATENTS}"
            )
        if candidates > self.num_latents:
            raise ValueError(f"candidates is {candidates}, but there are {self.num_latents} latents")
        self.decoded_share = decoded_share
        self.candidates = candidates
        self.idle_settings = RELAXATION if candidates else RELAXATION | {"model.decoded_share"}
        self.weight_learning_rate_factor = weight_learning_rate_factor
        self.width_learning_rate_factor = width_learning_rate_factor
        self.log_weight = nn.Parameter(torch.zeros(()))  # of independent marbles; shared ones have 0
        self.log_widths = nn.Parameter(torch.full((self.num_latents,), math.log(_WIDTH)))
        self.register_buffer("sizes", torch.arange(self.num_latents + 1, dtype=torch.float32), persistent=False)
        self.register_buffer("log_central", central_law(self.num_latents), persistent=False)
        self.register_buffer("log_choices", log_binomials(self.num_latents), persistent=False)
        self.register_buffer("sets", all_sets(self.num_latents).double(), persistent=False)

    def log_law(self) -> Tensor:
        """Log probability HG(k; omega) of each number of independent latents, [latents + 1].

        Fisher's law of weight omega is the central one tilted by omega^k.
        """
        return torch.log_softmax(torch.addcmul(self.log_central, self.sizes, self.log_weight), -1)

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
        own = torch.stack([mean, log_variance])
        shared = average(own, self.averaging)
        cost, gain = sharing(own, shared)
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
        # Nothing is shared, or one of the latents: [chosen, tried + 1, latents].
        averaged = torch.zeros(chosen, tried + 1, width, device=mean.device)
        averaged[:, 1:].scatter_(-1, latents.unsqueeze(-1), 1.0)
        latent_means = torch.lerp(mean[:, places].unsqueeze(2), shared[0, places].unsqueeze(1), averaged)
        images = context.images.unflatten(0, (2, -1))[:, places]  # [2, chosen, channels, height, width]
        logits = self.decode(latent_means.flatten(0, 2))
        repeated = images.unsqueeze(2).expand(-1, -1, tried + 1, -1, -1, -1).flatten(0, 2)
        losses = binary_cross_entropy_with_logits(logits, repeated, reduction="none").flatten(1).sum(-1)
        of_sets = losses.unflatten(0, (2, chosen, tried + 1)).sum(0)
        rows = cost[places].scatter(-1, latents, of_sets[:, 1:] - of_sets[:, :1])
        return cost.index_copy(0, places, rows) - gain

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        log_law = self.log_law()
        log_prior = log_law - self.log_choices  # of each single set, by its size
        mean, log_variance = mean.detach(), log_variance.detach()
        different = log_different(mean, log_variance, self.log_widths)
        log_odds = self.log_odds(mean, log_variance, context) + different.detach()
        posterior = subset_posterior(log_odds, log_prior.detach(), self.sets)
        if context.hard:
            posterior.require_possible()
        uniform = context.uniform
        if uniform is None:
            uniform = torch.rand(len(mean[0]), 1, generator=context.generator, device=mean.device, dtype=torch.float64)
        independent = self.sets.index_select(0, posterior.draw(uniform)).to(mean.dtype)
        of_counts = posterior.of_counts.to(mean.dtype)
        diagnostics = {
            "log_weight": self.log_weight.detach(),
            "law_count": log_law.detach().exp() @ self.sizes,
            # KL(q(S) || p(S)) = E_q[sum of the odds over S] - log evidence; the first term by one draw.
            "selection_divergence": ((independent * log_odds).sum(-1) - posterior.log_evidence).mean(),
        }
        of_prior = of_counts.mean(0) @ log_prior + (independent * different).sum() / len(independent)
        probability = (posterior.of_sets @ self.sets).to(mean.dtype) if context.hard else None
        return Choice(independent, independent.sum(-1), of_counts @ self.sizes, diagnostics, -of_prior, probability)

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        assert choice.loss is not None
        return super().loss(terms, choice) + choice.loss


def central_law(latents: int) -> Tensor:
    """Log probabilities of the numbers of independent latents in an urn of equal weights, [latents + 1]."""
    counts = torch.arange(latents + 1, dtype=torch.float64)
    law = MultivariateHypergeometric(latents, [latents, latents], weights=torch.ones(2, dtype=torch.float64))
    return law.log_prob(torch.stack([counts, latents - counts], -1)).float()


def sharing(own: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
    """What sharing a latent costs in reconstruction, to second order, and what it gains in divergence; in nats a pair.

    Where an encoder is at its bound's maximum, reconstruction has the slope ``mean`` there and, in each view, the
    curvature ``1 - 1 / variance``: the derivatives of the divergence, with which it is in balance.

    Args:
        own: means and log variances of the views' posteriors, [2, views, pairs, latents].
        shared: of their average, [2, pairs, latents].

    Returns:
        Cost and gain, each [pairs, latents]; cost less gain are the log odds of being independent.
    """
    means, log_variances = torch.cat([own, shared.unsqueeze(1)], 1).unbind(0)
    variances = log_variances.exp()
    mean, variance = means[:2], variances[:2]
    moved, spread = means[2] - mean, variances[2] - variance
    second = torch.addcmul(spread, moved, moved)  # of each view's cost, twice the negative curvature's factor
    cost = (0.5 * (second / variance - second) - mean * moved).sum(0)
    divergences = kl_to_prior(means, log_variances)
    return cost, divergences[0] + divergences[1] - divergences[2]


def log_different(mean: Tensor, log_variance: Tensor, log_widths: Tensor) -> Tensor:
    """What being different adds to the log odds of a latent's being independent, [pairs, latents].

    An independent latent has the prior N(z1; 0, 1) N(z2; 0, 1) [1 - exp(-(z1 - z2)^2 / (2 width^2))] / Z in the two
    views, and the posteriors of the views are tilted alike: log of the expectation of the bracket under them, less that
    under the prior (log Z). 0 for a latent that carries nothing, and for every latent at width 0.

    Args:
        mean: [2, pairs, latents], not differentiated.
        log_variance: the same shape, not differentiated.
        log_widths: [latents], differentiable once.
    """
    with torch.no_grad():
        squares = (2 * log_widths).exp()
        # Of the differences of the views, and in a last row under the prior.
        variance = torch.nn.functional.pad(log_variance.exp().sum(0), (0, 0, 0, 1), value=2.0)
        distance = torch.nn.functional.pad((mean[0] - mean[1]).square(), (0, 0, 0, 1))
        sum_of_both = squares + variance
        share = variance / squares
        scaled = distance / sum_of_both
        exponent = 0.5 * (torch.log1p(share) + scaled)
        exponent = exponent.clamp(min=torch.finfo(exponent.dtype).tiny)  # equal views without a variance: finite odds
        value = (-torch.expm1(-exponent)).log()
        slope = -torch.addcmul(variance, scaled, squares) / sum_of_both / torch.expm1(exponent)  # in the log width
        value, slope = (each[:-1] - each[-1] for each in (value, slope))
    return torch.addcmul(value, slope, log_widths - log_widths.detach())


class SubsetPosterior(NamedTuple):
    """Posterior over the set of independent latents, float64.

    Attributes:
        log_evidence: [pairs], log of the sum over all sets of prior times likelihood, relative to the likelihood of all
            latents being shared.
        of_sets: [pairs, 2^latents], probability of each of ``all_sets``.
        of_counts: [pairs, latents + 1], probability of each number of independent latents.
        log_odds: [pairs, latents].
    """

    log_evidence: Tensor
    of_sets: Tensor
    of_counts: Tensor
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
        """Places among ``all_sets`` of sets drawn from the posterior, int64 [pairs].

        Args:
            uniform: float64 [pairs, 1] in [0, 1).
        """
        cumulative = self.of_sets.cumsum(-1)
        place = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        return place.squeeze(-1).clamp(max=cumulative.shape[-1] - 1)


def all_sets(latents: int) -> Tensor:
    """Every set of latents, [2^latents, latents] of 0 and 1."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * latents).reshape(-1, latents)


def subset_posterior(log_odds: Tensor, log_prior: Tensor, sets: Tensor) -> SubsetPosterior:
    """The exact posterior when all sets of one size are equally likely beforehand, by enumeration.

    Args:
        log_odds: [pairs, latents], log likelihood ratio of each latent being independent to being shared.
        log_prior: [latents + 1], log probability of each single set by its size: log p(k) - log (d choose k).
        sets: ``all_sets`` of the latents, float64.

    Raises:
        ValueError: the prior is of another number of latents.
    """
    latents = log_odds.shape[-1]
    if len(log_prior) != latents + 1:
        raise ValueError(f"log_prior is of {len(log_prior) - 1} latents, the odds are of {latents}")
    sizes = sets.sum(-1).long()
    joint = torch.addmm(log_prior.double().index_select(0, sizes), log_odds.double(), sets.t())
    of_sets = joint.softmax(-1)
    of_counts = of_sets.new_zeros(len(joint), latents + 1).index_add(1, sizes, of_sets)
    return SubsetPosterior(torch.logsumexp(joint, -1), of_sets, of_counts, log_odds)
