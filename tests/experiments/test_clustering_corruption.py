"""What the denoising autoencoder has to undo: dropout of values; turns, shifts and changes of size of images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.clustering.corruption import Corruption

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
    dropped = Corruption(dropout=dropout).drop(values, generator(3))
    zeros = dropped == 0
    assert stats.binomtest(int(zeros.sum()), zeros.numel(), dropout).pvalue > FAILURE_RATE
    torch.testing.assert_close(dropped[~zeros], values[~zeros] / (1 - dropout))
    assert float(dropped.mean()) == pytest.approx(float(values.mean()), rel=0.02)
    # Independent over digits and over pixels: the counts per row and per column have the binomial's variance.
    for axis, trials in ((0, 400), (1, 500)):
        ratio = float(zeros.float().sum(axis).var()) / (trials * dropout * (1 - dropout))
        assert 0.7 < ratio < 1.3  # more than four standard errors of a variance of 400 counts


def exactly(setting: str, value: float, draw: int, seed: int) -> Corruption:
    """A corruption that does exactly this to one image; draws: angle, size, horizontal and vertical shift."""
    uniform = torch.empty(4, 1).uniform_(-1, 1, generator=generator(seed))[draw].item()
    return Corruption(**{setting: value / uniform})


def seed_with(draw: int, sign: float) -> int:
    """A seed whose ``draw``-th number has this sign and is not small."""
    for seed in range(100):
        value = torch.empty(4, 1).uniform_(-1, 1, generator=generator(seed))[draw].item()
        if value * sign > 0.3:
            return seed
    raise AssertionError("no such seed")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quarter_turn_is_that_of_numpy(sign: int) -> None:
    image = torch.rand(1, SIDE * SIDE, generator=generator(4))
    seed = seed_with(0, sign)
    turned = exactly("rotation", sign * 90.0, 0, seed).move(image, generator(seed))
    expected = np.rot90(image.reshape(SIDE, SIDE).numpy(), k=sign)
    np.testing.assert_allclose(turned.reshape(SIDE, SIDE), expected, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_shift_by_whole_pixels_is_exact_along_its_axis(axis: int, sign: int) -> None:
    """The image moves along both axes; stripes that don't vary along the other one show this axis' part alone."""
    values = torch.zeros(SIDE)
    values[8:20] = torch.rand(12, generator=generator(5))
    stripes = values[:, None].expand(SIDE, SIDE) if axis == 0 else values.expand(SIDE, SIDE)
    draw = 3 if axis == 0 else 2
    seed = seed_with(draw, sign)
    moved = exactly("shift", sign * 4 / SIDE, draw, seed).move(stripes.reshape(1, -1), generator(seed))
    square = moved.reshape(SIDE, SIDE)
    middle = square[:, SIDE // 2] if axis == 0 else square[SIDE // 2]
    torch.testing.assert_close(middle, values.roll(-4 * sign), atol=1e-5, rtol=0)


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


def test_sizes_change_both_ways_up_to_the_limit() -> None:
    images = blob(-6.0, 0.0).expand(3000, -1)
    found = -centres(Corruption(scale=0.2).move(images, generator(8)))[:, 0] / 6
    assert stats.kstest(1 / found, "uniform", args=(0.8, 0.4)).pvalue > FAILURE_RATE
    assert found.min() == pytest.approx(1 / 1.2, abs=0.01)


def test_turns_and_sizes_are_independent() -> None:
    """Correlation within five standard errors, two-sided 6e-7."""
    found = centres(Corruption(rotation=20.0, scale=0.2).move(blob(-6.0, 0.0).expand(3000, -1), generator(12)))
    angles, sizes = np.arctan2(found[:, 1], -found[:, 0]), np.hypot(*found.T)
    assert abs(np.corrcoef(angles, sizes)[0, 1]) < 5 / math.sqrt(len(found))


def test_what_leaves_the_image_is_gone_and_black_comes_in() -> None:
    moved = Corruption(shift=0.4).move(torch.ones(200, SIDE * SIDE), generator(9)).reshape(-1, SIDE, SIDE)
    assert (moved.amin((1, 2)) == 0).any()
    assert moved.max() <= 1 + 1e-6


def test_every_image_of_a_batch_has_a_draw_of_its_own_from_the_generator() -> None:
    images = blob(-4.0, 3.0).expand(6, -1)
    corruption = Corruption(dropout=0.1, rotation=20.0, shift=0.1, scale=0.1)
    first, again, other = (corruption(images, generator(seed)) for seed in (10, 10, 11))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 6
    source = generator(10)
    assert not torch.equal(corruption(images, source), corruption(images, source))
    assert first.shape == images.shape


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("dropout", 1.0, r"dropout must lie in \[0, 1\), got 1.0"),
        ("dropout", -0.1, r"dropout must lie in \[0, 1\), got -0.1"),
        ("dropout", math.nan, r"dropout must lie in \[0, 1\), got nan"),
        ("scale", 1.0, r"scale must lie in \[0, 1\), got 1.0"),
        ("scale", -0.1, r"scale must lie in \[0, 1\), got -0.1"),
        ("rotation", -1.0, "rotation must be at least 0 and finite, got -1.0"),
        ("shift", math.inf, "shift must be at least 0 and finite, got inf"),
    ],
)
def test_bad_settings_are_named(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Corruption(**{setting: value})
