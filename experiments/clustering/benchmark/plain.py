"""The other side: the same network and loss as one would write them in a notebook, with a bare loop around them.

Nothing here uses the project's model; the hypergeometric prior alone calls the library.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvhg import MultivariateHypergeometric

LEARNING_RATE = 0.001


def _stack(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers


class PlainVaDE(nn.Module):
    """VAE with a mixture of Gaussians as latent prior; calling it gives the loss.

    Args:
        widths: of the encoder.
        clusters: components of the mixture.
        prior: ``categorical``, ``uniform`` or ``hypergeometric``.
        minimum_variance: of the components.
        initial_variance: of q(z | x).
    """

    def __init__(
        self, widths: Sequence[int], clusters: int, prior: str, minimum_variance: float, initial_variance: float
    ) -> None:
        super().__init__()
        *_, before, latent = widths
        self.encoder = nn.Sequential(*_stack(widths[:-1]))
        self.to_mean = nn.Linear(before, latent)
        self.to_log_variance = nn.Linear(before, latent)
        nn.init.zeros_(self.to_log_variance.weight)
        nn.init.constant_(self.to_log_variance.bias, math.log(initial_variance))
        self.decoder = nn.Sequential(*_stack(widths[:0:-1]), nn.Linear(widths[1], widths[0]))
        self.centres = nn.Parameter(torch.randn(clusters, latent))
        self.spreads = nn.Parameter(torch.zeros(clusters, latent))
        self.log_weights = nn.Parameter(torch.zeros(clusters)) if prior != "uniform" else None
        self.prior = prior
        self.lowest = math.log(minimum_variance)

    def forward(self, x: Tensor, normal: Tensor, gumbel: Tensor, temperature: float) -> Tensor:
        """Negative evidence lower bound in nats per digit.

        Args:
            x: images [batch, pixels] in [0, 1].
            normal: standard normal [batch, latent].
            gumbel: standard Gumbel [batch, clusters].
            temperature: of the Gumbel-softmax.
        """
        n, clusters = gumbel.shape
        hidden = self.encoder(x)
        mean, log_variance = self.to_mean(hidden), self.to_log_variance(hidden)
        variance = log_variance.exp()
        z = mean + variance.sqrt() * normal
        distortion = functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")

        spreads = self.spreads.clamp(min=self.lowest)
        precision = (-spreads).exp()
        height = -0.5 * (spreads + math.log(2 * math.pi)).sum(-1)  # [clusters]
        likelihood = height - 0.5 * ((z[:, None] - self.centres).square() * precision).sum(-1)  # [batch, clusters]
        distance = (mean[:, None] - self.centres).square() + variance[:, None]
        expected = height - 0.5 * (distance * precision).sum(-1)
        entropy = 0.5 * (log_variance + math.log(2 * math.pi) + 1).sum()

        if self.prior == "hypergeometric":
            sizes = torch.full((clusters,), n, device=x.device)
            urn = MultivariateHypergeometric(n, sizes, log_weights=self.log_weights, validate_args=False)
            log_share = (urn.mean / n).log()
        elif self.log_weights is not None:
            log_share = self.log_weights.log_softmax(-1)
        else:
            log_share = torch.zeros_like(height)
        log_q = (likelihood + log_share).log_softmax(-1)
        q = log_q.exp()
        log_prior: Tensor | float
        if self.prior == "hypergeometric":
            soft = ((log_q + gumbel) / temperature).softmax(-1)
            hard = functional.one_hot(soft.argmax(-1), clusters)
            log_prior = urn.log_prob((hard + soft - soft.detach()).sum(0))
        elif self.log_weights is not None:
            log_prior = (q * log_share).sum()
        else:
            log_prior = -n * math.log(clusters)
        return (distortion - (q * (expected - log_q)).sum() - entropy - log_prior) / n


def plain_loop(
    model: PlainVaDE,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    *,
    batch_size: int,
    steps: int,
    warm_up: int,
    temperature: Callable[[int], float],
    synchronize: Callable[[], None],
) -> float:
    """Trains and returns the seconds of the steps after the warm-up.

    Args:
        model: on the images' device.
        optimizer: of its parameters.
        images: float32 [digits, pixels] in [0, 1], at least ``(warm_up + steps) * batch_size`` of them.
        batch_size: digits per step.
        steps: timed steps.
        warm_up: steps before them; the mean loss is read once in as many steps.
        temperature: of the Gumbel-softmax, over the steps.
        synchronize: waits for the device.
    """
    clusters, latent = model.centres.shape
    order = torch.randperm(len(images), device=images.device)
    normal = torch.empty(batch_size, latent, device=images.device)
    exponential = torch.empty(batch_size, clusters, device=images.device)
    losses: list[Tensor] = []
    start = 0.0
    for step in range(warm_up + steps):
        if step == warm_up:
            synchronize()
            start = time.perf_counter()
        x = images.index_select(0, order[step * batch_size : (step + 1) * batch_size])
        gumbel = exponential.exponential_().log().neg()
        loss = model(x, normal.normal_(), gumbel, temperature(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if len(losses) == warm_up:
            mean = torch.stack(losses).mean().item()
            losses.clear()
            if not math.isfinite(mean):
                raise FloatingPointError(f"the plain loop's loss is {mean} at step {step + 1}")
    synchronize()
    return time.perf_counter() - start
