"""What the denoising autoencoder has to undo: dropout of values; turns and shifts of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.clustering.pretraining.corruption import Corruption, drop

SIDE = 28
FAILURE_RATE = 1e-5  # of each statistical test when the code is right; the seeds are fixed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(row: float, column: float, width: float = 1.5) -> Tensor:
    """A smooth spot, [1, side * side]; the middle of the image is row = column = 0."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    spot = torch.exp(-((axis[:, None] - row) ** 2 + (axis - column) ** 2) / (2 * width**2))
    return spot.reshape(1, -1)


def centres(images: Tensor) -> np.ndarray:
    """Centre of mass (row, column) of each image, in pixels from the middle."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    square = images.reshape(-1, SIDE, SIDE)
    mass = square.sum((1, 2))
    return torch.stack([(square.sum(2) @ axis) / mass, (square.sum(1) @ axis) / mass], 1).numpy()


def test_nothing_changes_at_zero_settings() -> None:
    images = torch.rand(5, SIDE * SIDE, generator=generator(0))
    source = generator(1)
    state = source.get_state()
    assert torch.equal(Corruption()(images, source), images)
    assert torch.equal(source.get_state(), state), "nothing is drawn"


@pytest.mark.parametrize("dropout", [0.2, 0.75])
def test_dropout_zeroes_the_right_share_and_keeps_the_mean(dropout: float) -> None:
    """The number of zeros in 200,000 values by a binomial test (finds 0.6 percentage points); the mean follows."""
    values = torch.rand(400, 500, generator=generator(2)) + 0.5
    dropped = drop(values, dropout, generator(3))
    zeros = dropped == 0
    assert stats.binomtest(int(zeros.sum()), zeros.numel(), dropout).pvalue > FAILURE_RATE
    torch.testing.assert_close(dropped[~zeros], values[~zeros] / (1 - dropout))
    # Independent over digits and over pixels: the counts per row and per column have the binomial's variance.
    for axis, trials in ((0, 400), (1, 500)):
        ratio = float(zeros.float().sum(axis).var()) / (trials * dropout * (1 - dropout))
        assert 0.7 < ratio < 1.3  # more than four standard errors of a variance of 400 counts


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quarter_turn_is_that_of_numpy(sign: int) -> None:
    image = torch.rand(1, SIDE * SIDE, generator=generator(4))
    draws = {seed: torch.empty(4, 1).uniform_(-1, 1, generator=generator(seed))[0].item() for seed in range(100)}
    seed, draw = next((seed, draw) for seed, draw in draws.items() if draw * sign > 0.3)
    turned = Corruption(rotation=sign * 90 / draw).move(image, generator(seed))
    expected = np.rot90(image.reshape(SIDE, SIDE).numpy(), k=sign)
    np.testing.assert_allclose(turned.reshape(SIDE, SIDE), expected, atol=1e-4)


def test_turns_are_uniform_between_the_limits_in_degrees_and_keep_the_distance_from_the_middle() -> None:
    images = blob(-6.0, 0.0).expand(3000, -1)
    found = centres(Corruption(rotation=20.0).move(images, generator(6)))
    np.testing.assert_allclose(np.hypot(*found.T), 6.0, atol=0.05)
    angles = np.degrees(np.arctan2(found[:, 1], -found[:, 0]))
    assert stats.kstest(angles, "uniform", args=(-20, 40)).pvalue > FAILURE_RATE
    assert np.abs(angles).max() == pytest.approx(20, abs=0.3)


def test_shifts_are_uniform_shares_of_the_side_along_both_axes_independently() -> None:
    images = blob(0.0, 0.0).expand(3000, -1)
    found = centres(Corruption(shift=0.1).move(images, generator(7)))
    for axis in (0, 1):
        assert stats.kstest(found[:, axis], "uniform", args=(-2.8, 5.6)).pvalue > FAILURE_RATE
        assert np.abs(found[:, axis]).max() == pytest.approx(2.8, abs=0.03)
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / math.sqrt(len(found))


def test_what_leaves_the_image_is_gone_and_black_comes_in() -> None:
    moved = Corruption(shift=0.4).move(torch.ones(200, SIDE * SIDE), generator(9)).reshape(-1, SIDE, SIDE)
    assert (moved.amin((1, 2)) == 0).any()
    assert moved.max() <= 1 + 1e-6


def test_every_image_of_a_batch_has_a_draw_of_its_own_from_the_generator() -> None:
    images = blob(-4.0, 3.0).expand(6, -1)
    corruption = Corruption(dropout=0.1, rotation=20.0, shift=0.1)
    first, again, other = (corruption(images, generator(seed)) for seed in (10, 10, 11))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 6
    assert first.shape == images.shape


@pytest.mark.parametrize(
    ("setting", "value"), [("dropout", 1.0), ("dropout", -0.1), ("rotation", -1.0), ("shift", math.inf)]
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"\n{setting}\n"):
        Corruption(**{setting: value})
