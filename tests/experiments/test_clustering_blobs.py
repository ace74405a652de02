"""The control of known sizes: overlap, images, and what the best classifier gains by knowing the sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.clustering.blobs import bayes_accuracies, draw, draw_points
from experiments.clustering.networks import Autoencoder


@pytest.mark.parametrize("overlap", [0.01, 0.05, 0.2])
def test_the_overlap_is_the_chance_to_lie_nearer_to_another_centre(overlap: float) -> None:
    """A binomial test on 50,000 points of one blob, failure rate 1e-5 for fixed seeds; finds a tenth more or less."""
    generator = torch.Generator().manual_seed(1)
    points = draw_points(overlap, torch.zeros(50_000, dtype=torch.int64), generator)
    nearer = int((points[:, 3] > points[:, 0]).sum())  # the centres lie equally far along the axes
    assert stats.binomtest(nearer, len(points), overlap).pvalue > 1e-5


def test_images_are_the_same_for_every_run_and_keep_what_tells_blobs_apart() -> None:
    """A nearest-centroid classifier on pixels comes near to the best one, which sees the points themselves."""
    digits, again = draw(0.01), draw(0.01)
    assert torch.equal(digits.train_images, again.train_images)
    assert digits.train_images.dtype == torch.uint8 and digits.train_images.shape == (8000, 784)
    assert torch.bincount(digits.train_labels).tolist() == [800] * 10
    train, test = digits.train_images.double().numpy(), digits.test_images.double().numpy()
    centroids = np.stack([train[digits.train_labels.numpy() == one].mean(0) for one in range(10)])
    distances = ((test[:, None] - centroids) ** 2).sum(-1)
    accuracy = float((distances.argmin(1) == digits.test_labels.numpy()).mean())
    knowing, equal = bayes_accuracies(0.01, [1.0] * 10)
    assert knowing == equal
    assert 0.85 < accuracy < knowing + 0.01


def test_knowing_the_sizes_pays_where_blobs_overlap_and_sizes_differ() -> None:
    """Two blobs matter to a pair alone: with 0.1:1 and an overlap of 2 % about two points, with none hardly any."""
    gains = {}
    for overlap in (1e-5, 0.02):
        for ratio in (1.0, 0.1):
            knowing, equal = bayes_accuracies(overlap, [ratio] * 5 + [1.0] * 5, points=40_000)
            gains[overlap, ratio] = knowing - equal
    assert gains[1e-5, 1.0] == gains[0.02, 1.0] == 0
    assert abs(gains[1e-5, 0.1]) < 0.001
    assert 0.015 < gains[0.02, 0.1] < 0.04


def test_a_turned_embedding_is_decoded_to_the_same_images() -> None:
    generator = torch.Generator().manual_seed(2)
    autoencoder, images = Autoencoder((20, 6, 3), generator), torch.rand(5, 20, generator=generator)
    with torch.no_grad():
        before, decoded = autoencoder.encode(images), autoencoder.decode(autoencoder.encode(images))
        matrix = torch.rand(3, 3, generator=generator) + torch.eye(3)
        autoencoder.turn(matrix, matrix.inverse())
        torch.testing.assert_close(autoencoder.encode(images), before @ matrix.T)
        torch.testing.assert_close(autoencoder.decode(autoencoder.encode(images)), decoded, rtol=1e-4, atol=1e-5)
