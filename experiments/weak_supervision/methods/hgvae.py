"""HGVAE: the number of independent latents follows a hypergeometric law with learned weights (paper C.2.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from experiments.common.checks import require_number
from experiments.weak_supervision.binomials import log_binomials
from experiments.weak_supervision.fixed_k import largest_latents
from experiments.weak_supervision.gaussians import divergence
from experiments.weak_supervision.group_vae import Choice, Context, GroupVAE
from experiments.weak_supervision.networks import initialise
from experiments.weak_supervision.neural_sort import gumbel_like, neural_sort
from mvhg import MultivariateHypergeometricStraightThrough

SORT_SCORES = ("divergence", "log_divergence")
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
        settings: of ``GroupVAE``.

    Raises:
        ValueError: a setting is not allowed.
    """

    diagnostic_names = ("log_weight_difference",)
    gradient_names = ("weights_gradient",)

    def __init__(
        self,
        *,
        sort_scores: str = "divergence",
        sort_noise: float = 1.0,
        weights_learning_rate_factor: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if sort_scores not in SORT_SCORES:
            raise ValueError(f"model.sort_scores must be one of {', '.join(SORT_SCORES)}, got {sort_scores!r}")
        require_number("model.sort_noise", sort_noise)
        require_number("model.weights_learning_rate_factor", weights_learning_rate_factor)
        self.sort_scores = sort_scores
        self.weights_learning_rate_factor = weights_learning_rate_factor
        self.sort_noise = sort_noise
        self.weights = nn.Linear(self.num_latents, 2)
        initialise(self.weights)

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
        log_weights = self.weights(divergences)  # [pairs, 2]
        if not log_weights.isfinite().all():  # no urn has such
            raise FloatingPointError("a log weight of the urn")
        size = self.num_latents
        group_sizes = torch.tensor([size, size], device=mean.device)
        with torch.no_grad():
            # The law's exact mean; two groups of d have p(k) proportional to (d choose k)^2 exp(k (w_0 - w_1)).
            sizes = torch.arange(size + 1, device=mean.device, dtype=mean.dtype)
            difference = (log_weights[:, 0] - log_weights[:, 1]).unsqueeze(-1)
            expected = torch.softmax(2 * log_binomials(size, mean) + sizes * difference, -1) @ sizes
        diagnostics = {"log_weight_difference": (log_weights[:, 0] - log_weights[:, 1]).detach().mean()}
        # Every process draws for the whole batch, so that the draws don't depend on its division.
        urn = MultivariateHypergeometricStraightThrough(
            context.temperature, size, group_sizes, log_weights=context.shard.whole(log_weights), validate_args=False
        )
        if context.hard:
            count = context.shard.part(urn.sample(generator=context.generator)[:, 0])
            return Choice(largest_latents(divergences, count), count, expected, diagnostics)
        draw = urn.rsample_selection(generator=context.generator)
        count, mask = (context.shard.part(values[:, 0]) for values in (draw.counts, draw.prefix_mask))
        scores = divergences if self.sort_scores == "divergence" else divergences.clamp(min=_FLOOR).log()
        noise = gumbel_like(context.shard.whole(divergences.detach()), context.generator)
        scores = scores + self.sort_noise * context.shard.part(noise)
        permutation = neural_sort(scores, context.temperature)  # [pairs, rank, latent]
        independent = torch.einsum("pr,prl->pl", mask, permutation)
        return Choice(independent, count.detach(), expected, diagnostics)
