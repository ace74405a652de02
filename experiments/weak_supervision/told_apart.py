"""How many latents hold something that differs between the views: what an estimate of k can see at best."""

from __future__ import annotations

import torch

from experiments.weak_supervision.data.images import FactorImages, load_batch
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.group_vae import GroupVAE

DISTANCE = 2  # standard deviations of the difference of two draws, one from each view's posterior
_BATCH = 250  # pairs at a time


@torch.no_grad()
def told_apart_columns(
    model: GroupVAE, images: FactorImages, sampler: PairSampler, pairs: int, generator: torch.Generator
) -> dict[str, float]:
    """Counts the latents whose two posteriors lie apart, without any choice of the method.

    Where each factor had latents of its own, the share of them that differ would be the share of factors that differ. A
    latent that holds parts of several factors differs with any of them, and more of them do.

    Args:
        model: what was trained.
        images: of the grid.
        sampler: of the split.
        pairs: how many, of each kind.
        generator: source of all randomness, on the device of model and sampler.

    Returns:
        Means over the pairs: ``told_apart``, of the sampler's pairs, and ``told_apart_unshared``, of pairs without a
        shared factor, where all that a latent holds differs.
    """
    unshared = PairSampler(sampler.grid, sampler.images, 0)
    return {
        "told_apart": _told_apart(model, images, sampler, pairs, generator),
        "told_apart_unshared": _told_apart(model, images, unshared, pairs, generator),
    }


def _told_apart(
    model: GroupVAE, images: FactorImages, sampler: PairSampler, pairs: int, generator: torch.Generator
) -> float:
    drawn = sampler.sample(pairs, generator)
    count = 0.0
    for index in drawn.index.split(_BATCH, 1):
        mean, log_variance = model.encode_pairs(load_batch(images, index, generator.device))
        limit = DISTANCE * log_variance.exp().sum(0).sqrt()
        count += float(((mean[0] - mean[1]).abs() > limit).sum())
    return count / pairs
