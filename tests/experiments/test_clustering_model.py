"""The VaDE: every term of its bound, gradients, extreme components, assignments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.clustering.priors import HypergeometricPrior, UniformPrior
from experiments.clustering.vade import GaussianMixture, Noise, VaDE
from tests.experiments.clustering_fits import generator
from tests.experiments.clustering_reference import (
    PRIORS,
    ReferenceBound,
    make_images,
    make_vade,
    parameters_of,
)

CLUSTERS, DIGITS = 4, 9
FAILURE_RATE = 1e-5  # of each statistical test when the code is right; the seeds are fixed


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


def test_the_mixtures_gradients_stay_float32_in_bfloat16() -> None:
    mixture, given = GaussianMixture(3, 4, 1e-4), generator(1)
    mean, log_variance, weight = (torch.randn(shape, generator=given) for shape in ((6, 4), (6, 4), (6, 3)))
    found = []
    for enabled in (False, True):
        inputs = [one.clone().requires_grad_() for one in (mean, log_variance)]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            (mixture.expected_log_density(*inputs) * weight).sum().backward()
        found.append([one.grad for one in inputs])
    for plain, half in zip(*found):
        torch.testing.assert_close(half, plain, rtol=1e-6, atol=0)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_variance": 0.0}, "minimum_variance\n  Input should be greater than 0"),
        ({"initial_variance": float("nan")}, "initial_variance\n  Input should be a finite number"),
        ({"widths": [784]}, "widths\n  .* at least 2 items"),
        ({"widths": [784, 0, 5]}, "widths.1\n  Input should be greater than 0"),
        ({"prior": UniformPrior}, "prior\n  Input should be an instance of Prior"),
        ({"generator": None}, "generator\n  Input should be an instance of Generator"),
    ],
)
def test_a_model_that_there_is_not_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"widths": (784, 20, 5), "prior": UniformPrior(num_clusters=3)}
    settings |= {"minimum_variance": 1e-4, "initial_variance": 0.1, "generator": torch.Generator()}
    VaDE(**settings)
    with pytest.raises(ValueError, match=message):
        VaDE(**settings | change)


def test_of_no_digit_nothing_is_said() -> None:
    with pytest.raises(ValueError, match="batch_size, the number of digits, must be at least 1, got 0"):
        HypergeometricPrior(num_clusters=3).law(0)
