"""Adding is cheap: a prior is a class and a file of configs/prior, new digits are a reader and an entry in SOURCES."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.clustering import data
from experiments.clustering.mnist import Digits
from experiments.clustering.pretraining import starts
from experiments.clustering.priors import BatchLaw, CategoricalPrior
from scripts import aggregate, pages
from tests.experiments.helpers import add_config, launch

PRIOR = f"""\
# @package _global_
# Learned probabilities that are pulled towards equal ones.
prior: smoothed
experiment:
  prior:
    _target_: {__name__}.SmoothedPrior
    share: 0.3
"""


@pytest.fixture(autouse=True)
def no_manifold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library compiles for half a minute; the clusters are looked for in the embedding itself."""
    monkeypatch.setattr(starts, "manifold", lambda embedding, *_: embedding)


class SmoothedPrior(CategoricalPrior):
    """A mixture of the categorical and the uniform prior."""

    def __init__(self, *, num_clusters: int, share: float) -> None:
        super().__init__(num_clusters=num_clusters)
        self.share = share

    def law(self, batch_size: int) -> BatchLaw:
        learned = self.logits.softmax(-1)
        return BatchLaw(((1 - self.share) * learned + self.share / self.num_clusters).log())


def collected(results: Path) -> tuple[str, str, list[str]]:
    """Table 2, the table of the weights and the names of the figures, as the commands make them of finished runs."""
    aggregate.main(["--results", str(results), "--output", str(results / "metrics"), "--profile", "smoke"])
    pages.write_pages(results / "metrics", results)
    texts = [(results / "tables" / name).read_text() for name in ("table_2.md", "clustering_weights.md")]
    return texts[0], texts[1], sorted(path.name for path in (results / "figures").glob("*.png"))


def test_a_fourth_prior_runs_and_stands_in_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_config(monkeypatch, tmp_path, "prior/smoothed.yaml", PRIOR)
    for prior in ("smoothed", "uniform"):
        launch(f"clustering prior={prior} version=60", tmp_path)
    table_2, weights, figures = collected(tmp_path)
    line = next(line for line in table_2.splitlines() if line.startswith("| ours: smoothed"))
    assert line.count(" - ") == 8, "two of three versions have no run"
    assert "| smoothed | 1 |" in weights
    assert {"clustering_history_smoke_n2d.png", "clustering_confusion_smoke_n2d.png"} <= set(figures)


def stripes(directory: Path) -> Digits:
    """Images of ten kinds, 28 x 28: rows and columns of one position each are white."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(420) % 10
    images = torch.randint(60, (420, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 3] = 255
    return Digits(images[:360].flatten(1), labels[:360], images[360:].flatten(1), labels[360:])


def test_new_digits_are_read_by_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.SOURCES, "stripes", stripes)
    choice = "experiment.data.source=stripes"
    for prior in ("uniform", "hypergeometric"):
        launch(f"clustering prior={prior} version=60", tmp_path, choice)
    table_2, _, figures = collected(tmp_path)
    assert "## N2D start, then VaDE, profile smoke, stripes" in table_2
    assert len(figures) == 4 and all(name.endswith("_smoke_stripes_n2d.png") for name in figures)
