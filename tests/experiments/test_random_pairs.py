"""Table and figure of pairs that share a random number of factors, from metrics made up here."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.weak_supervision.blocks import read_blocks
from experiments.weak_supervision.figures import figures
from experiments.weak_supervision.random_pairs import figure_confusion, random_blocks, random_table
from tests.experiments.weak_supervision_metrics import write_block, write_random


def test_estimates_pair_by_pair_are_shares_of_the_pairs_of_each_k(tmp_path: Path) -> None:
    write_block(tmp_path, methods=["hgvae"], seeds=[0])
    write_random(tmp_path, "hgvae", 0, {1: [3, 3, 4, 4], 2: [4, 4, 4, 5]})
    write_random(tmp_path, "hgvae", 1, {1: [3, 3, 3, 3], 2: [5, 5, 5, 5]})
    (block,) = read_blocks(tmp_path)
    figure = figure_confusion(block)
    ax = figure.axes[0]
    shares = np.asarray(ax.images[0].get_array())
    assert shares.shape == (11, 2)
    np.testing.assert_allclose(shares[3:6].T, [[0.75, 0.25, 0], [0, 0.375, 0.625]])
    assert shares.sum() == pytest.approx(2)
    assert [np.asarray(line.get_ydata()).tolist() for line in ax.lines] == [[3.5, 4.25], [3, 5]]
    assert ax.get_title() == "HGVAE\nrank correlation 0.60 ± 0.10"
    plt.close(figure)


def test_pairs_of_random_numbers_alone_are_shown_and_scaled_by_each_runs_own_latents(tmp_path: Path) -> None:
    """k = 1 and 2, estimates of 4 and 6: of ten latents (2.8 - 1)^2 and (4.2 - 2)^2, of seven 9 and 16."""
    write_random(tmp_path, "hgvae", 0, {1: [4, 4], 2: [6, 6]})
    write_random(tmp_path, "hgvae", 0, {1: [4, 4], 2: [6, 6]}, changes="model.num_latents=7", latents=7)
    (name,) = [name for name in figures(tmp_path) if "confusion" in name]
    plt.close(figures(tmp_path)[name]())
    (block,) = random_blocks(tmp_path)
    table = random_table(block)
    column = table.header.index("scaled error; the best constant's")
    assert [row[column] for row in table.rows[:2]] == ["4.04; 0.25", "12.50; 0.25"]
