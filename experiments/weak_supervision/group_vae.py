"""The VAE of image pairs that all methods share: encode, choose, average, decode, bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.settings import NonNegative, PositiveInt, checked
from experiments.weak_supervision.networks import Decoder, Encoder, ImageSize

Average = Literal["arithmetic", "product_of_experts"]
Divergence = Literal["symmetric", "one_sided"]
Objective = Literal["per_view", "joint"]
RELAXATION = frozenset(f"training.{name}" for name in ("initial_temperature", "final_temperature", "annealing_steps"))
OF_SHARED = frozenset({"model.averaging", "model.objective"})  # idle where all latents are independent
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class Choice:
    """Which latents of each pair are independent.

    Attributes:
        independent: [pairs, latents] weights: 1 keeps a view's own posterior, 0 takes the average. HGVAE's can
            exceed 1.
        count: [pairs], the number of independent latents that was drawn or decided, k-hat.
        expected_count: [pairs], its mean under the method's law; the count itself where there is none.
        diagnostics: numbers to log, by name, each a scalar.
        loss: of a method whose choice has one of its own: what its ``loss`` takes for it.
        probability: [pairs, latents], the posterior probability of being independent, of a choice drawn from one.
    """

    independent: Tensor
    count: Tensor
    expected_count: Tensor
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None
    probability: Tensor | None = None


class Context(NamedTuple):
    """What a choice may depend on beside the posteriors.

    Attributes:
        label: [pairs] int64, one of the factors that changed; only LabelVAE looks.
        temperature: of the relaxations, a scalar.
        generator: source of randomness.
        hard: whole decisions, for evaluation.
        uniform: [pairs, uniform_columns], what to draw by instead of the generator: torch.compile can't trace one.
    """

    label: Tensor
    temperature: Tensor
    generator: torch.Generator | None
    hard: bool = False
    uniform: Tensor | None = None


class Terms(NamedTuple):
    """Terms of the bound in nats per image, [pairs]; the bound is ``reconstruction - divergence``.

    Attributes:
        reconstruction: E[log p(x | z)], summed over pixels, the mean of both views.
        divergence: KL to the prior, the mean of both views; in the joint bound a shared latent counts once per pair.
    """

    reconstruction: Tensor
    divergence: Tensor


class GroupVAE(nn.Module):
    """Base of all methods; a subclass says which latents are independent by overriding ``choose``.

    Args:
        num_latents: d.
        image_size: pixels a side.
        averaging: of shared posteriors, ``arithmetic`` or ``product_of_experts``.
        objective: ``per_view`` counts the divergence of a shared latent in both views, as the published code does;
            ``joint`` once per pair, as in a bound on log p(x1, x2) whose shared latents are one variable.
        beta: weight of the divergence.
    """

    fit_pairs = 0  # pairs whose posteriors ``fit`` takes; 0: it is not called
    fit_every_steps = 1  # steps of training between two calls
    uniform_columns = 0  # uniform numbers a pair that a choice draws by
    needs_every_factor = False  # whether there must be a latent for each factor
    diagnostic_names: tuple[str, ...] = ()  # of what ``choose`` says beside its choice
    gradient_names: tuple[str, ...] = ()  # of ``gradient_terms``
    idle_settings: frozenset[str] = frozenset()  # of the experiment, that it does not read, see ``Experiment``

    @checked
    def __init__(
        self,
        *,
        num_latents: PositiveInt,
        image_size: ImageSize,
        averaging: Average = "arithmetic",
        objective: Objective = "per_view",
        beta: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.num_latents = num_latents
        self.averaging: Average = averaging
        self.objective: Objective = objective
        self.beta = beta
        self.encoder = Encoder(num_latents, image_size)
        self.decoder = Decoder(num_latents, image_size)

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        """Decides for posteriors [2, pairs, latents] which latents are independent."""
        raise NotImplementedError

    def fit(self, mean: Tensor, log_variance: Tensor, progress: float) -> None:
        """Fits what is no weight of a network to posteriors [2, fit_pairs, latents], ``progress`` through training."""

    def gradient_terms(self) -> Tensor:
        """What to record of the gradients of a step, [gradient_names]."""
        return next(self.parameters()).new_empty(0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; ``learning_rate_factor`` in one multiplies the training's learning rate."""
        return [{"params": list(self.parameters())}]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [batch, latents] of images [batch, channels, height, width] in [0, 1]."""
        mean, log_variance = self.encoder(images)
        return mean.float(), log_variance.float()  # under autocast the networks alone are in half precision

    def decode(self, latents: Tensor) -> Tensor:
        """Logits [batch, channels, height, width] of latents [batch, latents]."""
        logits: Tensor = self.decoder(latents)
        return logits.float()

    def encode_pairs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors [2, pairs, latents] of views [2 * pairs, channels, height, width], all first views first."""
        mean, log_variance = self.encode(images)
        return mean.unflatten(0, (2, -1)), log_variance.unflatten(0, (2, -1))

    def aggregate(self, mean: Tensor, log_variance: Tensor, independent: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances [2, pairs, latents] after shared latents took their average's (paper Eqs. 50, 51).

        The paper doesn't say what a weight between them mixes: here the numbers that the encoder gives. Variances could
        fall below 0, by a weight above 1.
        """
        own = torch.stack([mean, log_variance])
        shared = average(own, self.averaging)
        aggregated_mean, aggregated_log_variance = torch.lerp(shared.unsqueeze(1), own, independent).unbind(0)
        return aggregated_mean, aggregated_log_variance

    def forward(self, images: Tensor, noise: Tensor, context: Context) -> tuple[Terms, Choice]:
        """The terms of the bound.

        Args:
            images: [2 * pairs, channels, height, width] in [0, 1], all first views first.
            noise: standard normal [2, pairs, latents].
            context: see there.
        """
        mean, log_variance = self.encode_pairs(images)
        with torch.autocast(images.device.type, enabled=False):
            choice = self.choose(mean, log_variance, context)
        return self.bound(images, mean, log_variance, noise, choice.independent), choice

    def bound(
        self,
        images: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        noise: Tensor,
        independent: Tensor,
        objective: Objective | None = None,
    ) -> Terms:
        """The terms of a bound for given independent latents [pairs, latents].

        Args:
            images: [2 * pairs, channels, height, width] in [0, 1], all first views first.
            mean: of the posteriors before aggregation, [2, pairs, latents].
            log_variance: the same shape.
            noise: standard normal, the same shape.
            independent: [pairs, latents] weights, see ``Choice``.
            objective: ``per_view`` or ``joint``; the model's own if None.
        """
        mean, log_variance = self.aggregate(mean, log_variance, independent)
        latents = torch.addcmul(mean, noise, (0.5 * log_variance).exp())
        logits = self.decode(latents.flatten(0, 1))
        losses = binary_cross_entropy_with_logits(logits, images, reduction="none")
        divergence = twice_kl_to_prior(mean, log_variance)
        if (objective or self.objective) == "joint":
            divergence = torch.addcmul(divergence, divergence, independent) / 2
        # The mean of both views.
        return Terms(losses.unflatten(0, (2, -1)).sum((0, 2, 3, 4)) / -2, divergence.sum((0, 2)) / 4)

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        """What training minimises."""
        return torch.add(-terms.reconstruction, terms.divergence, alpha=self.beta).mean()


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of every latent, in nats; same shape as the arguments."""
    return 0.5 * twice_kl_to_prior(mean, log_variance)


def twice_kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """2 KL(N(mean, variance) || N(0, 1)), for a sum whose own factor takes the half in."""
    return torch.addcmul(log_variance.expm1() - log_variance, mean, mean)


def divergence(mean: Tensor, log_variance: Tensor, kind: Divergence) -> Tensor:
    """Divergence between the two views' posteriors, latent by latent, in nats.

    Args:
        mean: [2, pairs, latents].
        log_variance: the same shape.
        kind: ``one_sided``, KL(first || second), as the published code has it (disentanglement_lib), or ``symmetric``,
            the mean of both directions (paper C.2.2).

    Returns:
        [pairs, latents], at least 0.
    """
    first, second = log_variance.unbind(0)
    difference = first - second
    squared = torch.sub(*mean.unbind(0)).square()
    if kind == "one_sided":
        return (0.5 * (difference.expm1() - difference + squared * (-second).exp())).clamp(min=0)
    # cosh(x) - 1 = 2 sinh(x / 2)^2.
    return torch.addcmul((0.5 * difference).sinh().square(), squared, (-log_variance).exp().sum(0), value=0.25)


def average(own: Tensor, kind: Average) -> Tensor:
    """One posterior for both views.

    Args:
        own: means and log variances of the views' posteriors, [2, views, pairs, latents].
        kind: ``arithmetic``, the means of the means and of the variances (GroupVAE, Hosoya 2018), or
            ``product_of_experts``, the normalised product of the densities (ML-VAE, Bouchacourt et al. 2018).

    Returns:
        Mean and log variance, [2, pairs, latents].
    """
    mean, log_variance = own.unbind(0)
    if kind == "arithmetic":
        return torch.stack([mean.mean(0), torch.logsumexp(log_variance, 0) - math.log(len(log_variance))])
    weights = torch.softmax(-log_variance, 0)
    return torch.stack([(weights * mean).sum(0), -torch.logsumexp(-log_variance, 0)])


def largest_latents(divergences: Tensor, count: Tensor | int) -> Tensor:
    """Marks the ``count`` latents of largest divergence.

    Args:
        divergences: [pairs, latents].
        count: a number, or [pairs].

    Returns:
        [pairs, latents], 1 where marked, 0 elsewhere.
    """
    rank = divergences.argsort(-1, descending=True).argsort(-1)
    limit = count.unsqueeze(-1) if isinstance(count, Tensor) else count
    return (rank < limit).to(divergences.dtype)


def log_binomials(number: int) -> Tensor:
    """Log of (number choose k) for k = 0, ..., number, float32 [number + 1]."""
    return torch.tensor([math.log(math.comb(number, k)) for k in range(number + 1)])
