"""A new method and a new data set run through training, aggregation, tables and figures.

What the two need is what this file has: a class and a file in configs/method, a loader and a line in ``SOURCES``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.disentanglement.tables import figure_11_table
from experiments.figures import draw
from experiments.settings import ExperimentError
from experiments.weak_supervision import figures, tables
from experiments.weak_supervision.blocks import read_blocks
from experiments.weak_supervision.data import sources
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.group_vae import Choice, Context, GroupVAE
from scripts import aggregate
from tests.experiments.helpers import add_config, launch

pytestmark = pytest.mark.usefixtures("one_thread")

FACTORS = ("hue", "shape", "size")
CONFIG = f"""\
# @package _global_
method: first_latents
experiment:
  model:
    _target_: {__name__}.FirstLatents
"""
DATA = "experiment.data.source=blots"


class FirstLatents(GroupVAE):
    """A method: the first two latents are independent."""

    def choose(self, mean: Tensor, log_variance: Tensor, context: Context) -> Choice:
        independent = torch.zeros_like(mean[0])
        independent[:, :2] = 1
        count = independent.sum(-1)
        return Choice(independent, count, count)


def load_blots(image_size: int, levels: int | None, positions: int, directory: Path) -> FactorImages:
    """A data set of three factors: a blot of a hue, in one of three places, of one of four sizes."""
    grid = FactorGrid(FACTORS, (4, 3, 4))
    images = torch.zeros(grid.num_images, image_size, image_size, 3, dtype=torch.uint8)
    for number, (hue, shape, size) in enumerate(grid.factors_of(torch.arange(grid.num_images)).tolist()):
        images[number, 8 * shape : 8 * shape + 4 + size, : 6 + size, hue % 3] = 100 + 50 * (hue // 3)
    return FactorImages("blots", grid, images)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs of the method on mpi3d_sim and on the data set, and of HGVAE on the data set; collected."""
    folder = tmp_path_factory.mktemp("adding")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "blots", sources.Source("blots", load_blots, FACTORS))
        add_config(patch, folder, "method/first_latents.yaml", CONFIG)
        launch("weak_supervision method=first_latents shared=3", folder)
        for method in ("first_latents", "hgvae"):
            launch(f"weak_supervision method={method} shared=1", folder, DATA)
        with pytest.raises(ExperimentError, match="must be random or an integer in 0..2, got 3"):
            launch("weak_supervision method=hgvae shared=3", folder, DATA)
        aggregate.main(["--results", str(folder), "--profile", "smoke", "--output", str(folder / "metrics")])
        yield folder / "metrics"


def test_the_runs_are_collected(results: Path) -> None:
    metrics = pd.read_csv(results / "weak_supervision_metrics.csv")
    assert set(zip(metrics["method"], metrics["shared"], metrics["data"])) == {
        ("first_latents", 3, "mpi3d_sim"), ("first_latents", 1, "blots"), ("hgvae", 1, "blots")
    }  # fmt: skip
    of_blots = metrics[(metrics["data"] == "blots") & (metrics["method"] == "first_latents")].iloc[0]
    assert of_blots["count_error"] == 0, "three factors, one of them shared: two are independent"
    accuracies = pd.read_csv(results / "weak_supervision_accuracies.csv")
    assert set(accuracies.loc[accuracies["data"] == "blots", "factor"]) == set(FACTORS)


def test_both_stand_in_the_tables(results: Path) -> None:
    files = tables.tables(results)
    for name in ("table_1.md", "figure_2.md"):
        text = files[name]
        assert "## Profile smoke, mpi3d_sim, a rendered stand-in" in text and "## Profile smoke, blots" in text
        assert text.count("| ours: first_latents |") == 2
    assert "| ours: first_latents | 1 | 2 | 10 | 2.00 | 0.00 |" in files["figure_2.md"]
    with pytest.raises(ExperimentError):  # none was scored
        figure_11_table(read_blocks(results)[0])


def test_both_stand_in_the_figures(results: Path, tmp_path: Path) -> None:
    names = {path.name for path in draw(figures.figures(results), tmp_path)}
    for data in ("smoke", "smoke_blots"):
        assert {f"figure_2_{data}.png", f"weak_supervision_bounds_{data}.png"} <= names
    block = next(block for block in read_blocks(results) if block.data == "blots")
    figure = figures.figure_2(block)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["HGVAE", "ours: first_latents"]
    assert "against k = 3 - s" in " ".join(figure.texts[-1].get_text().split())
    plt.close(figure)


def test_who_reads_results_imports_no_torch() -> None:
    program = (
        "import sys, experiments.claims.summary, experiments.weak_supervision.figures; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
