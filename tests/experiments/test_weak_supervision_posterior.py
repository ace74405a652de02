"""PosteriorHGVAE: posteriors against enumeration of all sets, odds against the bound, gradients against autograd."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats
from torch import Tensor

from experiments.settings import ExperimentError
from experiments.weak_supervision.group_vae import Context, average
from experiments.weak_supervision.methods.posterior_hgvae import (
    PosteriorHGVAE,
    SubsetPosterior,
    all_sets,
    log_different,
    sharing,
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
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2 * pairs, 3, 32, 32, generator=generator)
    return Context(torch.zeros(pairs).long(), torch.tensor(1.0), generator, images, hard)


def posteriors(pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(2, pairs, 5, generator=generator)
    return mean, torch.rand(2, pairs, 5, generator=generator).sub(2.5)


def log_prior_of(model: PosteriorHGVAE) -> Tensor:
    """Log probability of each single set of independent latents by its size, [latents + 1]."""
    return model.log_law() - model.log_choices


def posterior_of(log_odds: Tensor, log_prior: Tensor) -> SubsetPosterior:
    return subset_posterior(log_odds, log_prior, all_sets(log_odds.shape[-1]).double())


def with_average(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    own = torch.stack([mean, log_variance])
    return own, average(own, "arithmetic")


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


@pytest.mark.parametrize("log_weight", [-9.0, 0.0, 2.5])
def test_numbers_of_latents_follow_mvhgs_law(log_weight: float) -> None:
    model, counts = model_with(log_weight), torch.arange(6.0)
    law = MultivariateHypergeometric(5, [5, 5], log_weights=torch.tensor([log_weight, 0.0]))
    torch.testing.assert_close(model.log_law(), law.log_prob(torch.stack([counts, 5 - counts], -1)))


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
    all_five = enumerated(np.concatenate([log_odds, [0.0, 0.0]]), 0.7)
    marginal: dict[tuple[int, ...], float] = {}
    for chosen, value in all_five.items():
        marginal[chosen[:3]] = marginal.get(chosen[:3], 0.0) + value
    alone = {chosen: sum(v for c, v in enumerated(np.zeros(5), 0.7).items() if c[:3] == chosen) for chosen in marginal}
    for chosen, value in marginal.items():
        assert value == pytest.approx(alone[chosen] * math.exp(float(np.dot(chosen, log_odds))), rel=1e-9)
    model = model_with(0.7)
    posterior = posterior_of(torch.tensor([[2.0, -1.0, 0.5, 0.0, 0.0]]), log_prior_of(model))
    assert posterior.log_evidence.item() == pytest.approx(math.log(sum(marginal.values())), abs=1e-5)


def test_draws_follow_the_posterior() -> None:
    """Chi-square over all 32 sets, 40,000 draws, failure rate 1e-4: a set's probability off by 0.01 fails."""
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


def test_decoded_odds_are_differences_of_the_joint_bound() -> None:
    """All latents independent less one shared, at the posterior means, where every latent is tried."""
    model, (mean, log_variance) = model_with(candidates=5, decoded_share=1.0), posteriors()
    odds = model.log_odds(mean, log_variance, context())
    still = torch.zeros_like(mean)
    images = context().images

    def bound(independent: Tensor) -> Tensor:
        terms = model.bound(images, mean, log_variance, still, independent)
        return 2 * (terms.reconstruction - terms.divergence)  # of the pair

    everything = torch.ones(PAIRS, 5)
    for latent in range(5):
        shared = everything.clone()
        shared[:, latent] = 0
        torch.testing.assert_close(odds[:, latent], bound(everything) - bound(shared), atol=2e-2, rtol=1e-4)


@pytest.mark.parametrize(("hard", "chosen", "tried"), [(False, 3, 2), (True, PAIRS, 4)])
def test_the_decoder_tries_the_latents_whose_cost_and_gain_are_nearest(hard: bool, chosen: int, tried: int) -> None:
    """Half of the pairs and two latents of each; of whole decisions every pair, and twice as many latents."""
    (mean, log_variance), given = posteriors(), context(hard=hard)
    cost, gain = sharing(*with_average(mean, log_variance))
    everything = model_with(candidates=5, decoded_share=1.0).log_odds(mean, log_variance, given)
    certain = torch.where(cost < gain, cost.clamp(min=0) ** 2 / gain, gain**2 / cost)
    expected = cost - gain
    best = [sorted(range(5), key=lambda latent: -certain[pair, latent])[:tried] for pair in range(PAIRS)]
    stakes = [sum(float(certain[pair, latent]) for latent in best[pair]) for pair in range(PAIRS)]
    for pair in sorted(range(PAIRS), key=lambda pair: -stakes[pair])[:chosen]:
        expected[pair, best[pair]] = everything[pair, best[pair]]
    model = model_with(candidates=2, decoded_share=0.5)
    torch.testing.assert_close(model.log_odds(mean, log_variance, given), expected, atol=2e-2, rtol=1e-4)


def test_the_row_trains_on_the_bound_that_prices_a_shared_latent_once() -> None:
    row = OmegaConf.load("configs/method/posterior_hgvae.yaml")
    assert row.experiment.model.objective == SETTINGS["objective"]


def test_without_candidates_the_odds_are_those_of_the_balance() -> None:
    """A quadratic reconstruction whose best posteriors are the given ones: the second order is then everything."""
    mean, log_variance = (values.double() for values in posteriors())
    precision = (-log_variance).exp()

    def reconstruction(at: Tensor, variance: Tensor) -> Tensor:
        """Slope ``mean`` and curvature 1 - 1 / variance at the posterior, as the bound's maximum asks."""
        away = at - mean
        return (mean * away - 0.5 * (precision - 1) * (away.square() + variance)).sum(0)

    cost, gain = sharing(*with_average(mean, log_variance))
    own = reconstruction(mean, log_variance.exp())
    shared = reconstruction(mean.mean(0).expand_as(mean), log_variance.exp().mean(0).expand_as(mean))
    torch.testing.assert_close(cost, own - shared)
    assert (gain > 0).all()
    model = model_with(candidates=0)
    torch.testing.assert_close(model.log_odds(mean, log_variance, context()), cost - gain)
    same = torch.zeros(2, 1, 5)  # both views are the prior: nothing is lost or gained
    assert all(value.abs().max() < 1e-6 for value in sharing(*with_average(same, same)))


@pytest.mark.parametrize("width", [0.05, 0.4, 3.0])
def test_being_different_is_that_of_quadrature(width: float) -> None:
    """E[1 - exp(-(z1 - z2)^2 / (2 width^2))] under the posteriors and under the prior, on a grid of z1 and z2."""
    mean = torch.tensor([[0.3, -1.2, 0.0], [0.35, 0.9, 0.0]], dtype=torch.float64)
    deviations = torch.tensor([[0.2, 0.3, 1.0], [0.1, 0.5, 1.0]], dtype=torch.float64)
    found = log_different(
        mean[:, None], 2 * deviations.log()[:, None], torch.full((3,), math.log(width), dtype=torch.float64)
    )
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
    point = log_different(torch.zeros(2, 1, 1), torch.full((2, 1, 1), -200.0), torch.tensor([math.log(width)]))
    assert -100 < point.item() < -80  # equal beyond doubt, and a number


def test_the_slope_in_the_widths_is_the_finite_difference() -> None:
    mean, log_variance = (values.double() for values in posteriors())
    widths = torch.tensor([0.05, 0.4, 1.0, 3.0, 20.0], dtype=torch.float64).log().requires_grad_()
    step = 1e-6

    def at(move: float) -> Tensor:
        return log_different(mean, log_variance, widths.detach() + move)

    (slope,) = torch.autograd.grad(log_different(mean, log_variance, widths).sum(), widths)
    torch.testing.assert_close(slope, ((at(step) - at(-step)) / (2 * step)).sum(0), rtol=1e-6, atol=1e-6)


def test_the_widths_follow_the_bound() -> None:
    """Their gradient is that of what being different adds to the drawn sets, with the sets held."""
    model, (mean, log_variance) = model_with(0.4), posteriors()
    choice = model.choose(mean.requires_grad_(), log_variance, context())
    assert choice.loss is not None
    wanted = -(choice.independent * log_different(mean, log_variance, model.log_widths)).sum(-1).mean()
    torch.testing.assert_close(*(torch.autograd.grad(loss, model.log_widths)[0] for loss in (choice.loss, wanted)))
    assert torch.autograd.grad(choice.loss, mean, allow_unused=True)[0] is None  # the networks don't see it


def test_the_weight_follows_the_bound() -> None:
    """With the posterior held, its gradient is E[k] of the law less that of the posterior."""
    model = model_with(0.4)
    choice = model.choose(*posteriors(), context())
    assert choice.loss is not None
    (gradient,) = torch.autograd.grad(choice.loss, model.log_weight)
    wanted = choice.diagnostics["law_count"] - choice.expected_count.mean()
    assert gradient.item() == pytest.approx(wanted.item(), abs=1e-4)


@pytest.mark.parametrize(("gain", "wanted"), [(5.0, 0.5034), (2.0, 0.5783), (1.0, 0.7910), (0.5, 1.0)])
def test_the_fixed_point_of_the_weight_counts_coincidences(gain: float, wanted: float) -> None:
    """A latent, independent beyond doubt in half of the pairs, that earns ``gain`` in the others: 0.5 / (1 - e^-gain).

    What the documentation says of the law without repulsion; below a gain of log 2 all pairs are taken as independent.
    """
    model = model_with(num_latents=1, candidates=0)
    log_odds = torch.tensor([[50.0], [-gain]])
    for _ in range(100):  # posterior, then the weight whose law has its mean
        count = posterior_of(log_odds, log_prior_of(model).detach()).of_counts[:, 1].mean()
        torch.nn.init.constant_(model.log_weight, float(torch.logit(count.double(), eps=1e-6)))
    assert count.item() == pytest.approx(wanted, abs=2e-3)


def test_the_reported_divergence_is_that_of_the_drawn_sets() -> None:
    """E_q[log q(S) - log p(S)] by enumeration, the report by 4,000 draws: five standard errors."""
    log_odds, log_weight, draws = np.array([1.0, -1.0, 0.0, -0.5, 0.5]), 0.7, 4_000
    joint, prior = enumerated(log_odds, log_weight), enumerated(np.zeros(5), log_weight)
    total = sum(joint.values())
    ratios = {chosen: math.log(value / total / prior[chosen]) for chosen, value in joint.items()}
    exact = sum(joint[chosen] / total * ratios[chosen] for chosen in joint)
    error = math.sqrt(sum(joint[chosen] / total * (ratios[chosen] - exact) ** 2 for chosen in joint) / draws)
    model = model_with(log_weight)
    torch.nn.init.constant_(model.log_widths, -30.0)  # no repulsion
    model.log_odds = lambda *_: torch.tensor(log_odds, dtype=torch.float32).expand(draws, 5)  # type: ignore[method-assign]
    choice = model.choose(*posteriors(draws), context(1)._replace(images=torch.empty(0)))
    assert choice.diagnostics["selection_divergence"].item() == pytest.approx(exact, abs=5 * error)


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


@pytest.mark.parametrize(
    "change", [{"candidates": 6}, {"decoded_share": 0.0}, {"weight_learning_rate_factor": 0}, {"candidates": -1}]
)
def test_bad_settings_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        PosteriorHGVAE(**SETTINGS | change)
