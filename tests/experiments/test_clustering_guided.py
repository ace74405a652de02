"""The guided epochs against NumPy: loss, assignments, separation of a toy's clusters."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.clustering.pretraining.guided import GuidedTraining
from experiments.clustering.pretraining.starts import component_moments
from experiments.clustering.priors import UniformPrior
from experiments.clustering.vade import VaDE
from tests.experiments.clustering_fits import BATCH, WIDTHS, byte_images, fit, generator
from tests.experiments.clustering_reference import Parameters, ReferenceBound, make_vade, parameters_of


def guided(
    vade: VaDE,
    weight: float = 2.0,
    epochs: int = 4,
    learning_rate: float = 0.01,
    batch_size: int = BATCH,
    images: Tensor | None = None,
    assignments: Tensor | None = None,
) -> GuidedTraining:
    images = byte_images() if images is None else images
    if assignments is None:
        assignments = torch.randint(3, (len(images),), generator=generator(11))
    start: Any = SimpleNamespace(guided_epochs=epochs, guidance_weight=weight)
    settings: Any = SimpleNamespace(batch_size=batch_size, learning_rate=learning_rate)
    return GuidedTraining(vade, images, assignments, start, settings, noise_seed=5)


def guided_terms(p: Parameters, images: Tensor, assigned: np.ndarray, noise: Any) -> dict[str, float]:
    """The bound with the given clusters, and the mean of log p(c = assigned | z) under the uniform prior."""
    reference = ReferenceBound(UniformPrior(num_clusters=3), p, images.double() / 255, noise, 1.0)
    mean, variance = reference.encode(p)
    means = p["mixture.means"][assigned]
    deviations = np.exp(p["mixture.raw_log_variances"][assigned] / 2)
    divergence = np.log(deviations) - np.log(variance) / 2 - 0.5
    divergence += (variance + (mean - means) ** 2) / (2 * deviations**2)
    latents = reference.latents(p)
    scales = np.exp(p["mixture.raw_log_variances"] / 2)
    densities = stats.norm.pdf(latents[:, None], p["mixture.means"], scales).prod(-1)
    chosen = densities[np.arange(len(assigned)), assigned]
    terms = {
        "reconstruction": reference.terms(p)["reconstruction"],
        "latent": -float(divergence.sum(1).mean()),
        "assignment": 0.0,
        "prior_term": -math.log(3),
    }
    return {
        "elbo": math.fsum(terms.values()),
        **terms,
        "separation": float(np.log(chosen / densities.sum(1)).mean()),
    }


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_loss_of_a_guided_step_is_the_bound_with_given_clusters_and_the_separation(weight: float) -> None:
    model = guided(make_vade(UniformPrior(num_clusters=3), WIDTHS), weight)
    model.generator = generator()
    indices = torch.tensor([7, 2, 9, 0])
    assert len(set(model.assignments[indices].tolist())) > 1
    assert model.assignments[indices].tolist() != model.assignments[:4].tolist()
    loss, terms = model.step_loss(model.rows[indices], indices)
    noise = model.vade.draw_noise(4, generator())
    expected = guided_terms(parameters_of(model.vade), model.rows[indices], model.assignments[indices].numpy(), noise)
    np.testing.assert_allclose(terms.detach(), [expected[name] for name in model.term_names], rtol=1e-4, atol=1e-5)
    assert loss.item() == pytest.approx(-expected["elbo"] - weight * expected["separation"], rel=1e-4)


def test_guided_epochs_separate_the_given_clusters_and_more_so_with_the_weight() -> None:
    """Three groups of images; the components start on the wrong ones. The bound alone, with weight 0, does worse."""
    patterns = torch.zeros(3, WIDTHS[0])
    for group in range(3):
        patterns[group, 5 * group : 5 * group + 5] = 1
    groups = torch.arange(60) % 3
    noise = torch.rand(60, WIDTHS[0], generator=generator(21))
    images = ((0.75 * patterns[groups] + 0.25 * noise) * 255).to(torch.uint8)
    assignments = torch.tensor([2, 0, 1])[groups]
    before, after, separation = {}, {}, {}
    for weight in (0.0, 10.0):
        vade = VaDE(
            widths=WIDTHS,
            prior=UniformPrior(num_clusters=3),
            minimum_variance=1e-4,
            initial_variance=0.1,
            generator=generator(22),
        )
        pixels = images.float() / 255
        vade.mixture.initialise(*component_moments(vade.posterior(pixels)[0].detach(), assignments.roll(1), 3))
        before[weight] = (vade.assign(pixels, BATCH) == assignments).double().mean().item()
        model = guided(vade, weight, 60, 0.02, batch_size=20, images=images, assignments=assignments)
        fit(model, 60, steps_per_chunk=3)
        after[weight] = (vade.assign(pixels, BATCH) == assignments).double().mean().item()
        separation[weight] = model.history[-1]["separation"]
    assert before[10.0] < 0.5
    assert after[10.0] > 0.98
    assert separation[10.0] > max(-0.05, separation[0.0])
