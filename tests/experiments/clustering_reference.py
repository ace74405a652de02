"""The VaDE's bound in NumPy and float64, written from the formulas (Jiang et al. 2017, Eq. 12; Appendix C.3.1).

It reads the parameters of a model by their names and shares no code with it: densities come from scipy.stats, products
of probabilities are taken as such, and the hypergeometric laws are those of ``tests/oracle.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import special, stats

from experiments.clustering.priors import CategoricalPrior, HypergeometricPrior, Prior, UniformPrior
from experiments.clustering.priors.hypergeometric import CountsLaw
from experiments.clustering.vade import VaDE
from tests import oracle

Parameters = dict[str, np.ndarray]
PRIORS: dict[str, Callable[[int], Prior]] = {
    "categorical": lambda clusters: CategoricalPrior(num_clusters=clusters),
    "uniform": lambda clusters: UniformPrior(num_clusters=clusters),
    "hypergeometric": lambda clusters: HypergeometricPrior(num_clusters=clusters),
    "hypergeometric-assignments": lambda clusters: HypergeometricPrior(num_clusters=clusters, reading="assignments"),
    "hypergeometric-merged": lambda clusters: HypergeometricPrior(num_clusters=clusters, conditionals="merged"),
    "hypergeometric-large-groups": lambda clusters: HypergeometricPrior(
        num_clusters=clusters, reading="assignments", group_size=5
    ),
}


def make_vade(prior: Prior, widths: tuple[int, ...] = (12, 7, 5, 3), seed: int = 0, spread: float = 0.7) -> VaDE:
    """A small VaDE with every parameter drawn at random, so that no symmetry hides an error."""
    generator = torch.Generator().manual_seed(seed)
    vade = VaDE(widths=widths, prior=prior, minimum_variance=1e-4, initial_variance=0.1, generator=generator)
    with torch.no_grad():
        for name, parameter in vade.named_parameters():
            scale = spread if name.startswith(("mixture", "prior")) else 0.3
            parameter.add_(scale * torch.empty_like(parameter).normal_(generator=generator))
    return vade


def make_images(digits: int, pixels: int, seed: int = 1) -> torch.Tensor:
    """Grey values in [0, 1], a few of them exactly 0 or 1."""
    return (torch.rand(digits, pixels, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1).clamp(0, 1)


def parameters_of(vade: VaDE) -> Parameters:
    return {name: value.detach().double().numpy() for name, value in vade.named_parameters()}


def multinomial_coefficient_log(counts: np.ndarray) -> float:
    """log(n! / prod x_k!), extended by the gamma function."""
    return float(special.gammaln(counts.sum() + 1) - special.gammaln(counts + 1).sum())


def prior_probabilities(prior: Prior, parameters: Parameters, digits: int) -> np.ndarray:
    """p(c_i = k) of one digit."""
    if isinstance(prior, UniformPrior):
        return np.full(prior.num_clusters, 1 / prior.num_clusters)
    if isinstance(prior, CategoricalPrior):
        odds = np.exp(parameters["prior.logits"])
        return odds / odds.sum()
    assert isinstance(prior, HypergeometricPrior)
    sizes = (digits * prior.group_size,) * prior.num_clusters
    return oracle.TiltedLaw(digits, sizes, parameters["prior.raw_log_weights"].tolist()).mean / digits


def hypergeometric_log_prob(prior: HypergeometricPrior, log_weights: np.ndarray, counts: np.ndarray) -> float:
    """log p of counts, which may be fractional under exact conditionals."""
    digits = round(counts.sum())
    sizes = (digits * prior.group_size,) * prior.num_clusters
    if prior.conditionals == "merged":
        order = tuple(range(prior.num_clusters))
        law = oracle.merged_law(digits, sizes, tuple(log_weights.tolist()), order)
        value = float(law.log_pmf[(law.support == counts).all(1)].item())
    else:
        value = oracle.TiltedLaw(digits, sizes, log_weights.tolist()).log_prob(counts.tolist())
    return value - multinomial_coefficient_log(counts) if prior.reading == "assignments" else value


def tabulate(prior: HypergeometricPrior, digits: int) -> CountsLaw:
    """The prior's law of a small batch with its values in a table, so that it can be asked for thousands of them."""
    support = torch.tensor(list(oracle.enumerate_counts(digits, (digits,) * prior.num_clusters)))
    radix = (digits + 1) ** torch.arange(prior.num_clusters)
    law = prior.law(digits)
    table = torch.full(((digits + 1) ** prior.num_clusters,), math.nan, dtype=prior.raw_log_weights.dtype)
    table[support @ radix] = law.log_prob(support.to(table.dtype)).detach()
    law.log_probabilities = law.log_probabilities.detach()
    law.log_prob = lambda counts: table[counts.round().long() @ radix]  # type: ignore[method-assign]
    return law


class ReferenceBound:
    """The four terms as functions of the parameters, for fixed images and noise.

    The straight-through gradient of a drawn assignment is that of ``hard + soft - constant``, with the softmax at the
    parameters given here as the constant: with it, finite differences of these terms are the gradients to expect.
    """

    def __init__(self, prior: Prior, parameters: Parameters, images: Any, noise: Any, temperature: float) -> None:
        self.prior = prior
        self.images = np.asarray(images, dtype=float)
        self.noise = np.asarray(noise.latent, dtype=float)
        self.gumbel = np.asarray(noise.gumbel, dtype=float)
        self.temperature = temperature
        self.constant = self.soft_assignments(self.responsibilities(parameters, self.latents(parameters)))
        self.hard = np.eye(prior.num_clusters)[self.constant.argmax(1)]

    def encode(self, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
        layers = sum(name.startswith("autoencoder.encoder") for name in p) // 2
        hidden = self.images
        for i in range(layers - 1):
            hidden = np.maximum(hidden @ p[f"autoencoder.encoder.{i}.weight"].T + p[f"autoencoder.encoder.{i}.bias"], 0)
        last = f"autoencoder.encoder.{layers - 1}"
        mean = hidden @ p[f"{last}.weight"].T + p[f"{last}.bias"]
        return mean, np.exp(hidden @ p["log_variance.weight"].T + p["log_variance.bias"])

    @staticmethod
    def decode(p: Parameters, latents: np.ndarray) -> np.ndarray:
        layers = sum(name.startswith("autoencoder.decoder") for name in p) // 2
        values = latents
        for i in range(layers):
            values = values @ p[f"autoencoder.decoder.{i}.weight"].T + p[f"autoencoder.decoder.{i}.bias"]
            values = np.maximum(values, 0) if i < layers - 1 else 1 / (1 + np.exp(-values))
        return values

    def latents(self, p: Parameters) -> np.ndarray:
        mean, variance = self.encode(p)
        return mean + np.sqrt(variance) * self.noise

    def responsibilities(self, p: Parameters, latents: np.ndarray) -> np.ndarray:
        deviations = np.exp(p["mixture.raw_log_variances"] / 2)
        density = stats.norm.pdf(latents[:, None, :], p["mixture.means"], deviations).prod(-1)
        joint = prior_probabilities(self.prior, p, len(latents)) * density
        return joint / joint.sum(1, keepdims=True)

    def soft_assignments(self, responsibilities: np.ndarray) -> np.ndarray:
        perturbed = np.exp((np.log(responsibilities) + self.gumbel) / self.temperature)
        return perturbed / perturbed.sum(1, keepdims=True)

    def prior_term(self, p: Parameters, q: np.ndarray) -> float:
        if isinstance(self.prior, HypergeometricPrior):
            counts = (self.hard + self.soft_assignments(q) - self.constant).sum(0)
            if self.prior.conditionals == "merged":
                counts = self.hard.sum(0)
            return hypergeometric_log_prob(self.prior, p["prior.raw_log_weights"], counts) / len(q)
        return float((q @ np.log(prior_probabilities(self.prior, p, len(q)))).mean())

    def terms(self, p: Parameters) -> dict[str, float]:
        mean, variance = self.encode(p)
        latents = self.latents(p)
        q = self.responsibilities(p, latents)
        pixels = self.decode(p, latents)
        log_likelihood = special.xlogy(self.images, pixels) + special.xlogy(1 - self.images, 1 - pixels)
        component_variance = np.exp(p["mixture.raw_log_variances"])
        squares = variance[:, None] + (mean[:, None] - p["mixture.means"]) ** 2  # [digits, clusters, latent]
        divergence = (np.log(component_variance) + squares / component_variance).sum(-1) / 2
        return {
            "reconstruction": float(log_likelihood.sum(1).mean()),
            "latent": float((-(q * divergence).sum(1) + (1 + np.log(variance)).sum(1) / 2).mean()),
            "assignment": float(-(q * np.log(q)).sum(1).mean()),
            "prior_term": self.prior_term(p, q),
        }

    def elbo(self, p: Parameters) -> float:
        return math.fsum(self.terms(p).values())
