"""HGVAE: the number of independent latents follows a hypergeometric law with learned weights (paper C.2.2)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.settings import NonNegative, checked
from experiments.weak_supervision.group_vae import (
    RELAXATION,
    Choice,
    Context,
    GroupVAE,
    Terms,
    divergence,
    largest_latents,
    log_binomials,
)
from experiments.weak_supervision.networks import initialise
from mvhg import MultivariateHypergeometricStraightThrough, RandomPartition

_FLOOR = 1e-12  # of a divergence whose logarithm is taken


class HGVAE(GroupVAE):
    """As the paper has it.

    The symmetric divergences of a pair go through one dense layer, whose two outputs are the log weights (independent,
    shared) of an urn with d marbles of each kind, from which d are drawn, straight-through. A stochastic NeuralSort
    orders the latents by divergence, and the first k are independent.

    Args:
        sort_scores: what is sorted: ``divergence``, or ``log_divergence`` (a Plackett-Luce order).
        sort_noise: scale of the Gumbel noise that makes the sort stochastic; 0 for none.
        weights_learning_rate_factor: of the dense layer's learning rate on the training's.
        selection: ``neural_sort``, the paper's soft mask times relaxed sort, whose weights can exceed 1, or
            ``random_partition``, mvhg.RandomPartition's: whole forward, and at most 1 in the relaxation behind.
        detach_divergences: whether the encoder is kept from what the dense layer wants of the divergences.
        gradient: of the number of independent latents: ``straight_through``; or ``score_function``, unbiased: whole
            numbers from the exact law and a hard sort, the bound of a pair times the gradient of its log probability,
            with the mean bound of the other pairs taken off.
        settings: of ``GroupVAE``.
    """

    diagnostic_names = ("log_weight_difference",)
    gradient_names = ("weights_gradient",)
    counts: Tensor  # [latents + 1]
    log_choices: Tensor  # [latents + 1]

    @checked
    def __init__(
        self,
        *,
        sort_scores: Literal["divergence", "log_divergence"] = "divergence",
        sort_noise: NonNegative = 1.0,
        weights_learning_rate_factor: NonNegative = 1.0,
        selection: Literal["neural_sort", "random_partition"] = "neural_sort",
        detach_divergences: bool = False,
        gradient: Literal["straight_through", "score_function"] = "straight_through",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if selection == "random_partition" and sort_noise != 1:
            raise ValueError(f"a random partition's order has noise of scale 1: sort_noise must be 1, got {sort_noise}")
        self.selection = selection
        self.sort_scores = sort_scores
        self.sort_noise = sort_noise
        self.weights_learning_rate_factor = weights_learning_rate_factor
        self.detach_divergences = detach_divergences
        self.gradient = gradient
        if gradient == "score_function":
            self.idle_settings = RELAXATION | {"model.selection", "model.detach_divergences"}
            if sort_noise == 0:  # whatever increases with the divergences sorts alike
                self.idle_settings |= {"model.sort_scores"}
        if self.num_latents == 1:
            self.idle_settings |= {"model.sort_scores", "model.sort_noise"}
        self.weights = nn.Linear(self.num_latents, 2)
        initialise(self.weights)
        size, alike = self.num_latents, torch.zeros(2)
        urn = MultivariateHypergeometricStraightThrough(torch.ones(()), size, [size, size], log_weights=alike)
        self.uniform_columns = urn.noise_shape()[0] + self.num_latents  # for the number, and for the order
        counts = torch.arange(self.num_latents + 1, dtype=torch.float32)
        self.register_buffer("counts", counts, persistent=False)
        # Of two groups of d marbles, from which d are drawn: log of (d choose k)^2.
        self.register_buffer("log_choices", 2 * log_binomials(self.num_latents), persistent=False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        own = {"params": list(self.weights.parameters()), "learning_rate_factor": self.weights_learning_rate_factor}
        return [{"params": networks}, own]

    def gradient_terms(self) -> Tensor:
        gradient = self.weights.weight.grad
        assert gradient is not None
        return gradient.norm().unsqueeze(0)

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        divergences = divergence(mean, log_variance, "symmetric")
        unbiased = self.gradient == "score_function"
        log_weights = self.weights(divergences.detach() if self.detach_divergences or unbiased else divergences)
        with torch.no_grad():  # the law's exact mean: p(k) is proportional to (d choose k)^2 exp(k (w_0 - w_1))
            difference = log_weights[:, 0] - log_weights[:, 1]
            log_law = torch.addcmul(self.log_choices, self.counts, difference.unsqueeze(-1))
            expected = torch.softmax(log_law, -1) @ self.counts
        diagnostics = {"log_weight_difference": difference.mean()}
        size = self.num_latents
        urn = MultivariateHypergeometricStraightThrough(
            context.temperature, size, [size, size], log_weights=log_weights, validate_args=False
        )
        if context.hard:
            count = urn.sample(generator=context.generator)[:, 0]
            return Choice(largest_latents(divergences, count), count, expected, diagnostics)
        scores = divergences if self.sort_scores == "divergence" else divergences.clamp(min=_FLOOR).log()
        uniform = context.uniform
        of_urn, of_sort = (None, None) if uniform is None else (uniform[:, :-size], uniform[:, -size:])
        if self.selection == "random_partition" and not unbiased:
            partition = RandomPartition(
                context.temperature, scores, log_weights, group_sizes=[size, size], validate_args=False
            )
            independent = partition.rsample(generator=context.generator, noise=uniform)[:, 0]
            return Choice(independent, independent.detach().sum(-1), expected, diagnostics)
        noise = log_exponential_like(divergences, context.generator, of_sort)
        scores = torch.sub(scores, noise, alpha=self.sort_noise)
        if unbiased:
            counts = urn.sample(generator=context.generator) if of_urn is None else urn.rsample(noise=of_urn).detach()
            count, log_probability = counts[:, 0], urn.log_prob(counts)
            return Choice(largest_latents(scores.detach(), count), count, expected, diagnostics, log_probability)
        draw = urn.rsample_selection(generator=context.generator, noise=of_urn)
        count, mask = draw.counts[:, 0], draw.prefix_mask[:, 0]  # [pairs], [pairs, ranks]
        permutation = neural_sort(scores, context.temperature)  # [pairs, rank, latent]
        independent = torch.einsum("pr,prl->pl", mask, permutation)
        return Choice(independent, count.detach(), expected, diagnostics)

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        loss = super().loss(terms, choice)
        if choice.loss is None:
            return loss
        losses = (self.beta * terms.divergence - terms.reconstruction).detach()
        others = (losses.sum() - losses) / max(len(losses) - 1, 1)
        return loss + ((losses - others) * choice.loss).mean()


def neural_sort(scores: Tensor, temperature: Tensor | float) -> Tensor:
    """Rows of a relaxed permutation matrix; row i is a law of which element has rank i (Grover et al. 2019, Eq. 5).

    Args:
        scores: [..., n].
        temperature: positive; towards 0 the rows become one-hot.

    Returns:
        [..., n, n]; every row sums to 1, ``result @ scores`` is sorted in descending order as the temperature falls.
    """
    # Of the paper's sum of |s_j - s_l| over l, what is the same for all elements is left out: the softmax takes it off.
    exceeded = (scores.unsqueeze(-2) - scores.unsqueeze(-1)).relu().sum(-1)  # by the larger ones, [..., n]
    ranks = torch.arange(0.5, scores.shape[-1], device=scores.device, dtype=scores.dtype)
    negative = torch.addcmul(exceeded.unsqueeze(-2), ranks.unsqueeze(-1), scores.unsqueeze(-2))  # [..., rank, element]
    return torch.softmax(negative / (-0.5 * temperature), dim=-1)


def log_exponential_like(
    scores: Tensor, generator: torch.Generator | None = None, uniform: Tensor | None = None
) -> Tensor:
    """Logs of standard exponential noise of the shape of ``scores``; its negative is standard Gumbel noise.

    Sorting log scores less such noise is a Plackett-Luce draw. ``uniform`` numbers on [0, 1), if given, are taken
    instead of the generator's.
    """
    if uniform is None:
        uniform = torch.rand(scores.shape, device=scores.device, dtype=scores.dtype, generator=generator)
    limits = torch.finfo(scores.dtype)
    return (-uniform.to(scores.dtype).clamp(limits.tiny, 1 - limits.eps / 2).log()).log()
