"""EvidenceHGVAE: Bayes factors against numerical integration, posteriors against enumeration of all sets."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from experiments.weak_supervision.group_vae import Context
from experiments.weak_supervision.methods.evidence_hgvae import EvidenceHGVAE, log_bayes_factor, subset_posterior

SETTINGS: dict[str, Any] = {
    "num_latents": 5, "image_size": 32, "objective": "joint", "tolerance": 0.4, "weight_learning_rate_factor": 1.0,
    "rotation_learning_rate_factor": 1.0,
}  # fmt: skip


def integrated(means: tuple[float, float], variances: tuple[float, float], tolerance: float) -> float:
    """log p(c1, c2 | one latent) - log p(c1) - log p(c2), where c is an observation that leaves the given posterior."""
    noise = [variance / (1 - variance) for variance in variances]
    seen = [mean / (1 - variance) for mean, variance in zip(means, variances)]
    laws = [stats.norm(0, math.sqrt(n + tolerance**2)) for n in noise]

    def shared(z: float) -> float:
        return float(stats.norm.pdf(z) * laws[0].pdf(seen[0] - z) * laws[1].pdf(seen[1] - z))

    together, _ = integrate.quad(shared, -12, 12, points=sorted(means), epsabs=0, epsrel=1e-10, limit=500)
    apart = sum(stats.norm.logpdf(c, 0, math.sqrt(1 + n + tolerance**2)) for c, n in zip(seen, noise))
    return math.log(together) - apart


@pytest.mark.parametrize("tolerance", [0.0, 0.4])
@pytest.mark.parametrize(
    "means, variances",
    [((0.5, 0.4), (0.1, 0.2)), ((-1.5, 1.0), (0.05, 0.05)), ((0.1, -0.2), (0.9, 0.95)), ((2.0, 2.0), (0.02, 0.5))],
)
def test_bayes_factor_is_the_integral(
    means: tuple[float, float], variances: tuple[float, float], tolerance: float
) -> None:
    mean = torch.tensor(means, dtype=torch.float64).reshape(2, 1, 1)
    log_variance = torch.tensor(variances, dtype=torch.float64).log().reshape(2, 1, 1)
    ours = log_bayes_factor(mean, log_variance, tolerance).item()
    assert ours == pytest.approx(integrated(means, variances, tolerance), abs=1e-6)


def test_an_inactive_latent_says_nothing() -> None:
    mean = torch.tensor([0.01, -0.02]).reshape(2, 1, 1)
    assert abs(log_bayes_factor(mean, torch.zeros(2, 1, 1), 0.4).item()) < 0.01


def enumerated(log_odds: np.ndarray, log_weight: float) -> dict[tuple[int, ...], float]:
    """Posterior probability of every set under p(k) ~ C(d, k) C(d, d - k) w^k and equally likely sets of a size."""
    size = len(log_odds)
    numbers = [Fraction(math.comb(size, k) * math.comb(size, size - k)) for k in range(size + 1)]
    prior = np.array([float(number) * math.exp(log_weight * k) for k, number in enumerate(numbers)])
    prior /= prior.sum()
    joint = {
        chosen: prior[sum(chosen)] / math.comb(size, sum(chosen)) * math.exp(float(np.dot(chosen, log_odds)))
        for chosen in itertools.product((0, 1), repeat=size)
    }
    return joint


@pytest.mark.parametrize("log_weight", [-1.5, 0.0, 2.0])
def test_posterior_is_that_of_enumeration(log_weight: float) -> None:
    log_odds = np.array([3.0, -2.0, 0.0, -0.5, 1.0])
    joint = enumerated(log_odds, log_weight)
    evidence = sum(joint.values())
    model = EvidenceHGVAE(**SETTINGS)
    torch.nn.init.constant_(model.log_weight, log_weight)
    posterior = subset_posterior(torch.tensor(log_odds, dtype=torch.float32)[None], model.log_prior(model.law()))
    assert posterior.log_evidence.item() == pytest.approx(math.log(evidence) - log_odds.sum(), abs=1e-4)
    by_count = np.zeros(6)
    for chosen, probability in joint.items():
        by_count[sum(chosen)] += probability / evidence
    np.testing.assert_allclose(posterior.log_counts.exp()[0].detach().numpy(), by_count, atol=1e-5)


def test_draws_follow_the_posterior() -> None:
    """Chi-square over all 32 sets, 40,000 draws, failure rate 1e-4: a set's probability off by 0.01 fails."""
    log_odds = np.array([1.0, -1.0, 0.0, -0.5, 0.5])
    joint = enumerated(log_odds, 0.7)
    model = EvidenceHGVAE(**SETTINGS)
    torch.nn.init.constant_(model.log_weight, 0.7)
    draws = 40_000
    repeated = torch.tensor(log_odds, dtype=torch.float32).expand(draws, 5)
    posterior = subset_posterior(repeated, model.log_prior(model.law()))
    drawn = posterior.draw(torch.rand(draws, 6, generator=torch.Generator().manual_seed(0)))
    codes = (drawn.long() * 2 ** torch.arange(4, -1, -1)).sum(-1)
    observed = torch.bincount(codes, minlength=32).numpy()
    expected = np.array(list(joint.values())) / sum(joint.values()) * draws
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def posteriors(pairs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(2, pairs, 5, generator=generator)
    return mean, torch.rand(2, pairs, 5, generator=generator).sub(2.5)


def test_weight_follows_the_likelihood() -> None:
    """Its gradient is E[k] of the law minus that of the posterior, as in every exponential family."""
    model = EvidenceHGVAE(**SETTINGS)
    torch.nn.init.constant_(model.log_weight, 0.4)
    choice = model.choose(*posteriors(50), Context(torch.zeros(50).long(), torch.tensor(1.0), torch.Generator()))
    assert choice.loss is not None
    (gradient,) = torch.autograd.grad(choice.loss, model.log_weight)
    wanted = choice.expected_count[0] - choice.diagnostics["posterior_count"]
    assert gradient.item() == pytest.approx(wanted.item(), abs=1e-4)


def test_rotation_is_orthogonal_and_undone_by_the_decoder() -> None:
    model = EvidenceHGVAE(**SETTINGS)
    still = EvidenceHGVAE(**SETTINGS)
    still.load_state_dict(model.state_dict())
    torch.nn.init.normal_(model.generator_of_rotation, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.rotation @ model.rotation.T, torch.eye(5), atol=1e-5, rtol=0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    turned, unturned = model.encode(images)[0], still.encode(images)[0]
    assert not torch.allclose(turned, unturned)
    torch.testing.assert_close(model.decode(turned), still.decode(unturned), atol=1e-4, rtol=1e-4)


def test_half_precision_is_for_the_networks_alone() -> None:
    model = EvidenceHGVAE(**SETTINGS)
    torch.nn.init.normal_(model.generator_of_rotation, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    context = Context(torch.zeros(3).long(), torch.tensor(1.0), generator)
    with torch.autocast("cpu", torch.bfloat16):
        terms, choice = model(torch.rand(6, 3, 32, 32, generator=generator), torch.randn(2, 3, 5), context)
        rotation = model.rotation
    assert all(value.dtype == torch.float32 for value in (*terms, choice.independent, rotation))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(5), atol=1e-5, rtol=0)


def test_rotation_finds_the_axes_along_which_pairs_agree() -> None:
    """Two latents, turned by 30 degrees from axes along each of which every second pair agrees up to encoding noise."""
    generator = torch.Generator().manual_seed(0)
    pairs, tolerance, variance = 4000, 0.1, math.exp(-4)
    first, other = torch.randn(2, pairs, 2, generator=generator)
    agrees = torch.rand(pairs, 2, generator=generator) < 0.5
    noise = torch.randn(2, pairs, 2, generator=generator) * math.sqrt(variance / (1 - variance) + tolerance**2)
    angle = math.radians(30)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mean = (1 - variance) * (torch.stack([first, torch.where(agrees, first, other)]) + noise) @ turn.T
    model = EvidenceHGVAE(**{**SETTINGS, "num_latents": 2, "tolerance": tolerance})
    optimizer = torch.optim.Adam([model.generator_of_rotation, model.log_weight], lr=0.02)
    context = Context(torch.zeros(pairs).long(), torch.tensor(1.0), generator)
    for _ in range(150):
        choice = model.choose(mean @ model.rotation.detach().T, torch.full_like(mean, -4.0), context)
        assert choice.loss is not None
        optimizer.zero_grad()
        choice.loss.backward()
        optimizer.step()
    composed = (model.rotation @ turn).abs()
    assert composed.max(1).values.min() > 0.99  # a permutation up to signs
    assert model.law().mean[0].item() == pytest.approx(1.0, abs=0.05)  # half of two


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tolerance": -0.1}, "tolerance"),
        ({"weight_learning_rate_factor": 0}, "weight_learning_rate_factor"),
        ({"rotation_learning_rate_factor": math.nan}, "rotation_learning_rate_factor"),
    ],
)
def test_bad_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvidenceHGVAE(**{**SETTINGS, **change})
