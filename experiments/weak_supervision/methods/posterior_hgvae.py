"""PosteriorHGVAE: which latents are independent is a latent variable, whose prior the hypergeometric law gives.

Not of the paper. The number k of independent latents has the prior HG(k; omega) of an urn with d marbles of each kind;
given k, all sets of k latents are equally likely. The two values of a shared latent agree up to a correlation, those of
an independent one differ: they repel each other. Both have a likelihood in closed form, so the posterior over all sets
under this model of the values is exact, and omega, the correlations and the widths of the repulsion are fitted to the
values by empirical Bayes, again and again. Nothing is told of k. The derivation stands in docs/weak_supervision.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.settings import ExperimentError, PositiveInt, checked
from experiments.weak_supervision.group_vae import (
    RELAXATION,
    Choice,
    Context,
    GroupVAE,
    log_binomials,
)
from mvhg import MultivariateHypergeometric

_IMPOSSIBLE = -1e30  # a log weight whose exponential is 0 and whose sums stay finite
_MOST_LATENTS = 16  # 65,536 sets of a pair
_LEAST = 1e-30  # a squared width that a float divides by
# Of shared values, when training begins and when it ends: they have more than half of their variance in common.
_FIRST_LIMIT, _LAST_LIMIT = 0.05, 0.5
# Where every fit begins, and the training: logits of shares of the two limits.
_DISAGREEMENT, _WIDTH = -3.0, -2.3
_FIT_STEPS, _FIT_RATE = 100, 0.1  # of Adam
_AT_LIMIT = 0.98  # share of a limit from which on it counts as reached


class PosteriorHGVAE(GroupVAE):
    """Draws the set of independent latents from its posterior.

    Args:
        fit_every_steps: steps of training from one fit of omega, correlations and widths to the next; the first is made
            when ``annealing_steps`` are over, within which the relaxations of other methods settle.
        settings: of ``GroupVAE``; only the joint bound prices a shared latent once.
    """

    uniform_columns = 1
    fit_pairs = 512
    diagnostic_names = (
        "log_weight", "law_count", "selection_divergence", "correlations_at_limit", "widths_at_limit",
    )  # fmt: skip
    idle_settings = RELAXATION - {"training.annealing_steps"}
    log_weight: Tensor  # scalar, of independent marbles; shared ones have 0
    limit: Tensor  # scalar, of the disagreement
    disagreement: Tensor  # [latents], 1 - correlation of shared values
    square_width: Tensor  # [latents], of the repulsion of independent values
    sizes: Tensor  # [latents + 1]
    log_central: Tensor  # [latents + 1], log HG(k; 1)
    log_choices: Tensor  # [latents + 1], log (d choose k)
    sets: Tensor  # [2^latents, latents]

    @checked
    def __init__(self, *, fit_every_steps: PositiveInt = 100, **settings: Any) -> None:
        super().__init__(**settings)
        if self.num_latents > _MOST_LATENTS:
            raise ValueError(
                f"num_latents is {self.num_latents}, but the posterior enumerates all sets of latents: at most "
                f"{_MOST_LATENTS}"
            )
        self.fit_every_steps = fit_every_steps
        self.register_buffer("log_weight", torch.zeros(()))
        disagreement, square_width = scales(self._start(), _FIRST_LIMIT)
        self.register_buffer("limit", torch.tensor(_FIRST_LIMIT))
        self.register_buffer("disagreement", disagreement.float())
        self.register_buffer("square_width", square_width.float())
        self.register_buffer("sizes", torch.arange(self.num_latents + 1, dtype=torch.float64), persistent=False)
        self.register_buffer("log_central", central_law(self.num_latents), persistent=False)
        self.register_buffer("log_choices", log_binomials(self.num_latents), persistent=False)
        self.register_buffer("sets", all_sets(self.num_latents).double(), persistent=False)

    def _start(self) -> Tensor:
        return torch.tensor([_DISAGREEMENT, _WIDTH], dtype=torch.float64).unsqueeze(1).repeat(1, self.num_latents)

    def log_law(self, log_weight: Tensor | None = None) -> Tensor:
        """Log probability HG(k; omega) of each number of independent latents, float64 [latents + 1].

        Fisher's law of weight omega is the central one tilted by omega^k.
        """
        log_weight = self.log_weight if log_weight is None else log_weight
        return torch.log_softmax(torch.addcmul(self.log_central, self.sizes, log_weight.double()), -1)

    def fit(self, mean: Tensor, log_variance: Tensor, progress: float) -> None:
        """Sets omega, the correlations and the widths by the evidence of some pairs, which is maximised anew.

        Every fit takes the same steps of Adam from the same start: values agree and repel each other almost at a point.
        The limit of how far shared values disagree rises exponentially in the course of training.

        Args:
            mean: of the views' posteriors, [2, pairs, latents].
            log_variance: the same shape.
            progress: share of the training that is done.

        Raises:
            ValueError: the evidence has no finite maximum.
        """
        mean, variance = mean.detach().double(), log_variance.detach().double().clamp(max=0).exp()
        log_weight = mean.new_zeros(()).requires_grad_()
        logits = self._start().to(mean.device).requires_grad_()
        limit = _FIRST_LIMIT * (_LAST_LIMIT / _FIRST_LIMIT) ** progress
        optimizer = torch.optim.Adam([log_weight, logits], lr=_FIT_RATE)
        with torch.enable_grad():
            for _ in range(_FIT_STEPS):
                loss = -self.log_evidence(mean, variance, log_weight, logits, limit).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        disagreement, square_width = scales(logits.detach(), limit)
        if not torch.cat([disagreement, square_width, log_weight.detach().unsqueeze(0)]).isfinite().all():
            raise ValueError("the fit of the prior of PosteriorHGVAE to the latents' values is not finite")
        self.limit.fill_(limit)
        self.log_weight.copy_(log_weight.detach())
        self.disagreement.copy_(disagreement)
        self.square_width.copy_(square_width)

    def log_evidence(self, mean: Tensor, variance: Tensor, log_weight: Tensor, logits: Tensor, limit: float) -> Tensor:
        """Log likelihood ratio of the two views to independent values, summed over all sets, [pairs]."""
        disagreement, square_width = scales(logits, limit)
        agreeing = log_agreeing(mean, variance, disagreement)
        log_odds = log_different(mean, variance, square_width) - agreeing
        return log_sum_over_sets(log_odds, self.log_law(log_weight) - self.log_choices) + agreeing.sum(-1)

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        log_law = self.log_law()
        mean, variance = mean.detach(), log_variance.detach().clamp(max=0).exp()  # of at most the prior's
        different = log_different(mean, variance, self.square_width)
        log_odds = different - log_agreeing(mean, variance, self.disagreement)
        posterior = subset_posterior(log_odds, log_law - self.log_choices, self.sets)
        if context.hard:
            posterior.require_possible()
        uniform = context.uniform
        if uniform is None:
            uniform = torch.rand(len(mean[0]), 1, generator=context.generator, device=mean.device, dtype=torch.float64)
        chosen = self.sets.index_select(0, posterior.draw(uniform))
        diagnostics = {
            "log_weight": self.log_weight,
            "law_count": log_law.exp() @ self.sizes,
            # KL(q(S) || p(S)) = E_q[sum of the odds over S] - log evidence; the first term by one draw.
            "selection_divergence": ((chosen * log_odds).sum(-1) - posterior.log_evidence).mean(),
            "correlations_at_limit": (self.disagreement > _AT_LIMIT * self.limit).sum(dtype=mean.dtype),
            "widths_at_limit": (self.square_width > 2 * _AT_LIMIT**2 * self.disagreement).sum(dtype=mean.dtype),
        }
        independent, probability = (value.to(mean.dtype) for value in (chosen, posterior.of_sets @ self.sets))
        expected = (posterior.of_counts @ self.sizes).to(mean.dtype)
        return Choice(independent, independent.sum(-1), expected, diagnostics, probability=probability)


def scales(logits: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """How far the two values of a latent are apart under the prior, see the documentation.

    Args:
        logits: of the shares of the two limits, [2, latents].
        limit: of the disagreement.

    Returns:
        1 - correlation of shared values, their disagreement; and the squared width of the repulsion, at most as wide as
        shared values scatter, 2 (1 - correlation). Each [latents]. The width's limit follows the correlation and does
        not move it.
    """
    disagreement, width = logits.sigmoid()
    disagreement = limit * disagreement
    return disagreement, 2 * disagreement.detach() * width.square()


def central_law(latents: int) -> Tensor:
    """Log probabilities of the numbers of independent latents in an urn of equal weights, [latents + 1]."""
    counts = torch.arange(latents + 1, dtype=torch.float64)
    law = MultivariateHypergeometric(latents, [latents, latents], weights=torch.ones(2, dtype=torch.float64))
    return law.log_prob(torch.stack([counts, latents - counts], -1))


def log_agreeing(mean: Tensor, variance: Tensor, disagreement: Tensor) -> Tensor:
    """Log likelihood ratio of the two views for values that are correlated to independent ones, [pairs, latents].

    A view's likelihood is what its encoder found beyond the prior, N(mean, variance) / N(0, 1). 0 for a latent of which
    one view says nothing, mean 0 and variance 1, and as the correlation goes to 0.

    Args:
        mean: of the views' posteriors, [2, pairs, latents].
        variance: of the views' posteriors, at most 1, the same shape.
        disagreement: 1 - correlation, [latents].
    """
    correlation, squares = 1 - disagreement, mean.square()
    # 1 - correlation (1 - variance), so that no difference of two numbers near 1 is left.
    first, second = torch.addcmul(disagreement, correlation, variance)
    left = torch.addcmul(first + second, first, second, value=-1)  # 1 less the squared correlation of the views
    scaled = torch.addcmul(squares[0] * second - (mean[0] - mean[1]).square(), squares[1], first)
    return 0.5 * (scaled * correlation / left - left.log())


def log_different(mean: Tensor, variance: Tensor, square_width: Tensor) -> Tensor:
    """Log likelihood ratio of the two views for values that repel each other to independent ones, [pairs, latents].

    An independent latent has the prior N(z1; 0, 1) N(z2; 0, 1) [1 - exp(-(z1 - z2)^2 / (2 width^2))] / Z: log of the
    expectation of the bracket under the views' posteriors, less that under the prior (log Z). 0 for a latent of which
    the views say nothing, and for every latent as the width goes to 0.

    Args:
        mean: of the views' posteriors, [2, pairs, latents].
        variance: of the views' posteriors, the same shape.
        square_width: [latents].
    """
    # Of the differences of the views, and in a last row under the prior.
    spread = torch.nn.functional.pad(variance.sum(0), (0, 0, 0, 1), value=2.0)
    distance = torch.nn.functional.pad((mean[0] - mean[1]).square(), (0, 0, 0, 1))
    square = square_width.clamp(min=_LEAST)
    exponent = -0.5 * (torch.log1p(spread / square) + distance / (spread + square))
    # Equal views without a variance have finite odds.
    value = (-torch.expm1(exponent).clamp(max=-torch.finfo(exponent.dtype).tiny)).log()
    return value[:-1] - value[-1]


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


def log_sum_over_sets(log_odds: Tensor, log_prior: Tensor) -> Tensor:
    """Log evidence as of ``subset_posterior``, without enumeration: by the law of a sum of independent Bernoullis.

    Args:
        log_odds: [pairs, latents].
        log_prior: [latents + 1], log probability of each single set by its size.

    Returns:
        [pairs].
    """
    law = torch.ones_like(log_odds[:, :1])
    for odds in log_odds.unsqueeze(-1).unbind(1):  # law [pairs, latents so far + 1]
        law = torch.nn.functional.pad(law * (-odds).sigmoid(), (0, 1)) + torch.nn.functional.pad(
            law * odds.sigmoid(), (1, 0)
        )
    log_law = law.clamp(min=torch.finfo(law.dtype).tiny).log()
    return torch.nn.functional.softplus(log_odds).sum(-1) + torch.logsumexp(log_prior + log_law, -1)


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
