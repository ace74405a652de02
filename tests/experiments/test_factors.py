"""The grid of the factors: its numbering is NumPy's row-major one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.weak_supervision.factors import FACTORS, FactorGrid
from experiments.weak_supervision.thinning import kept_values, rows_of, thinned

FULL = FactorGrid((6, 6, 2, 3, 3, 40, 40))


@pytest.mark.parametrize("sizes", [(6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40), (6, 6, 2, 3, 3, 8, 8), (1,) * 7])
def test_numbering_is_row_major(sizes: tuple[int, ...]) -> None:
    grid = FactorGrid(sizes)
    assert grid.num_images == np.prod(sizes)
    index = torch.randint(grid.num_images, (50, 4), generator=torch.Generator().manual_seed(0))
    factors = grid.factors_of(index)
    np.testing.assert_array_equal(factors.numpy(), np.stack(np.unravel_index(index.numpy(), sizes), axis=-1))
    known = np.ravel_multi_index(tuple(np.moveaxis(factors.numpy(), -1, 0)), sizes)
    np.testing.assert_array_equal(grid.index_of(factors).numpy(), known)
    assert torch.equal(grid.index_of(factors), index)


def test_published_sizes() -> None:
    assert (FULL.num_images, len(FACTORS)) == (1_036_800, 7)
    assert FULL.factors_of(torch.tensor(FULL.num_images - 1)).tolist() == [5, 5, 1, 2, 2, 39, 39]


@pytest.mark.parametrize("sizes", [(6, 6, 2, 3, 3, 40), (6, 6, 2, 3, 3, 40, 0), (6, 6, 2, 3, 3, 40, 2.0)])
def test_other_sizes_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sizes must hold one number|size of vertical_axis must be an integer"):
        FactorGrid(sizes)


@pytest.mark.parametrize("kept", [1, 2, 4, 5, 8, 10, 20, 40])
def test_thinned_positions_are_even_and_as_far_from_both_ends(kept: int) -> None:
    positions = thinned(40, kept)
    assert len(positions) == kept
    assert set(np.diff(positions)) <= {40 // kept}
    assert abs(positions[0] - (39 - positions[-1])) <= 1


def test_four_levels_and_fewer_positions_are_numpy_slices_of_the_full_grid() -> None:
    everything = np.arange(FULL.num_images).reshape(FULL.sizes)
    rows = rows_of(FULL, kept_values(FULL, 4, 8))
    # green, red, blue, brown; cone, cube, hexagonal, sphere
    expected = everything[[1, 2, 3, 4]][:, [0, 1, 3, 5], ..., 2::5, 2::5]
    np.testing.assert_array_equal(rows.numpy(), expected.reshape(-1))


def test_all_levels_and_positions_keep_the_grid() -> None:
    small = FactorGrid((6, 6, 1, 2, 1, 2, 3))
    for levels in (None, 6):
        assert [list(values) for values in kept_values(FULL, levels, 40)] == [list(range(n)) for n in FULL.sizes]
    rows = rows_of(small, [range(size) for size in small.sizes])
    assert torch.equal(rows, torch.arange(small.num_images))
