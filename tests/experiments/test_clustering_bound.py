"""The bound against the likelihood in toy models with a latent space of one dimension, by quadrature on a fine grid."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import trapezoid
from torch import Tensor

from experiments.clustering.priors import HypergeometricPrior, Prior
from experiments.clustering.vade import Noise, VaDE
from tests import oracle
from tests.experiments.clustering_reference import (
    PRIORS,
    ReferenceBound,
    make_images,
    make_vade,
    parameters_of,
    tabulate,
)

GRID = np.linspace(-12, 12, 12_001)


def toy(prior: Prior) -> VaDE:
    """Pixels depend little on the latent, and the components overlap: the bound is close below the likelihood."""
    vade = make_vade(prior, widths=(4, 3, 1), seed=8)
    with torch.no_grad():
        vade.autoencoder.decoder[-1].weight.mul_(0.3)
        vade.mixture.means.copy_(torch.tensor([[-0.4], [0.3]]))
        vade.mixture.raw_log_variances.copy_(torch.tensor([[-0.2], [0.1]]))
        vade.autoencoder.encoder[-1].weight.mul_(0.3)
        vade.log_variance.bias.fill_(-0.1)
    return vade


def joint_on_grid(vade: VaDE, images: Tensor) -> np.ndarray:
    """p(x | z) p(z | c = k) on the grid, [digits, clusters, points]."""
    p = parameters_of(vade)
    pixels = ReferenceBound.decode(p, GRID[:, None])
    x = images.double().numpy()
    likelihood = np.exp(x @ np.log(pixels).T + (1 - x) @ np.log(1 - pixels).T)  # [digits, points]
    deviations = np.exp(p["mixture.raw_log_variances"] / 2)
    return likelihood[:, None] * stats.norm.pdf(GRID, p["mixture.means"], deviations)


@pytest.mark.parametrize("prior", ["uniform", "categorical"])
def test_the_bound_is_the_log_likelihood_less_the_divergence_of_the_posterior(prior: str) -> None:
    """log p(x) - ELBO = E[KL(q(z | x) q(c | x) || p(z, c | x))] > 0, the right side and p(x) by quadrature.

    The expectation over the noise is the mean over 4,000 equally probable quantiles of it, good to 1e-4 nats.
    """
    vade = toy(PRIORS[prior](2))
    reference_prior = vade.prior.law(1).log_probabilities.exp().detach().double().numpy()
    quantiles = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    noise = Noise(torch.tensor(quantiles, dtype=torch.float32)[:, None], torch.zeros(4000, 2))
    for image in (make_images(5, 4, seed=9) > 0.5).float():
        joint = joint_on_grid(vade, image[None])[0] * reference_prior[:, None]  # p(x, z, c) [clusters, points]
        log_likelihood = math.log(trapezoid(joint.sum(0), GRID))
        bound = vade.terms(image.expand(4000, -1), noise, torch.tensor(1.0))[0].elbo.item()

        reference = ReferenceBound(vade.prior, parameters_of(vade), image.expand(4000, -1), noise, 1.0)
        parameters = parameters_of(vade)
        mean, variance = (float(values[0, 0]) for values in reference.encode(parameters))
        q_latent = stats.norm.pdf(GRID, mean, math.sqrt(variance))
        q_cluster = reference.responsibilities(parameters, reference.latents(parameters))
        # KL = sum_k q_k (log q_k + E_q(z)[log q(z) - log p(x, z, k)]) + log p(x), averaged over the noise
        log_q_latent = stats.norm.logpdf(GRID, mean, math.sqrt(variance))
        expected_log = trapezoid(q_latent * (log_q_latent - np.log(joint)), GRID)
        divergence = (q_cluster * (np.log(q_cluster) + expected_log)).sum(1).mean() + log_likelihood
        assert 0.003 < divergence < 0.5
        assert log_likelihood - bound == pytest.approx(divergence, abs=1e-4)


def bound_of(vade: VaDE, images: Tensor, latent: Tensor, gumbel: Tensor) -> Tensor:
    return vade.terms(images, Noise(latent, gumbel), torch.tensor(0.5))[0].elbo


def test_with_the_assignments_reading_the_bound_of_a_batch_lies_below_its_likelihood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """p(X) = sum over all 2^3 assignments; the bound by 20,000 draws of the noise, with five standard errors.

    The log pmf of the counts is larger than that of an assignment, and with it the 'bound' exceeds the likelihood:
    the reading that the paper words is an objective, not a bound on this model's likelihood.
    """
    images = (make_images(3, 4, seed=9) > 0.5).float()
    bounds = {}
    for reading in ("assignments", "counts"):
        prior = HypergeometricPrior(num_clusters=2, reading=reading)
        vade = toy(prior)
        law = tabulate(prior, digits=3)
        monkeypatch.setattr(prior, "law", lambda digits, law=law: law)
        noise = vade.draw_noise(20_000 * 3, torch.Generator().manual_seed(10))
        with torch.no_grad():
            bounds[reading] = torch.func.vmap(partial(bound_of, vade, images))(
                noise.latent.reshape(-1, 3, 1), noise.gumbel.reshape(-1, 3, 2)
            ).numpy()
    evidence = trapezoid(joint_on_grid(vade, images), GRID)  # p(x_i | c_i = k), [digits, clusters]
    law = oracle.enumerate_law(3, (3, 3), tuple(prior.raw_log_weights.tolist()))
    likelihood = 0.0
    for assignment in itertools.product(range(2), repeat=3):
        counts = np.bincount(assignment, minlength=2)
        probability = law.pmf[(law.support == counts).all(1)].item() / math.comb(3, counts[0])
        likelihood += probability * math.prod(evidence[i, k] for i, k in enumerate(assignment))
    log_likelihood = math.log(likelihood) / 3
    error = {reading: 5 * values.std() / math.sqrt(len(values)) for reading, values in bounds.items()}
    gap = log_likelihood - bounds["assignments"].mean()
    assert error["assignments"] < gap < 0.3
    assert bounds["counts"].mean() - error["counts"] > log_likelihood
