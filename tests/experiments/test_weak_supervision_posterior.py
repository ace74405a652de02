"""PosteriorHGVAE: posteriors against enumeration of all sets, odds against torch's normal laws and quadrature."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from experiments.settings import ExperimentError
from experiments.weak_supervision.group_vae import Context
from experiments.weak_supervision.methods import posterior_hgvae
from experiments.weak_supervision.methods.posterior_hgvae import (
    PosteriorHGVAE,
    SubsetPosterior,
    all_sets,
    log_agreeing,
    log_different,
    log_sum_over_sets,
    scales,
    subset_posterior,
)
from mvhg import MultivariateHypergeometric

SETTINGS: dict[str, Any] = {"num_latents": 5, "image_size": 32, "objective": "joint"}
PAIRS = 6


def model_with(log_weight: float = 0.0, **settings: Any) -> PosteriorHGVAE:
    torch.manual_seed(0)
    model = PosteriorHGVAE(**SETTINGS | settings)
    torch.nn.init.constant_(model.log_weight, log_weight)
    return model


def context(pairs: int = PAIRS, hard: bool = False) -> Context:
    return Context(torch.zeros(pairs).long(), torch.tensor(1.0), torch.Generator().manual_seed(0), hard)


def posteriors(pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    """Means and variances, [2, pairs, 5]."""
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(2, pairs, 5, generator=generator, dtype=torch.float64)
    return mean, torch.rand(2, pairs, 5, generator=generator, dtype=torch.float64).sub(2.5).exp()


def log_prior_of(model: PosteriorHGVAE) -> Tensor:
    """Log probability of each single set of independent latents by its size, [latents + 1]."""
    return model.log_law() - model.log_choices


def posterior_of(log_odds: Tensor, log_prior: Tensor) -> SubsetPosterior:
    return subset_posterior(log_odds, log_prior, all_sets(log_odds.shape[-1]).double())


def enumerated(log_odds: np.ndarray, log_weight: float) -> dict[tuple[int, ...], float]:
    """Prior times likelihood of every set: p(k) ~ C(d, k) C(d, d - k) w^k, sets of a size equally likely."""
    size = len(log_odds)
    numbers = [Fraction(math.comb(size, k) * math.comb(size, size - k)) for k in range(size + 1)]
    prior = np.array([float(number) * math.exp(log_weight * k) for k, number in enumerate(numbers)])
    prior /= prior.sum()
    return {
        chosen: prior[sum(chosen)] / math.comb(size, sum(chosen)) * math.exp(float(np.dot(chosen, log_odds)))
        for chosen in itertools.product((0, 1), repeat=size)
    }


@pytest.mark.parametrize("log_weight", [-1.5, 0.0, 2.0])
def test_posterior_is_that_of_enumeration(log_weight: float) -> None:
    log_odds = np.array([3.0, -2.0, 0.0, -0.5, 1.0])
    joint = enumerated(log_odds, log_weight)
    evidence = sum(joint.values())
    model = model_with(log_weight)
    posterior = posterior_of(torch.tensor(log_odds, dtype=torch.float32)[None], log_prior_of(model))
    assert posterior.log_evidence.item() == pytest.approx(math.log(evidence), abs=1e-4)
    by_count = np.zeros(6)
    for chosen, probability in joint.items():
        by_count[sum(chosen)] += probability / evidence
    np.testing.assert_allclose(posterior.of_counts[0].detach().numpy(), by_count, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0, 900.0])
def test_the_evidence_without_enumeration_is_that_with_it(scale: float) -> None:
    """Odds beyond exp(900) as well, where products of probabilities underflow; the slopes are finite there."""
    log_odds = scale * torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_odds.requires_grad_()
    log_prior = log_prior_of(model_with(0.7))
    found, wanted = log_sum_over_sets(log_odds, log_prior), posterior_of(log_odds, log_prior)
    torch.testing.assert_close(found, wanted.log_evidence)
    (slope,) = torch.autograd.grad(
        found.sum(), log_odds
    )  # d log evidence / d odds: the probability of being in the set
    torch.testing.assert_close(slope, wanted.of_sets @ all_sets(5).double())


@pytest.mark.parametrize("log_weight", [-9.0, 0.0, 2.5])
def test_numbers_of_latents_follow_mvhgs_law(log_weight: float) -> None:
    model, counts = model_with(log_weight), torch.arange(6.0)
    law = MultivariateHypergeometric(5, [5, 5], log_weights=torch.tensor([log_weight, 0.0]))
    exact = law.log_prob(torch.stack([counts, 5 - counts], -1))
    torch.testing.assert_close(model.log_law().float(), exact)


def test_sets_of_one_size_follow_mvhgs_law_of_single_marbles() -> None:
    """The conditional Bernoulli law is the urn with one marble a group: its constant by the library's log_prob."""
    log_odds = torch.tensor([[3.0, -2.0, 0.0, -0.5, 1.0]], dtype=torch.float64)
    posterior = posterior_of(log_odds, torch.zeros(6, dtype=torch.float64))
    for size in range(6):
        chosen = (torch.arange(5) < size).double()
        law = MultivariateHypergeometric(size, [1] * 5, log_weights=log_odds[0])
        constant = (chosen * log_odds[0]).sum() - law.log_prob(chosen)
        assert posterior.of_counts[0, size].log() + posterior.log_evidence[0] == pytest.approx(
            constant.item(), abs=1e-9
        )


def test_latents_that_say_nothing_are_summed_out() -> None:
    """Two latents without odds beside three leave the posterior over the three as that of the law's marginal."""
    log_odds = np.array([2.0, -1.0, 0.5])
    joint: dict[tuple[int, ...], float] = {}  # of the three: the law's marginal times their likelihood
    for chosen, probability in enumerated(np.zeros(5), 0.7).items():
        joint[chosen[:3]] = joint.get(chosen[:3], 0.0) + probability
    joint = {chosen: value * math.exp(float(np.dot(chosen, log_odds))) for chosen, value in joint.items()}
    posterior = posterior_of(torch.tensor([[2.0, -1.0, 0.5, 0.0, 0.0]]), log_prior_of(model_with(0.7)))
    assert posterior.log_evidence.item() == pytest.approx(math.log(sum(joint.values())), abs=1e-5)
    for chosen, value in joint.items():
        same = (all_sets(5)[:, :3] == torch.tensor(chosen)).all(-1)
        assert posterior.of_sets[0, same].sum().item() == pytest.approx(value / sum(joint.values()), abs=1e-5)


def test_draws_follow_the_posterior() -> None:
    """Chi-square over all 32 sets, 40,000 draws, failure rate 1e-4: a set's probability off by 0.02 fails."""
    log_odds, draws = np.array([1.0, -1.0, 0.0, -0.5, 0.5]), 40_000
    joint = enumerated(log_odds, 0.7)
    model = model_with(0.7)
    repeated = torch.tensor(log_odds, dtype=torch.float32).expand(draws, 5)
    posterior = posterior_of(repeated, log_prior_of(model).detach())
    drawn = all_sets(5)[
        posterior.draw(torch.rand(draws, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    ]
    codes = (drawn.long() * 2 ** torch.arange(4, -1, -1)).sum(-1)
    observed = torch.bincount(codes, minlength=32).numpy()
    expected = np.array(list(joint.values())) / sum(joint.values()) * draws
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_the_row_trains_on_the_bound_that_prices_a_shared_latent_once() -> None:
    row = OmegaConf.load("configs/method/posterior_hgvae.yaml")
    assert row.experiment.model.objective == SETTINGS["objective"]


@pytest.mark.parametrize("disagreement", [0.88, 0.27, 0.0025])
def test_agreeing_is_the_ratio_of_torchs_normal_laws(disagreement: float) -> None:
    """Two values with a correlated prior or with independent ones, and as likelihoods what is beyond N(0, 1)."""
    mean, variance = posteriors(1)
    log_odds = log_agreeing(mean, variance, torch.full((5,), disagreement, dtype=torch.float64))
    grid = torch.linspace(-7, 7, 2801, dtype=torch.float64)
    covariance = torch.tensor([[1, 1 - disagreement], [1 - disagreement, 1]], dtype=torch.float64)
    prior = MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)
    points = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1)
    of_ratio = prior.log_prob(points) - Normal(0, 1).log_prob(points).sum(-1)
    for latent in range(5):
        first, second = Normal(mean[:, 0, latent], variance[:, 0, latent].sqrt()).log_prob(grid[:, None]).unbind(-1)
        ratio = torch.logsumexp((of_ratio + first[:, None] + second).flatten(), 0) + 2 * (grid[1] - grid[0]).log()
        assert log_odds[0, latent].item() == pytest.approx(ratio.item(), abs=1e-3)


def test_what_says_nothing_of_agreement() -> None:
    mean, variance = posteriors()
    of_first = (
        torch.tensor([1.0, 0.0]).double()[:, None, None] * mean,
        variance.clone().index_fill(0, torch.tensor(1), 1),
    )
    assert log_agreeing(*of_first, torch.full((5,), 0.1).double()).abs().max() < 1e-12  # the prior in the second view
    uncorrelated = torch.full((5,), 1 - 1e-9, dtype=torch.float64)
    assert log_agreeing(mean, variance, uncorrelated).abs().max() < 1e-7
    prior = log_agreeing(torch.zeros(2, 1, 5), torch.ones(2, 1, 5), torch.full((5,), 0.1))
    assert prior.abs().max() < 1e-6  # two posteriors that are the prior


def test_single_precision_is_enough_where_values_agree() -> None:
    """Both differences of numbers near 1 are gone: standard deviations of 0.001, correlations within 1e-6 of 1."""
    mean = torch.tensor([[1.0, -0.7, 2.0, 0.1, 1.5], [1.001, -0.7, 1.999, 0.1, 1.4999]])[:, None]
    variance, disagreement = torch.full((2, 1, 5), 1e-6), torch.tensor([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
    exact = log_agreeing(mean.double(), variance.double(), disagreement.double())
    torch.testing.assert_close(log_agreeing(mean, variance, disagreement).double(), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("width", [0.05, 0.4, 3.0])
def test_being_different_is_that_of_quadrature(width: float) -> None:
    """E[1 - exp(-(z1 - z2)^2 / (2 width^2))] under the posteriors and under the prior, on a grid of z1 and z2."""
    mean = torch.tensor([[0.3, -1.2, 0.0], [0.35, 0.9, 0.0]], dtype=torch.float64)
    deviations = torch.tensor([[0.2, 0.3, 1.0], [0.1, 0.5, 1.0]], dtype=torch.float64)
    found = log_different(mean[:, None], deviations.square()[:, None], torch.full((3,), width**2, dtype=torch.float64))
    grid = np.linspace(-8, 8, 2401)
    bracket = -np.expm1(-0.5 * (grid[:, None] - grid) ** 2 / width**2)

    def expected(centres: Tensor, scales: Tensor) -> float:
        first, second = (stats.norm.pdf(grid, *of) for of in zip(centres.tolist(), scales.tolist()))
        return math.log(first @ bracket @ second * (grid[1] - grid[0]) ** 2)

    prior = expected(torch.zeros(2), torch.ones(2))
    for latent in range(3):
        wanted = expected(mean[:, latent], deviations[:, latent]) - prior
        assert found[0, latent].item() == pytest.approx(wanted, abs=1e-5)
    assert found[0, 0] < found[0, 2] == 0 < found[0, 1]  # the same value, nothing, different values
    point = log_different(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), torch.tensor([width**2]))
    assert -100 < point.item() < -80  # equal beyond doubt, and a number


@pytest.mark.parametrize("function", [log_different, log_agreeing])
def test_the_slope_in_widths_and_correlations_is_the_finite_difference(function: Callable[..., Tensor]) -> None:
    mean, variance = posteriors()
    learned = torch.tensor([0.003, 0.05, 0.2, 0.4, 0.9], dtype=torch.float64, requires_grad=True)
    step = 1e-6

    def at(factor: float) -> Tensor:
        return function(mean, variance, learned.detach() * factor)

    (slope,) = torch.autograd.grad(function(mean, variance, learned).sum(), learned)
    differences = (at(1 + step) - at(1 - step)) / (2 * step)
    torch.testing.assert_close(slope * learned.detach(), differences.sum(0), rtol=1e-6, atol=1e-6)


def test_shared_values_agree_and_the_repulsion_is_no_wider_than_they_scatter() -> None:
    for disagreement_logit, width_logit in itertools.product((-12.0, 0.0, 12.0), repeat=2):
        logits = torch.tensor([[disagreement_logit], [width_logit]]).repeat(1, 5).requires_grad_()
        disagreement, square_width = scales(logits, 0.1)
        assert ((disagreement > 0) & (disagreement <= 0.1)).all()
        assert ((square_width > 0) & (square_width <= 2 * disagreement)).all()
    torch.testing.assert_close(disagreement, torch.full((5,), 0.1))  # the last: both limits are reached
    torch.testing.assert_close(square_width, torch.full((5,), 0.2), rtol=1e-4, atol=0)
    (gradient,) = torch.autograd.grad(square_width.sum(), logits)
    assert (gradient[0] == 0).all() and (gradient[1] > 0).all()


def test_variances_above_the_prior_s_count_as_its() -> None:
    """A likelihood of more than the prior's variance is no density."""
    model, (mean, variance) = model_with(), (values.float() for values in posteriors())
    wide, prior = (model.choose(mean, torch.full_like(variance, value).log(), context()) for value in (9.0, 1.0))
    torch.testing.assert_close(wide.expected_count, prior.expected_count)


@pytest.mark.parametrize("disagreement", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("width", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("variance", [1e-8, 1e-3, 1.0])
def test_odds_and_slopes_stay_finite(disagreement: float, width: float, variance: float) -> None:
    model = model_with()
    mean = torch.tensor([[0.0, 8.0, -8.0, 1.0, 1.0], [0.0, 8.0, 8.0, 1.001, -1.0]])[:, None].double()
    logits = torch.tensor([[disagreement], [width]]).double().repeat(1, 5).requires_grad_()
    log_weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    evidence = model.log_evidence(mean, torch.full_like(mean, variance), log_weight, logits, 0.5)
    for gradient in torch.autograd.grad(evidence.sum(), [log_weight, logits]):
        assert gradient.isfinite().all()
    model.disagreement, model.square_width = (each.detach().float() for each in scales(logits, 0.5))
    model.choose(mean.float(), torch.full_like(mean, variance).float().log(), context(1, hard=True))


def test_the_weight_follows_the_evidence() -> None:
    """Its gradient is E[k] of the posterior less that of the law."""
    model, (mean, variance) = model_with(0.4), posteriors()
    choice = model.choose(mean, variance.log(), context())
    log_weight = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    evidence = model.log_evidence(mean, variance, log_weight, model._start(), 0.05)
    (gradient,) = torch.autograd.grad(evidence.mean(), log_weight)
    wanted = choice.expected_count.mean() - choice.diagnostics["law_count"]
    assert gradient.item() == pytest.approx(wanted.item(), abs=1e-4)


@pytest.mark.parametrize(("gain", "wanted"), [(5.0, 0.5034), (2.0, 0.5783), (1.0, 0.7910), (0.5, 1.0)])
def test_the_fixed_point_of_the_weight_counts_coincidences(gain: float, wanted: float) -> None:
    """A latent, independent beyond doubt in half of the pairs, that earns ``gain`` in the others: 0.5 / (1 - e^-gain).

    What the documentation says of the law without repulsion; below a gain of log 2 all pairs are taken as independent.
    """
    model = model_with(num_latents=1)
    log_odds = torch.tensor([[50.0], [-gain]])
    for _ in range(100):  # posterior, then the weight whose law has its mean
        count = posterior_of(log_odds, log_prior_of(model).detach()).of_counts[:, 1].mean()
        torch.nn.init.constant_(model.log_weight, float(torch.logit(count.double(), eps=1e-6)))
    assert count.item() == pytest.approx(wanted, abs=2e-3)


def test_the_reported_divergence_is_that_of_the_drawn_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """E_q[log q(S) - log p(S)] by enumeration, the report by 4,000 draws: five standard errors."""
    log_odds, log_weight, draws = np.array([1.0, -1.0, 0.0, -0.5, 0.5]), 0.7, 4_000
    joint, prior = enumerated(log_odds, log_weight), enumerated(np.zeros(5), log_weight)
    total = sum(joint.values())
    ratios = {chosen: math.log(value / total / prior[chosen]) for chosen, value in joint.items()}
    exact = sum(joint[chosen] / total * ratios[chosen] for chosen in joint)
    error = math.sqrt(sum(joint[chosen] / total * (ratios[chosen] - exact) ** 2 for chosen in joint) / draws)
    model = model_with(log_weight)
    given = torch.tensor(log_odds, dtype=torch.float32).expand(draws, 5)
    monkeypatch.setattr(posterior_hgvae, "log_different", lambda *_: given)
    monkeypatch.setattr(posterior_hgvae, "log_agreeing", lambda *_: torch.zeros(draws, 5))
    choice = model.choose(torch.zeros(2, draws, 5), torch.zeros(2, draws, 5), context(1))
    assert choice.diagnostics["selection_divergence"].item() == pytest.approx(exact, abs=5 * error)


def test_it_says_how_many_limits_are_reached() -> None:
    """By the correlations and the widths themselves: two near 0.9, and three near sqrt(2 (1 - correlation))."""
    model = model_with()
    model.limit.fill_(0.1)
    model.disagreement = torch.tensor([0.01, 0.05, 0.0979, 0.0981, 0.1])
    model.square_width = 2 * model.disagreement * torch.tensor([0.97, 0.981, 0.99, 1.0, 0.1]).square()
    diagnostics = model.choose(*torch.zeros(2, 2, 4, 5), context()).diagnostics
    assert diagnostics["correlations_at_limit"] == 2
    assert diagnostics["widths_at_limit"] == 3


@pytest.mark.parametrize("shared", [1, 3])
def test_empirical_bayes_finds_how_many_latents_differ(shared: int) -> None:
    """Values made by hand, of five latents that agree up to 0.1 in ``shared`` places and repel each other elsewhere.

    Seed 0, 500 pairs.
    """
    model, generator, pairs = model_with(), torch.Generator().manual_seed(0), 500
    differ = torch.rand(pairs, 5, generator=generator).argsort(-1) >= shared
    first, second = torch.empty(2, pairs, 5)
    near = torch.ones(pairs, 5, dtype=torch.bool)
    while near.any():  # refused with probability exp(-(z1 - z2)^2 / (2 0.12^2))
        first, second = torch.where(near, torch.randn(2, pairs, 5, generator=generator), torch.stack([first, second]))
        refused = torch.rand(pairs, 5, generator=generator) < (-0.5 * ((first - second) / 0.12).square()).exp()
        near &= refused
    second = torch.where(differ, second, first + 0.1 * torch.randn(pairs, 5, generator=generator))
    mean, log_variance = torch.stack([first, second]), torch.full((2, pairs, 5), 2 * math.log(0.03))
    model.fit(mean, log_variance, 1.0)
    again = [value.clone() for value in (model.log_weight, model.disagreement, model.square_width)]
    model.fit(mean, log_variance, 1.0)
    assert all(map(torch.equal, again, (model.log_weight, model.disagreement, model.square_width))), "begins anew"
    choice = model.choose(mean, log_variance, context(hard=True))
    assert choice.expected_count.mean().item() == pytest.approx(5 - shared, abs=0.15)
    assert choice.probability is not None
    assert ((choice.probability > 0.5) == differ).float().mean() > 0.95


def test_values_that_are_no_numbers_are_not_fitted() -> None:
    model, (mean, variance) = model_with(), posteriors()
    before = model.disagreement.clone()
    with pytest.raises(ValueError, match="the fit of the prior of PosteriorHGVAE .* is not finite"):
        model.fit(mean.index_fill(1, torch.tensor(2), math.nan), variance.log(), 1.0)
    assert torch.equal(model.disagreement, before)


def test_an_impossible_pair_and_a_wrong_urn_are_named() -> None:
    log_odds = torch.zeros(3, 5)
    log_odds[1, 2] = math.nan
    with pytest.raises(ExperimentError, match=r"pair 1 of the batch.*nan"):
        posterior_of(log_odds, torch.zeros(6)).require_possible()
    with pytest.raises(ExperimentError, match="pair 0 of the batch"):
        posterior_of(torch.zeros(1, 5), torch.full((6,), -math.inf)).require_possible()
    posterior_of(torch.zeros(1, 5), torch.zeros(6)).require_possible()
    with pytest.raises(ValueError, match="log_prior is of 4 latents, the odds are of 5"):
        posterior_of(torch.zeros(1, 5), torch.zeros(5))


@pytest.mark.parametrize("change", [{"num_latents": 17}, {"fit_every_steps": 0}, {"fit_every_steps": 1.5}])
def test_bad_settings_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        PosteriorHGVAE(**SETTINGS | change)
