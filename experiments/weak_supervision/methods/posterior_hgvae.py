"""PosteriorHGVAE: which latents are independent is a latent variable, whose prior the hypergeometric law gives.

Not of the paper. The number k of independent latents has the prior HG(k; omega) of an urn with d marbles of each kind;
given k, all sets of k latents are equally likely. The two values of a shared latent agree up to a correlation, those of
an independent one differ: they repel each other. Both have a likelihood in closed form, so the posterior over all sets
under this model of the values is exact, and omega, the correlations and the widths of the repulsion follow by empirical
Bayes. Nothing is told of k. The derivation stands in docs/weak_supervision.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.settings import ExperimentError, Positive
from experiments.weak_supervision.group_vae import (
    RELAXATION,
    Choice,
    Context,
    GroupVAE,
    Terms,
    checked,
    log_binomials,
)
from mvhg import MultivariateHypergeometric

_IMPOSSIBLE = -1e30  # a log weight whose exponential is 0 and whose sums stay finite
_MOST_LATENTS = 16  # 65,536 sets of a pair
_LEAST = 1e-30  # a squared width that a float divides by
# Before training shared values agree up to a correlation of 0.98, and independent ones repel each other at 0.02.
_DISAGREEMENT, _WIDTH = -3.0, -2.3
_AT_LIMIT = math.log(0.98 / 0.02)  # a logit: 2 % off, a correlation of 0.51


class PosteriorHGVAE(GroupVAE):
    """Draws the set of independent latents from its posterior.

    Args:
        weight_learning_rate_factor: of the log weight's learning rate on the training's.
        width_learning_rate_factor: of the widths' and the correlations', which cross several octaves in a training.
        settings: of ``GroupVAE``; only the joint bound prices a shared latent once.
    """

    uniform_columns = 1
    diagnostic_names = (
        "log_weight", "law_count", "selection_divergence", "correlations_at_limit", "widths_at_limit",
    )  # fmt: skip
    idle_settings = RELAXATION
    sizes: Tensor  # [latents + 1]
    log_central: Tensor  # [latents + 1], log HG(k; 1)
    log_choices: Tensor  # [latents + 1], log (d choose k)
    sets: Tensor  # [2^latents, latents]

    @checked
    def __init__(
        self,
        *,
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
        self.weight_learning_rate_factor = weight_learning_rate_factor
        self.width_learning_rate_factor = width_learning_rate_factor
        self.log_weight = nn.Parameter(torch.zeros(()))  # of independent marbles; shared ones have 0
        self.disagreement_logits = nn.Parameter(torch.full((self.num_latents,), _DISAGREEMENT))
        self.width_logits = nn.Parameter(torch.full((self.num_latents,), _WIDTH))
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
            {
                "params": [self.disagreement_logits, self.width_logits],
                "learning_rate_factor": self.width_learning_rate_factor,
            },
        ]

    def scales(self) -> tuple[Tensor, Tensor]:
        """How far the two values of a latent are apart under the prior, see the documentation.

        Returns:
            1 - correlation of shared values, at most 0.5: no less of their variance is common than not; and the squared
            width of the repulsion, at most as wide as shared values scatter, 2 (1 - correlation). Each [latents].
            The width's limit follows the correlation and does not move it.
        """
        disagreement = 0.5 * self.disagreement_logits.sigmoid()
        return disagreement, 2 * disagreement.detach() * self.width_logits.sigmoid().square()

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        log_law = self.log_law()
        log_prior = log_law - self.log_choices  # of each single set, by its size
        mean, variance = mean.detach(), log_variance.detach().clamp(max=0).exp()  # of at most the prior's
        disagreement, square_width = self.scales()
        different = log_different(mean, variance, square_width)
        agreeing = log_agreeing(mean, variance, disagreement)
        log_odds = (different - agreeing).detach()
        posterior = subset_posterior(log_odds, log_prior.detach(), self.sets)
        if context.hard:
            posterior.require_possible()
        uniform = context.uniform
        if uniform is None:
            uniform = torch.rand(len(mean[0]), 1, generator=context.generator, device=mean.device, dtype=torch.float64)
        independent = self.sets.index_select(0, posterior.draw(uniform)).to(mean.dtype)
        probability = (posterior.of_sets @ self.sets).to(mean.dtype)
        of_counts = posterior.of_counts.to(mean.dtype)
        diagnostics = {
            "log_weight": self.log_weight.detach(),
            "law_count": log_law.detach().exp() @ self.sizes,
            # KL(q(S) || p(S)) = E_q[sum of the odds over S] - log evidence; the first term by one draw.
            "selection_divergence": ((independent.double() * log_odds).sum(-1) - posterior.log_evidence).mean(),
            "correlations_at_limit": (self.disagreement_logits.detach() > _AT_LIMIT).sum(dtype=log_law.dtype),
            "widths_at_limit": (self.width_logits.detach() > _AT_LIMIT).sum(dtype=log_law.dtype),
        }
        of_latents = torch.lerp(agreeing, different, probability).sum() / len(probability)
        loss = -(of_counts.mean(0) @ log_prior + of_latents)
        return Choice(independent, independent.sum(-1), of_counts @ self.sizes, diagnostics, loss, probability)

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        assert choice.loss is not None
        return super().loss(terms, choice) + choice.loss


def central_law(latents: int) -> Tensor:
    """Log probabilities of the numbers of independent latents in an urn of equal weights, [latents + 1]."""
    counts = torch.arange(latents + 1, dtype=torch.float64)
    law = MultivariateHypergeometric(latents, [latents, latents], weights=torch.ones(2, dtype=torch.float64))
    return law.log_prob(torch.stack([counts, latents - counts], -1)).float()


def log_agreeing(mean: Tensor, variance: Tensor, disagreement: Tensor) -> Tensor:
    """Log likelihood ratio of the two views for values that are correlated to independent ones, [pairs, latents].

    A view's likelihood is what its encoder found beyond the prior, N(mean, variance) / N(0, 1). 0 for a latent of which
    one view says nothing, mean 0 and variance 1, and as the correlation goes to 0.

    Args:
        mean: of the views' posteriors, [2, pairs, latents], not differentiated.
        variance: of the views' posteriors, at most 1, the same shape, not differentiated.
        disagreement: 1 - correlation, [latents], differentiable once.
    """
    with torch.no_grad():
        correlation, squares = 1 - disagreement, mean.square()
        # 1 - correlation (1 - variance), so that no difference of two numbers near 1 is left.
        first, second = torch.addcmul(disagreement, correlation, variance)
        left = torch.addcmul(first + second, first, second, value=-1)  # 1 less the squared correlation of the views
        scaled = torch.addcmul(squares[0] * second - (mean[0] - mean[1]).square(), squares[1], first)
        scaled = scaled * correlation / left
        value = 0.5 * (scaled - left.log())
        slope = (correlation * mean[0] * mean[1] - scaled - 1 + left) / (correlation * left)
    return torch.addcmul(value, slope, disagreement - disagreement.detach())


def log_different(mean: Tensor, variance: Tensor, square_width: Tensor) -> Tensor:
    """Log likelihood ratio of the two views for values that repel each other to independent ones, [pairs, latents].

    An independent latent has the prior N(z1; 0, 1) N(z2; 0, 1) [1 - exp(-(z1 - z2)^2 / (2 width^2))] / Z: log of the
    expectation of the bracket under the views' posteriors, less that under the prior (log Z). 0 for a latent of which
    the views say nothing, and for every latent as the width goes to 0.

    Args:
        mean: of the views' posteriors, [2, pairs, latents], not differentiated.
        variance: of the views' posteriors, the same shape, not differentiated.
        square_width: [latents], differentiable once.
    """
    with torch.no_grad():
        # Of the differences of the views, and in a last row under the prior.
        spread = torch.nn.functional.pad(variance.sum(0), (0, 0, 0, 1), value=2.0)
        distance = torch.nn.functional.pad((mean[0] - mean[1]).square(), (0, 0, 0, 1))
        square = square_width.clamp(min=_LEAST)
        both, share = spread + square, spread / square
        distance = distance / both
        exponent = -0.5 * (torch.log1p(share) + distance)
        # Equal views without a variance have finite odds.
        bracket = torch.expm1(exponent).clamp(max=-torch.finfo(exponent.dtype).tiny)
        slope = 0.5 * (share + distance) / both * (1 + 1 / bracket)
        value = (-bracket).log()
        value, slope = (each[:-1] - each[-1] for each in (value, slope))
    return torch.addcmul(value, slope, square_width - square_width.detach())


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
