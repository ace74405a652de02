"""Every row under configs/experiment composes, runs and repeats its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.common.configuration import CONFIGS, rows
from experiments.common.store import RunDirectory
from tests.experiments.helpers import csv_bytes, launch


def test_there_are_rows_of_both_experiments() -> None:
    assert {row.split("/")[0] for row in rows()} >= {"kolmogorov_smirnov", "urn"}


def start(row: str, results: Path) -> RunDirectory:
    """Runs a row, after the row whose model it scores."""
    room, _, name = row.partition("/")
    if room == "disentanglement":
        pytest.importorskip("disentanglement_lib", reason="needs the extra `disentanglement`")
        launch(f"weak_supervision/{name}", results)
    return launch(row, results)


@pytest.mark.parametrize("row", rows())
def test_a_row_runs_and_the_same_seed_gives_the_same_bytes(row: str, tmp_path: Path) -> None:
    first = start(row, tmp_path / "first")
    assert first.finished() is not None
    assert not first.table("metrics").empty
    # Rows of pairs that differ in their number of shared factors alone need not all be run twice.
    if row.startswith("weak_supervision") and not row.endswith("_s3"):
        return
    assert csv_bytes(first) == csv_bytes(start(row, tmp_path / "again"))


@pytest.mark.parametrize("row", ["kolmogorov_smirnov/weights_exact_sample", "urn/maximum_likelihood"])
def test_another_seed_gives_other_numbers_and_a_run_of_its_own(row: str, tmp_path: Path) -> None:
    first, second = launch(row, tmp_path), launch(row, tmp_path, "seed=1")
    assert first.path.parent == second.path.parent
    assert first.path != second.path
    assert csv_bytes(first) != csv_bytes(second)


@pytest.mark.parametrize("row", rows())
def test_a_row_names_the_command_that_runs_it(row: str) -> None:
    text = (CONFIGS / "experiment" / f"{row}.yaml").read_text()
    assert f"#   python -m experiments.run experiment={row}\n" in text
