"""The VaDE: every term of its bound, gradients, extreme components, assignments and generated digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.clustering.networks import Autoencoder
from experiments.clustering.priors import UniformPrior
from experiments.clustering.vade import GaussianMixture, Noise, VaDE
from tests.experiments.clustering_reference import (
    PRIORS,
    ReferenceBound,
    make_images,
    make_vade,
    parameters_of,
)

CLUSTERS, DIGITS = 4, 9
FAILURE_RATE = 1e-5  # of each statistical test when the code is right; the seeds are fixed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def setting(prior: str, seed: int = 0) -> tuple[VaDE, Tensor, Noise]:
    vade = make_vade(PRIORS[prior](CLUSTERS), seed=seed)
    return vade, make_images(DIGITS, 12, seed + 1), vade.draw_noise(DIGITS, generator(seed + 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prior", PRIORS)
def test_every_term_equals_the_formula(prior: str, seed: int) -> None:
    """Float32 against float64: 1e-5 of each term's size."""
    vade, images, noise = setting(prior, seed)
    terms, _ = vade.terms(images, noise, torch.tensor(0.6))
    parameters = parameters_of(vade)
    expected = ReferenceBound(vade.prior, parameters, images, noise, 0.6).terms(parameters)
    for name, value in expected.items():
        assert getattr(terms, name).item() == pytest.approx(value, rel=1e-5, abs=1e-5), name
        assert abs(value) > 1e-3, f"{name} is too small here to be tested"


def test_closed_form_expectations_equal_averages_over_draws() -> None:
    """E_q[log p(z | c)] and the entropy of q(z | x) by 200,000 draws: five standard errors, two-sided 6e-7 each."""
    rng = np.random.default_rng(4)
    mixture = GaussianMixture(3, 4, 1e-4)
    means, variances = rng.normal(size=(3, 4)), rng.uniform(0.2, 2, size=(3, 4))
    mixture.initialise(torch.tensor(means), torch.tensor(variances))
    mean, deviation = rng.normal(size=4), rng.uniform(0.3, 1.5, size=4)
    draws = rng.normal(mean, deviation, size=(200_000, 4))
    expected = mixture.expected_log_density(
        torch.tensor(mean)[None].float(), torch.tensor(deviation).log()[None].float() * 2
    )
    for k in range(3):
        values = stats.norm.logpdf(draws, means[k], np.sqrt(variances[k])).sum(1)
        assert abs(values.mean() - expected[0, k].item()) < 5 * values.std() / math.sqrt(len(values))
    # With one component alone, the latent term is -KL(q(z | x) || p(z | c)); the entropy is what remains of it.
    vade = make_vade(UniformPrior(num_clusters=2), widths=(5, 4))
    with torch.no_grad():
        vade.log_variance.weight.zero_()
        vade.log_variance.bias.copy_(torch.tensor(deviation).log() * 2)
        vade.mixture.means.zero_()
        vade.mixture.raw_log_variances.zero_()
    images = make_images(1, 5)
    posterior_mean = vade.posterior(images)[0].detach().double().numpy()
    draws = rng.normal(posterior_mean, deviation, size=(200_000, 4))
    log_ratio = (stats.norm.logpdf(draws) - stats.norm.logpdf(draws, posterior_mean, deviation)).sum(1)
    latent = vade.terms(images, vade.draw_noise(1, generator(0)), torch.tensor(1.0))[0].latent.item()
    assert abs(log_ratio.mean() - latent) < 5 * log_ratio.std() / math.sqrt(len(log_ratio))


def test_with_given_clusters_the_latent_term_is_the_divergence_from_their_components() -> None:
    """As in the guided epochs: q(c | x) is certain, so that its entropy is 0 and -KL(q(z | x) || p(z | c)) remains."""
    vade, images, noise = setting("categorical")
    clusters = torch.arange(DIGITS) % CLUSTERS
    given = torch.full((DIGITS, CLUSTERS), -1e4).scatter(1, clusters[:, None], 0.0)
    mean, log_variance, latents = vade.draw_latents(images, noise)
    terms = vade.bound(images, mean, log_variance, latents, given, vade.prior.law(DIGITS), noise, torch.tensor(1.0))
    components = torch.distributions.Normal(vade.mixture.means, (0.5 * vade.mixture.log_variances).exp())
    chosen = torch.distributions.Normal(components.loc[clusters], components.scale[clusters])
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(posterior, chosen).sum(-1).mean()
    torch.testing.assert_close(terms.latent, -divergence)
    assert terms.assignment == 0
    torch.testing.assert_close(terms.prior_term, vade.prior.law(DIGITS).log_probabilities[clusters].mean())
    terms.elbo.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in vade.parameters())


@pytest.mark.parametrize("prior", [name for name in PRIORS if name != "hypergeometric-merged"])
def test_gradients_reach_every_parameter_and_equal_finite_differences(prior: str) -> None:
    """Central differences of the float64 reference along a random direction of each tensor, to 5e-4 of the gradient.

    Under merged conditionals the reference knows the law at whole counts only; see the tests of the priors.
    """
    vade, images, noise = setting(prior, seed=5)
    vade.terms(images, noise, torch.tensor(0.6))[0].elbo.backward()
    parameters = parameters_of(vade)
    reference = ReferenceBound(vade.prior, parameters, images, noise, 0.6)
    rng, step = np.random.default_rng(6), 1e-5
    names = dict(vade.named_parameters())
    assert ("prior.logits" in names, "prior.raw_log_weights" in names) == (
        prior == "categorical",
        prior.startswith("hypergeometric"),
    )
    for name, parameter in names.items():
        assert parameter.grad is not None, name
        gradient = parameter.grad.double().numpy()
        assert np.abs(gradient).max() > 1e-3, f"no gradient reaches {name}"
        direction = rng.normal(size=gradient.shape)
        up, down = (reference.elbo(parameters | {name: parameters[name] + s * direction}) for s in (step, -step))
        found, expected = float((gradient * direction).sum()), (up - down) / (2 * step)
        assert found == pytest.approx(expected, abs=5e-4 * float(np.linalg.norm(gradient))), name


@pytest.mark.parametrize("prior", PRIORS)
def test_the_same_noise_gives_the_same_bound_at_any_temperature(prior: str) -> None:
    """The temperature smooths the gradient of the draw, never its value."""
    vade, images, _ = setting(prior)
    noises = [vade.draw_noise(DIGITS, generator(seed)) for seed in (11, 11, 12)]
    first, again, other = (vade.terms(images, noise, torch.tensor(0.6))[0] for noise in noises)
    assert first == again
    assert first.elbo != other.elbo
    cold, hot = (vade.terms(images, noises[0], torch.tensor(t))[0] for t in (0.05, 20.0))
    assert cold == hot == first
    if prior.startswith("hypergeometric"):
        gradients = [torch.autograd.grad(t.prior_term, vade.mixture.means)[0] for t in (first, hot)]
        assert not torch.allclose(*gradients)


def test_the_noise_is_standard_normal_and_standard_gumbel() -> None:
    """Kolmogorov-Smirnov, 40,000 numbers each: finds a distance of 0.0124 or more (Dvoretzky-Kiefer-Wolfowitz)."""
    noise = make_vade(UniformPrior(num_clusters=4), widths=(5, 4)).draw_noise(10_000, generator(13))
    assert noise.latent.shape == noise.gumbel.shape == (10_000, 4)
    assert stats.kstest(noise.latent.flatten().numpy(), "norm").pvalue > FAILURE_RATE
    assert stats.kstest(noise.gumbel.flatten().numpy(), "gumbel_r").pvalue > FAILURE_RATE


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("log_variance", [-9.3, -30.0, -math.inf])
def test_a_collapsed_component_and_an_empty_cluster_stay_finite(prior: str, log_variance: float) -> None:
    """Components 0 and 1 have collapsed, 0 at a point 1e3 away from all latents; 2 starts with no probability."""
    vade, images, noise = setting(prior)
    with torch.no_grad():
        vade.mixture.raw_log_variances[:2] = log_variance
        vade.mixture.means[0] = 1e3
        for weights in vade.prior.parameters():  # those of a nearly empty cluster
            weights.copy_(torch.tensor([0.5, 0.3, 1e-6, 0.2]).log())
    terms, _ = vade.terms(images, noise, torch.tensor(0.1))
    terms.elbo.backward()
    assert torch.stack(terms).isfinite().all()
    for name, parameter in vade.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert float(vade.mixture.log_variances.detach().min()) == pytest.approx(math.log(1e-4))
    assert (vade.assign(images, DIGITS) != 0).all()


def test_assignment_takes_the_most_probable_cluster_at_the_posterior_mean() -> None:
    vade, images, noise = setting("hypergeometric")
    with torch.no_grad():
        vade.mixture.means.copy_(vade.posterior(images)[0][:CLUSTERS])
    clusters = vade.assign(images, DIGITS)
    parameters = parameters_of(vade)
    reference = ReferenceBound(vade.prior, parameters, images, noise, 1.0)
    expected = reference.encode(parameters)[0]
    np.testing.assert_array_equal(clusters, reference.responsibilities(parameters, expected).argmax(1))
    assert len(clusters.unique()) > 1


def test_generated_digits_are_decoded_draws_of_each_component() -> None:
    vade = make_vade(UniformPrior(num_clusters=3), widths=(12, 6, 2), seed=14)
    pixels = vade.generate(5000, generator(15))
    assert pixels.shape == (3, 5000, 12)
    assert torch.equal(pixels, vade.generate(5000, generator(15)))
    parameters = parameters_of(vade)
    rng = np.random.default_rng(16)
    for k in range(3):
        deviation = np.exp(parameters["mixture.raw_log_variances"][k] / 2)
        draws = rng.normal(parameters["mixture.means"][k], deviation, size=(5000, 2))
        expected = ReferenceBound.decode(parameters, draws)
        for pixel in range(12):  # 36 tests
            assert stats.ks_2samp(pixels[k, :, pixel].numpy(), expected[:, pixel]).pvalue > FAILURE_RATE


def test_networks_have_the_stated_shapes_and_follow_their_generator() -> None:
    first, again, other = (Autoencoder((6, 5, 4, 2), generator(seed)) for seed in (17, 17, 18))
    shapes = [tuple(layer.weight.shape) for layer in [*first.encoder, *first.decoder]]
    assert shapes == [(5, 6), (4, 5), (2, 4), (4, 2), (5, 4), (6, 5)]
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters()):
        assert torch.equal(a, b)
        assert a.dim() == 1 or not torch.equal(a, c)
    images = make_images(3, 6)
    embedding = first.encode(images)
    assert embedding.shape == (3, 2) and (embedding < 0).any(), "the embedding is linear"
    assert first.hidden(images).min() >= 0
    assert first.decode(embedding).shape == (3, 6)


def test_the_posterior_starts_with_the_given_variance() -> None:
    vade = VaDE(
        widths=(6, 5, 2),
        prior=UniformPrior(num_clusters=2),
        minimum_variance=1e-4,
        initial_variance=0.1,
        generator=generator(19),
    )
    torch.testing.assert_close(vade.posterior(make_images(3, 6))[1].exp(), torch.full((3, 2), 0.1))
