"""Variational deep embedding (Jiang et al. 2017; Appendix C.3.1): a VAE with a mixture of Gaussians (Eq. 54)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.clustering.networks import Autoencoder, linear
from experiments.clustering.priors import BatchLaw, Prior
from experiments.settings import Positive, PositiveInt, checked


class Terms(NamedTuple):
    """The terms of the evidence lower bound in nats per digit; they add up to it."""

    reconstruction: Tensor  # E_q[log p(x | z)]
    latent: Tensor  # E_q[log p(z | c)] - E_q[log q(z | x)]
    assignment: Tensor  # -E_q[log q(c | x)]
    prior_term: Tensor  # E_q[log p(c; pi)]

    @property
    def elbo(self) -> Tensor:
        """Their sum."""
        return self.reconstruction + (self.latent + self.assignment + self.prior_term)


class Noise(NamedTuple):
    """Random numbers of one estimate of the bound."""

    latent: Tensor  # [batch, latent] standard normal
    gumbel: Tensor  # [batch, clusters] standard Gumbel


class GaussianMixture(nn.Module):
    """Means and variances of the components; their probabilities belong to the prior p(c).

    Args:
        num_clusters: number of components, K.
        latent_dim: dimension D of the latent space.
        minimum_variance: variances don't fall below it, so that a component that collapses onto a point stays finite;
            there, its variance has no gradient and stays as it is.
    """

    def __init__(self, num_clusters: int, latent_dim: int, minimum_variance: float) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(num_clusters, latent_dim))
        self.raw_log_variances = nn.Parameter(torch.zeros(num_clusters, latent_dim))
        self.minimum_log_variance = math.log(minimum_variance)

    @property
    def log_variances(self) -> Tensor:
        """[clusters, latent]."""
        return self.raw_log_variances.clamp_min(self.minimum_log_variance)

    @torch.no_grad()
    def initialise(self, means: Tensor, variances: Tensor) -> None:
        """Sets the components, both [clusters, latent]."""
        self.means.copy_(means)
        self.raw_log_variances.copy_(variances.log())

    def log_density(self, latents: Tensor) -> Tensor:
        """log p(z | c = k), [batch, clusters], for latents [batch, latent]."""
        return self.expected_log_density(latents, None)

    def expected_log_density(self, mean: Tensor, log_variance: Tensor | None) -> Tensor:
        """E[log p(z | c = k)] under z ~ N(mean, exp(log_variance)), [batch, clusters]; arguments [batch, latent].

        None stands for no variance.
        """
        variance = None if log_variance is None else log_variance.exp()
        return _ExpectedLogDensity.apply(mean, variance, self.means, self.log_variances)[0]


class _ExpectedLogDensity(torch.autograd.Function):
    """Of normal densities, differentiable once; autograd's own would take twice as many operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(mean: Tensor, variance: Tensor | None, means: Tensor, log_variances: Tensor) -> tuple[Tensor, ...]:
        """The values, and for the derivative precisions, distances times them, and expected squares times them."""
        precisions = (-log_variances).exp()
        away = mean.unsqueeze(-2) - means  # [batch, clusters, latent]
        scaled = away * precisions
        squares = away * scaled
        if variance is not None:
            squares = torch.addcmul(squares, variance.unsqueeze(-2), precisions)
        value = -0.5 * (squares + log_variances + math.log(2 * math.pi)).sum(-1)
        return value, precisions, scaled, squares

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        precisions, scaled, squares = ctx.saved_tensors
        of_variance = None
        if ctx.needs_input_grad[1]:
            with torch.autocast(grad.device.type, enabled=False):
                of_variance = -0.5 * (grad @ precisions)
        grad = grad.unsqueeze(-1)
        pulled = grad * scaled
        return -pulled.sum(-2), of_variance, pulled.sum(0), 0.5 * torch.addcmul(-grad, grad, squares).sum(0)


class VaDE(nn.Module):
    """Encoder, decoder, mixture of Gaussians, and one of the priors p(c; pi).

    The posterior is q(z, c | x) = q(z | x) q(c | x) with q(c = k | x) proportional to p(c = k) p(z | c = k) at one
    draw z of q(z | x).

    Args:
        widths: of the encoder, from the pixels to the latent space; the decoder mirrors them.
        prior: over the assignments; knows the number of clusters.
        minimum_variance: of the mixture's components.
        initial_variance: of q(z | x) before training, the same for every image.
        generator: for the initial weights.
    """

    @checked
    def __init__(
        self,
        *,
        widths: Annotated[Sequence[PositiveInt], Field(min_length=2)],
        prior: Prior,
        minimum_variance: Positive,
        initial_variance: Positive,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(widths, generator)
        self.log_variance = linear(widths[-2], widths[-1], generator)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, math.log(initial_variance))
        self.mixture = GaussianMixture(prior.num_clusters, widths[-1], minimum_variance)
        self.prior = prior

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), both float32 [batch, latent], for images [batch, pixels] in [0, 1]."""
        hidden = self.autoencoder.hidden(images)
        # float32 from here on: half precision is for the wide layers only.
        return self.autoencoder.encoder[-1](hidden).float(), self.log_variance(hidden).float()

    def log_responsibilities(self, latents: Tensor, law: BatchLaw) -> Tensor:
        """log q(c = k | x) at latents [batch, latent], [batch, clusters], under a law of the prior."""
        return (law.log_probabilities + self.mixture.log_density(latents)).log_softmax(-1)

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """The random numbers of one estimate of the bound, on the generator's device."""
        clusters, latent_dim = self.mixture.means.shape
        latent = torch.empty(batch_size, latent_dim, device=generator.device).normal_(generator=generator)
        exponential = torch.empty(batch_size, clusters, device=generator.device).exponential_(generator=generator)
        return Noise(latent, exponential.log().neg())

    def terms(self, images: Tensor, noise: Noise, temperature: Tensor) -> tuple[Terms, Tensor]:
        """One-draw estimate of the bound, the mean over a batch (Appendix C.3.1), and log q(c | x) [batch, clusters].

        Args:
            images: [batch, pixels] in [0, 1].
            noise: of :meth:`draw_noise`.
            temperature: of the Gumbel-softmax, a scalar.
        """
        law = self.prior.law(len(images))
        mean, log_variance, latents = self.draw_latents(images, noise)
        log_responsibilities = self.log_responsibilities(latents, law)
        terms = self.bound(images, mean, log_variance, latents, log_responsibilities, law, noise, temperature)
        return terms, log_responsibilities

    def draw_latents(self, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log variance of q(z | x) and one draw of it, all [batch, latent]."""
        mean, log_variance = self.posterior(images)
        return mean, log_variance, mean + (0.5 * log_variance).exp() * noise.latent

    def bound(
        self,
        images: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        latents: Tensor,
        log_responsibilities: Tensor,
        law: BatchLaw,
        noise: Noise,
        temperature: Tensor,
    ) -> Terms:
        """The terms of the bound for given q(z | x), a draw of it, finite log q(c | x) [batch, clusters] and a law."""
        responsibilities = log_responsibilities.exp()
        logits = self.autoencoder.decode(latents).float()
        digits = len(images)
        reconstruction = binary_cross_entropy_with_logits(logits, images, reduction="sum") / -digits
        expected = self.mixture.expected_log_density(mean, log_variance)  # [batch, clusters]
        entropy = 0.5 * log_variance.shape[-1] * (math.log(2 * math.pi) + 1)  # and half the logarithm of the variance
        latent = torch.add((responsibilities * expected).sum(), log_variance.sum(), alpha=0.5) / digits + entropy
        assignment = (responsibilities * log_responsibilities).sum() / -digits
        prior_term = law.expected_log_prob(log_responsibilities, noise.gumbel, temperature)
        return Terms(reconstruction, latent, assignment, prior_term)

    @torch.no_grad()
    def assign(self, images: Tensor, batch_size: int) -> Tensor:
        """Most probable cluster at the posterior mean, [images]."""
        mean, _ = self.posterior(images)
        return self.log_responsibilities(mean, self.prior.law(batch_size)).argmax(-1)

    @torch.no_grad()
    def generate(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Pixel probabilities of draws from every component, [clusters, num_samples, pixels]."""
        means, log_variances = self.mixture.means, self.mixture.log_variances
        noise = means.new_empty(len(means), num_samples, means.shape[-1]).normal_(generator=generator)
        latents = means.unsqueeze(1) + (0.5 * log_variances).exp().unsqueeze(1) * noise
        return self.autoencoder.decode(latents).sigmoid()
