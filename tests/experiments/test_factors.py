"""The grid of the factors: its numbering is NumPy's row-major one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.weak_supervision.data.images import FactorGrid
from experiments.weak_supervision.data.mpi3d_factors import keep, thinned
from experiments.weak_supervision.data.sources import FACTORS

FULL = FactorGrid(FACTORS, (6, 6, 2, 3, 3, 40, 40))


@pytest.mark.parametrize("sizes", [(6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40), (6, 6, 2, 3, 3, 8, 8), (1,) * 7])
def test_numbering_is_row_major(sizes: tuple[int, ...]) -> None:
    grid = FactorGrid(FACTORS, sizes)
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


@pytest.mark.parametrize("kept", [1, 2, 4, 5, 8, 10, 20, 40])
def test_thinned_positions_are_even_and_as_far_from_both_ends(kept: int) -> None:
    positions = thinned(40, kept)
    assert len(positions) == kept
    assert set(np.diff(positions)) <= {40 // kept}
    assert abs(positions[0] - (39 - positions[-1])) <= 1


def kept_rows(grid: FactorGrid, levels: int | None, positions: int) -> torch.Tensor | None:
    stored = np.broadcast_to(np.zeros(1, np.uint8), (grid.num_images, 1, 1, 3))
    return keep("made_up", stored, grid, levels, positions).rows


def test_four_levels_and_fewer_positions_are_numpy_slices_of_the_full_grid() -> None:
    everything = np.arange(FULL.num_images).reshape(FULL.sizes)
    rows = kept_rows(FULL, 4, 8)
    assert rows is not None
    # green, red, blue, brown; cone, cube, hexagonal, sphere
    expected = everything[[1, 2, 3, 4]][:, [0, 1, 3, 5], ..., 2::5, 2::5]
    np.testing.assert_array_equal(rows.numpy(), expected.reshape(-1))


@pytest.mark.parametrize("levels", [None, 6])
def test_all_levels_and_positions_keep_the_grid(levels: int | None) -> None:
    assert kept_rows(FULL, levels, 40) is None
