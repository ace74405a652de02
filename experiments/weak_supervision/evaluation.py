"""What a trained model says about pairs of a split: bounds, the number of independent latents, and encodings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.weak_supervision.classification import EncodedPairs, parts
from experiments.weak_supervision.data.images import FactorImages, load_batch
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.group_vae import (
    OBJECTIVES,
    Context,
    GroupVAE,
    Terms,
    average,
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
        encoded: the parts of the representation, and the truth.
        independent: bool [pairs, latents], which latents are independent, one draw.
        aggregated: [pairs, 2, latents], posterior means after aggregation by that draw.
        count: [pairs], the number of independent latents, one draw.
        expected_count: [pairs], its mean under the method's law.
        true_count: [pairs], the number of factors that differ.
        changed_pixels: [pairs], the number of pixels that differ: what the images say of k without any model.
        bounds: the bound in nats per image, of each objective, in their order.
        means: [pairs, 2, latents], posterior means before aggregation.
        divergence: [latents], mean KL to the prior, in nats.
        selection: mean divergence of the set's posterior from its prior, in nats per image; NaN where it has none.
    """

    encoded: EncodedPairs
    independent: Tensor
    aggregated: Tensor
    count: Tensor
    expected_count: Tensor
    true_count: Tensor
    changed_pixels: Tensor
    bounds: tuple[Terms, ...]
    means: Tensor
    divergence: Tensor
    selection: float

    @property
    def active(self) -> Tensor:
        """Bool [latents], whose posterior mean varies over the data."""
        return self.means.flatten(0, 1).var(0) > ACTIVE_VARIANCE


@torch.no_grad()
def evaluate(
    model: GroupVAE,
    images: FactorImages,
    sampler: PairSampler,
    pairs: int,
    temperature: float,
    generator: torch.Generator,
) -> Evaluated:
    """Draws pairs and passes them through a model; choices are whole decisions.

    The parts of the representation are means over the posterior of the set where the method has one.

    Args:
        model: what was trained.
        images: of the grid.
        sampler: of the split.
        pairs: how many.
        temperature: of the relaxations, which draw whole counts here.
        generator: source of all randomness, on the device of model and sampler.

    Returns:
        Everything on the CPU.
    """
    device = generator.device
    drawn = sampler.sample(pairs, generator)
    batches: list[tuple[Tensor, ...]] = []
    terms: list[Tensor] = []
    selection = 0.0
    for start in range(0, pairs, _BATCH):
        batch = slice(start, min(start + _BATCH, pairs))
        views = load_batch(images, drawn.index[:, batch], device)
        mean, log_variance = model.encode_pairs(views)
        context = Context(drawn.label[batch], torch.tensor(temperature, device=device), generator, hard=True)
        choice = model.choose(mean, log_variance, context)
        selection += float(choice.diagnostics.get("selection_divergence", math.nan)) * mean.shape[1] / (2 * pairs)
        noise = torch.randn(mean.shape, generator=generator, device=device)
        bounds = [model.bound(views, mean, log_variance, noise, choice.independent, name) for name in OBJECTIVES]
        terms.append(torch.stack([torch.stack(one) for one in bounds]).double().sum(-1).cpu())  # [objectives, terms]
        aggregated, _ = model.aggregate(mean, log_variance, choice.independent)
        shared = average(torch.stack([mean, log_variance]), model.averaging)[0]
        probability = choice.independent if choice.probability is None else choice.probability
        own, kl = mean.movedim(0, 1), kl_to_prior(mean, log_variance).movedim(0, 1)
        first, second = views.chunk(2)
        changed_pixels = (first != second).any(1).flatten(1).sum(1)
        batches.append(tuple(
            values.float().cpu()
            for values in (
                *parts(own, shared, probability), aggregated.movedim(0, 1), choice.independent, choice.count,
                choice.expected_count, changed_pixels, own, kl,
            )
        ))  # fmt: skip
    of_shared, of_independent, aggregated, chosen, count, expected, pixels, means, kl = map(torch.cat, zip(*batches))
    factors, differ = images.grid.factors_of(drawn.index).movedim(0, 1).cpu(), drawn.changed.cpu()
    encoded = EncodedPairs(images.grid.names, of_shared, of_independent, factors, ~differ)
    mean_bounds = tuple(Terms(*values) for values in torch.stack(terms).sum(0) / pairs)
    changed = differ.sum(-1).float()
    return Evaluated(
        encoded, chosen > 0.5, aggregated, count, expected, changed, pixels, mean_bounds, means, kl.mean((0, 1)),
        selection,
    )  # fmt: skip


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
        views = load_batch(images, drawn.index[:, batch], generator.device)
        mean, log_variance = model.encode_pairs(views)
        divergences = divergence(mean, log_variance, "symmetric")
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)  # the same for every k
        for count in range(model.num_latents + 1):
            independent = largest_latents(divergences, count)
            for position, name in enumerate(OBJECTIVES):
                terms = model.bound(views, mean, log_variance, noise, independent, name)
                sums[count, position] += (terms.reconstruction - terms.divergence).sum().cpu()
    table = pd.DataFrame((sums / pairs).numpy(), columns=list(OBJECTIVES))
    table.insert(0, "independent", range(model.num_latents + 1))
    return table


def count_columns(evaluated: Evaluated) -> dict[str, float]:
    """How many latents are independent, and the squared errors of that number (Figure 2).

    Returns:
        ``count_error``, (E[k-hat] - k)^2 with k the number of factors that differ, both as means over the pairs;
        ``scaled_count_error``, the same of E[k-hat] factors / latents, which needs no latent per factor;
        ``draw_count_error``, the mean over the pairs of (k-hat - k)^2 for one draw each; ``shared_error`` and
        ``draw_shared_error``, the same of the literal s-hat = d - k-hat against s; ``active_independent``,
        ``active_shared`` and ``inactive``, mean numbers of latents; ``active_count_error``, of the first of these.
    """
    factors, latents = len(evaluated.encoded.names), evaluated.means.shape[-1]
    true = evaluated.true_count.double()
    expected, count = evaluated.expected_count.double().mean(), evaluated.count.double()
    active = evaluated.active.double()
    active_independent = (evaluated.independent.double() @ active).mean()
    literal = latents - factors  # s-hat - s = d - k-hat - (factors - k)
    return {
        "expected_count": expected.item(),
        "drawn_count": count.mean().item(),
        "count_error": (expected - true.mean()).square().item(),
        "scaled_count_error": (expected * factors / latents - true.mean()).square().item(),
        "draw_count_error": (count - true).square().mean().item(),
        "shared_error": (expected - literal - true.mean()).square().item(),
        "draw_shared_error": (count - literal - true).square().mean().item(),
        "active_count_error": (active_independent - true.mean()).square().item(),
        "active_latents": int(active.sum()),
        "active_independent": active_independent.item(),
        "active_shared": (active.sum() - active_independent).item(),
        "inactive": (latents - active.sum()).item(),
    }


def bound_columns(evaluated: Evaluated) -> dict[str, Any]:
    """The bounds by objective, the reconstruction term that they share, and the set's divergence, in neither."""
    columns: dict[str, Any] = {"reconstruction": float(evaluated.bounds[0].reconstruction)}
    for name, terms in zip(OBJECTIVES, evaluated.bounds):
        columns[f"{name}_bound"] = float(terms.reconstruction - terms.divergence)
    return columns | {"selection_divergence": evaluated.selection}
