"""The urn's rows through the one entry point, at the smoke profile, and the figures made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.training import derive_seed
from experiments.urn.problem import DATA_STREAM, UrnProblem
from scripts import aggregate, pages
from tests.experiments.helpers import add_config, csv_bytes, launch

TRAINED = ("urn estimator=merged", "urn estimator=exact")
ROWS = (*TRAINED, "urn estimator=maximum_likelihood", "urn estimator=squared_loss_optimum")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four estimators."""
    folder = tmp_path_factory.mktemp("results")
    for row in ROWS:
        launch(row, folder)
    return folder


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tables_and_the_same_datasets(row: str, results: Path) -> None:
    run = launch(row, results)
    assert set(csv_bytes(run)) == {"metrics.csv", "weights.csv"} | ({"history.csv"} if row in TRAINED else set())
    assert run.table("metrics")["second_weight"].tolist() == [1, 2]
    assert run.table("metrics").notna().all(axis=None)
    problem = UrnProblem(
        group_sizes=[200, 200, 200],
        total_count=180,
        second_weights=[1, 2],
        num_datasets=2,
        num_samples=50,
        train_fraction=0.8,
    )
    splits = problem.draw(torch.Generator().manual_seed(derive_seed(0, DATA_STREAM)))
    expected = problem.fit(splits.train)[1].flatten()
    np.testing.assert_allclose(run.table("weights")["standard_error"], expected, rtol=1e-12)


FIFTH = """# @package _global_
estimator: fifth
experiment:
  _target_: experiments.urn.closed_form.MaximumLikelihood
"""


def test_figures_and_table_show_a_fifth_estimator(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding one touches two files: its class and this configuration."""
    add_config(monkeypatch, tmp_path, "estimator/fifth.yaml", FIFTH)
    launch("urn estimator=fifth", results)
    metrics = tmp_path / "metrics"
    aggregate.main(["--results", str(results), "--profile", "smoke", "--output", str(metrics)])
    pages.write_pages(metrics, tmp_path / "all")
    every = {path.name: path.read_bytes() for path in (tmp_path / "all").glob("*/*")}
    names = {f"{name}.{kind}" for name in ("figure_7", "figure_8", "urn_recovery") for kind in ("png", "pdf")}
    assert set(every) == names | {"urn_recovery.md"}
    lines = [line.split(" | ") for line in every["urn_recovery.md"].decode().splitlines()[2:]]
    assert lines[0][-1] == "fifth |"
    assert [line[0] for line in lines[2:]] == ["| 1", "| 2"]
    assert all(line[-1] == f"{line[3]} |" for line in lines[2:])  # the same as maximum likelihood


def test_the_other_reading_of_the_papers_data_runs(tmp_path: Path) -> None:
    run = launch("urn estimator=merged", tmp_path, "experiment.problem.data_law=merged", "experiment.max_epochs=1")
    metrics: pd.DataFrame = run.table("metrics")
    assert metrics.notna().all(axis=None)
