"""A control whose truth is known: ten Gaussian blobs, seen through a random decoder as images of 784 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from experiments.clustering.mnist import Digits
from experiments.clustering.scores import NUM_CLASSES

TRAIN_PER_CLASS, TEST_PER_CLASS = 800, 400
HIDDEN, PIXELS = 64, 784
SEED = 0  # the same blobs for every run: a run's seed does not change the data


def distance(overlap: float) -> float:
    """Distance of any two centres in standard deviations.

    Args:
        overlap: chance, above 0 and below 1/2, that a point of one blob lies nearer to a given other centre.
    """
    return float(-2 * norm.ppf(overlap))


def draw_points(overlap: float, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Points [points, 10] of unit variance around the corners of a regular simplex, float64."""
    centres = torch.eye(NUM_CLASSES, dtype=torch.float64) * distance(overlap) / 2**0.5
    noise = torch.empty(len(labels), NUM_CLASSES, dtype=torch.float64).normal_(generator=generator)
    return centres[labels] + noise


def draw(overlap: float) -> Digits:
    """Draws equally many images of every blob; the versions of the data set cut half of them."""
    generator = torch.Generator().manual_seed(SEED)
    hidden = torch.empty(NUM_CLASSES, HIDDEN, dtype=torch.float64).normal_(generator=generator) / NUM_CLASSES**0.5
    shift = torch.empty(HIDDEN, dtype=torch.float64).normal_(generator=generator)
    pixels = torch.empty(HIDDEN, PIXELS, dtype=torch.float64).normal_(generator=generator) * (4 / HIDDEN) ** 0.5
    parts: list[Tensor] = []
    for per_class in (TRAIN_PER_CLASS, TEST_PER_CLASS):
        labels = torch.arange(NUM_CLASSES).repeat(per_class)
        labels = labels[torch.randperm(len(labels), generator=generator)]
        points = draw_points(overlap, labels, generator)
        images = ((points @ hidden + shift).tanh() @ pixels).sigmoid()
        parts += [(255 * images).round().to(torch.uint8), labels]
    return Digits(*parts)


def bayes_accuracies(overlap: float, sizes: Sequence[float], points: int = 100_000) -> tuple[float, float]:
    """Accuracy of the best classifier that knows the sizes, and of the one that takes them for equal.

    Args:
        overlap: of the blobs.
        sizes: how often each of the ten comes, up to a factor.
        points: drawn; the standard error is below 0.002, that of the difference about a third of it.
    """
    generator = torch.Generator().manual_seed(SEED)
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    labels = torch.multinomial(shares, points, replacement=True, generator=generator)
    # With a common variance and centres at equal distances, log p(z | k) is z_k times their norm, up to a constant.
    scores = draw_points(overlap, labels, generator) * distance(overlap) / 2**0.5
    found = [(scores + prior).argmax(-1) for prior in (shares.log(), torch.zeros_like(shares))]
    knowing, equal = (float(np.mean((one == labels).numpy())) for one in found)
    return knowing, equal
