"""EvidenceHGVAE: infers which latents are shared by their evidence, under a hypergeometric prior on their number.

Not of the paper. HGVAE learns the number k of independent latents from a bound that hardly depends on it. Here k is a
latent variable with the prior HG(k; omega) of an urn with d marbles of each kind; given k, all sets of k latents are
equally likely. How likely a latent is to be shared follows from the two views' posteriors (a Bayes factor), and the
posterior over all sets is exact, by elementary symmetric polynomials. The weights are fitted by maximum likelihood: the
law's mean is then the posterior's, and a latent that says nothing counts as the others do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from experiments.common.checks import require_number
from experiments.weak_supervision.binomials import log_binomials
from experiments.weak_supervision.evidence import log_bayes_factor, subset_posterior
from experiments.weak_supervision.group_vae import Choice, Context, GroupVAE, Terms
from mvhg import MultivariateHypergeometric

SELECTION_PRIORS = ("learned", "even")


class EvidenceHGVAE(GroupVAE):
    """Draws the set of independent latents from its exact posterior.

    The axes of the latent space are learned too: a rotation, to which the prior of the VAE is indifferent, turns them
    to where sharing has the most evidence. Nothing else of the networks is trained by the evidence.

    Args:
        tolerance: see ``log_bayes_factor``.
        weight_learning_rate_factor: of the log weight's learning rate on the training's.
        rotation_learning_rate_factor: of the rotation's; 0: the axes stay as they are.
        selection_prior: ``learned``, or ``even``, which draws sets as if both kinds had the same weight.
        settings: of ``GroupVAE``.

    Raises:
        ValueError: a setting is not allowed.
    """

    diagnostic_names = ("log_weight", "posterior_count", "selection_divergence")

    def __init__(
        self,
        *,
        tolerance: float,
        weight_learning_rate_factor: float,
        rotation_learning_rate_factor: float,
        selection_prior: str,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        require_number("model.tolerance", tolerance)
        require_number("model.weight_learning_rate_factor", weight_learning_rate_factor, above=True)
        require_number("model.rotation_learning_rate_factor", rotation_learning_rate_factor)
        if selection_prior not in SELECTION_PRIORS:
            allowed = ", ".join(SELECTION_PRIORS)
            raise ValueError(f"model.selection_prior must be one of {allowed}, got {selection_prior!r}")
        self.selection_prior = selection_prior
        self.tolerance = tolerance
        self.weight_learning_rate_factor = weight_learning_rate_factor
        self.rotation_learning_rate_factor = rotation_learning_rate_factor
        self.log_weight = nn.Parameter(torch.zeros(()))  # of independent marbles; shared ones have 0
        self.generator_of_rotation = nn.Parameter(torch.zeros(self.num_latents, self.num_latents))

    @property
    def rotation(self) -> Tensor:
        """The axes of the latent space, orthogonal [latents, latents]; row i is axis i."""
        # matrix_exp multiplies matrices, which autocast would do in half precision.
        with torch.autocast(self.log_weight.device.type, enabled=False):
            return torch.matrix_exp(self.generator_of_rotation - self.generator_of_rotation.T)

    def law(self, log_weight: Tensor | None = None) -> MultivariateHypergeometric:
        """The law of the numbers (independent, shared), with the learned log weight or another one."""
        size, log_weight = self.num_latents, self.log_weight if log_weight is None else log_weight
        log_weights = torch.stack([log_weight, torch.zeros_like(log_weight)])
        group_sizes = torch.tensor([size, size], device=log_weights.device)
        return MultivariateHypergeometric(size, group_sizes, log_weights=log_weights, validate_args=False)

    def log_prior(self, law: MultivariateHypergeometric) -> Tensor:
        """Log probability of each single set of independent latents by its size, [latents + 1]."""
        sizes = torch.arange(self.num_latents + 1, device=self.log_weight.device, dtype=self.log_weight.dtype)
        counts = torch.stack([sizes, self.num_latents - sizes], -1)
        return law.log_prob(counts) - log_binomials(self.num_latents, self.log_weight)

    def parameter_groups(self) -> list[dict[str, Any]]:
        factors = (self.weight_learning_rate_factor, self.rotation_learning_rate_factor)
        own = zip((self.log_weight, self.generator_of_rotation), factors)
        groups = [{"params": [parameter], "learning_rate_factor": factor} for parameter, factor in own]
        return [{"params": [*self.encoder.parameters(), *self.decoder.parameters()]}, *groups]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = super().encode(images)
        rotation = self.rotation.detach()
        with torch.autocast(mean.device.type, enabled=False):
            # The variances along the new axes; the covariances, which a normal posterior could have, are left out.
            return mean @ rotation.T, (log_variance.exp() @ rotation.square().T).log()

    def decode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents @ self.rotation.detach()
        return super().decode(latents)

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        rotation = self.rotation
        turned = (mean.detach() @ rotation.detach()) @ rotation.T  # the same means, with the rotation's gradient
        log_odds = -log_bayes_factor(turned, log_variance.detach(), self.tolerance)
        law = self.law()
        posterior = subset_posterior(log_odds, self.log_prior(law))
        drawn = posterior
        if self.selection_prior == "even" and not context.hard:
            drawn = posterior.under(self.log_prior(self.law(torch.zeros_like(self.log_weight))))
        whole = len(log_odds) * context.shard.world_size
        uniform = torch.rand(whole, self.num_latents + 1, generator=context.generator, device=mean.device)
        independent = drawn.draw(context.shard.part(uniform))
        with torch.no_grad():
            sizes = torch.arange(self.num_latents + 1, device=mean.device)
            posterior_count = (posterior.log_counts.exp() * sizes).sum(-1)
            expected = law.mean[0].expand(len(log_odds))
            # KL(q(S) || p(S)) = E_q[log likelihood ratio of S] - log evidence; the first term by one draw.
            divergence = ((independent - 1) * log_odds).sum(-1) - posterior.log_evidence
        diagnostics = {
            "log_weight": self.log_weight.detach(),
            "posterior_count": posterior_count.mean(),
            "selection_divergence": divergence.mean(),
        }
        return Choice(independent, independent.sum(-1), expected, diagnostics, -posterior.log_evidence.mean())

    def loss(self, terms: Terms, choice: Choice) -> Tensor:
        assert choice.loss is not None
        return super().loss(terms, choice) + choice.loss
