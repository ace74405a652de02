"""Every experiment, with every method, prior, estimator and series, runs and repeats its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.configuration import axes_of, choices, experiments
from experiments.store import RunDirectory
from tests.experiments.helpers import csv_bytes, launch

TRAINED = {"disentanglement": "weak_supervision"}  # whose model it scores
EVERY = ("method", "prior", "estimator", "series")  # axes of which every value is run
ROWS = [
    f"{name} {axis}={value}"
    for name in experiments()
    for axis in axes_of(name)
    if axis in EVERY
    for value in choices(axis)
]
ROWS += ["clustering recipe=vade", "clustering_control prior=uniform"]
ROWS += ["accuracy", "kolmogorov_smirnov conditionals=merged sampler=sample", "weak_supervision shared=3"]
ROWS += ["clustering conditionals=merged version=60", "clustering reading=assignments version=80"]


def start(row: str, results: Path) -> RunDirectory:
    """Runs a row, after the row whose model it scores."""
    name, _, axes = row.partition(" ")
    if name in TRAINED:
        pytest.importorskip("disentanglement_lib", reason="needs the extra `disentanglement`")
        launch(f"{TRAINED[name]} {axes}", results)
    return launch(row, results)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_runs_and_the_same_seed_gives_the_same_bytes(row: str, tmp_path: Path) -> None:
    first = start(row, tmp_path / "first")
    assert first.finished() is not None
    assert not first.table("metrics").empty
    assert csv_bytes(first) == csv_bytes(start(row, tmp_path / "again"))


@pytest.mark.parametrize("row", ["kolmogorov_smirnov sampler=sample", "urn estimator=maximum_likelihood"])
def test_another_seed_gives_other_numbers_and_a_run_of_its_own(row: str, tmp_path: Path) -> None:
    first, second = launch(row, tmp_path), launch(row, tmp_path, "seed=1")
    assert first.path.parent == second.path.parent
    assert first.path != second.path
    assert csv_bytes(first) != csv_bytes(second)
