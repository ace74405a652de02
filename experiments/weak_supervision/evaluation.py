"""What a trained model says about pairs of a split: bounds, the number of independent latents, and encodings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.weak_supervision.classification import EncodedPairs
from experiments.weak_supervision.data.images import FactorImages, load_batch
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.group_vae import (
    OBJECTIVES,
    Context,
    GroupVAE,
    Terms,
    divergence,
    kl_to_prior,
    largest_latents,
)

ACTIVE_VARIANCE = 0.01  # of the posterior mean over the data: an active latent (Burda et al. 2016)
_BATCH = 250  # pairs at a time


@dataclass(frozen=True)
class Evaluated:
    """Pairs as a model sees them.

    Attributes:
        encoded: posterior means after aggregation, and the truth.
        count: [pairs], the number of independent latents, one draw.
        expected_count: [pairs], its mean under the method's law.
        bounds: the bound in nats per image, of each objective, in their order.
        means: [pairs, 2, latents], posterior means before aggregation.
        divergence: [latents], mean KL to the prior, in nats.
    """

    encoded: EncodedPairs
    count: Tensor
    expected_count: Tensor
    bounds: tuple[Terms, ...]
    means: Tensor
    divergence: Tensor


@torch.no_grad()
def evaluate(
    model: GroupVAE,
    images: FactorImages,
    sampler: PairSampler,
    pairs: int,
    temperature: float,
    generator: torch.Generator,
) -> Evaluated:
    """Draws pairs and passes them through a model on the CPU; choices are whole decisions.

    Args:
        model: what was trained.
        images: of the grid.
        sampler: of the split.
        pairs: how many.
        temperature: of the relaxations, which draw whole counts here.
        generator: source of all randomness.
    """
    drawn = sampler.sample(pairs, generator)
    parts: list[tuple[Tensor, ...]] = []
    terms: list[Tensor] = []
    for start in range(0, pairs, _BATCH):
        batch = slice(start, min(start + _BATCH, pairs))
        views = load_batch(images, drawn.index[:, batch], torch.device("cpu"))
        mean, log_variance = model.encode_pairs(views)
        context = Context(drawn.label[batch], torch.tensor(temperature), generator, hard=True)
        choice = model.choose(mean, log_variance, context)
        noise = torch.randn(mean.shape, generator=generator)
        bounds = [model.bound(views, mean, log_variance, noise, choice.independent, name) for name in OBJECTIVES]
        terms.append(torch.tensor(bounds).double() * mean.shape[1])  # [objectives, terms]
        aggregated, _ = model.aggregate(mean, log_variance, choice.independent)
        kl = kl_to_prior(mean, log_variance)
        parts.append(tuple(
            values.float()
            for values in (
                aggregated.movedim(0, 1), choice.independent, choice.count, choice.expected_count,
                mean.movedim(0, 1), kl.movedim(0, 1),
            )
        ))  # fmt: skip
    aggregated, independent, count, expected, means, kl = (torch.cat(values) for values in zip(*parts))
    factors = images.grid.factors_of(drawn.index).movedim(0, 1)  # [pairs, 2, factors]
    encoded = EncodedPairs(images.grid.names, aggregated, independent > 0.5, factors, ~drawn.changed)
    averages = torch.stack(terms).sum(0) / pairs
    return Evaluated(encoded, count, expected, tuple(Terms(*values) for values in averages), means, kl.mean((0, 1)))


@torch.no_grad()
def bound_profile(
    model: GroupVAE, images: FactorImages, sampler: PairSampler, pairs: int, generator: torch.Generator
) -> pd.DataFrame:
    """The bound of a trained model when the k latents of largest divergence are independent, for every k.

    It shows what the bound knows about k: where it is flat, no gradient of it can find k.

    Returns:
        A line per k: ``independent`` (k), and the bounds ``per_view`` and ``joint`` in nats per image.
    """
    drawn = sampler.sample(pairs, generator)
    sums = torch.zeros(model.num_latents + 1, len(OBJECTIVES), dtype=torch.float64)
    for start in range(0, pairs, _BATCH):
        batch = slice(start, min(start + _BATCH, pairs))
        views = load_batch(images, drawn.index[:, batch], torch.device("cpu"))
        mean, log_variance = model.encode_pairs(views)
        divergences = divergence(mean, log_variance, "symmetric")
        noise = torch.randn(mean.shape, generator=generator)  # the same for every k
        for count in range(model.num_latents + 1):
            independent = largest_latents(divergences, count)
            for position, name in enumerate(OBJECTIVES):
                terms = model.bound(views, mean, log_variance, noise, independent, name)
                sums[count, position] += (terms.reconstruction - terms.divergence) * mean.shape[1]
    table = pd.DataFrame((sums / pairs).numpy(), columns=list(OBJECTIVES))
    table.insert(0, "independent", range(model.num_latents + 1))
    return table


def count_errors(evaluated: Evaluated, shared: int) -> dict[str, float]:
    """Squared errors of the number of independent latents (Figure 2), in both readings.

    Args:
        evaluated: see there.
        shared: s, the number of factors that the pairs share.

    Returns:
        ``count_error``, (E[k-hat] - k)^2 with k the number of factors that differ and the mean over the law and the
        pairs; ``draw_count_error``, the mean over the pairs of (k-hat - k)^2 for one draw each; and the same for the
        literal s-hat = d - k-hat against s: ``shared_error`` and ``draw_shared_error``.
    """
    independent = len(evaluated.encoded.names) - shared
    literal = evaluated.encoded.num_latents - shared
    expected, count = evaluated.expected_count.double().mean(), evaluated.count.double()
    return {
        "expected_count": expected.item(),
        "drawn_count": count.mean().item(),
        "count_error": (expected - independent).square().item(),
        "draw_count_error": (count - independent).square().mean().item(),
        "shared_error": (expected - literal).square().item(),
        "draw_shared_error": (count - literal).square().mean().item(),
    }


def bound_columns(evaluated: Evaluated) -> dict[str, Any]:
    """The bounds by objective, with the reconstruction term that they share."""
    columns: dict[str, Any] = {"reconstruction": float(evaluated.bounds[0].reconstruction)}
    for name, terms in zip(OBJECTIVES, evaluated.bounds):
        columns[f"{name}_bound"] = float(terms.reconstruction - terms.divergence)
    return columns


def active_latents(evaluated: Evaluated) -> int:
    """Number of latents whose posterior mean varies over the data."""
    return int((evaluated.means.flatten(0, 1).var(0) > ACTIVE_VARIANCE).sum())
