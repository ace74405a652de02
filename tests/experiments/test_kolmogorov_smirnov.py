"""The sampling pipeline, and that the experiment sees what it must see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.context import RunContext
from experiments.kolmogorov_smirnov import experiment
from experiments.kolmogorov_smirnov.experiment import KolmogorovSmirnov
from experiments.kolmogorov_smirnov.series import Series, Urn, histogram
from experiments.kolmogorov_smirnov.tables import read_tests, rejections_table
from experiments.store import RunDirectory
from experiments.tracking import Tracker
from scripts import aggregate, pages
from tests.experiments.conftest import MakeOnce
from tests.experiments.helpers import add_config, csv_bytes, launch

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


BASE: dict[str, Any] = {"total_count": 5, "group_sizes": [3, 5, 4], "weights": [1, 1, 1]}


def test_a_series_varies_what_it_says() -> None:
    assert [urn.weights for urn in Series(**BASE, parameter="weight", values=[2, 7]).urns("a")] == [
        (1, 2, 1),
        (1, 7, 1),
    ]
    assert Series(**BASE, parameter="total_count", values=[6]).urns("b")[0].total_count == 6
    assert Series(**BASE, parameter="group_size", values=[9], varied_group=2).urns("c")[0].group_sizes == (3, 5, 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": [60.5], "parameter": "total_count"}, "values of a total_count must be whole numbers, got .60.5"),
        ({"varied_group": 3}, r"varied_group must be in 0..2, got 3"),
        ({"weights": [1, 1]}, "weights must have one entry a group"),
        ({"values": [-1]}, "weight -1: .*weights"),
        ({"total_count": 13}, "weight 2: .*total_count"),
    ],
)
def test_bad_series_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Series(**BASE | {"parameter": "weight", "values": [2]} | changes)


def small(
    tmp_path: Path, sampler: str = "sample", conditionals: str = "exact", series: str = "weights"
) -> pd.DataFrame:
    """The metrics of a small urn with strongly different weights."""
    urns = Series(parameter="weight", values=[8], total_count=12, group_sizes=[10, 10, 10], weights=[1, 1, 1])
    tests = KolmogorovSmirnov(
        series={series: urns},
        conditionals=conditionals,  # type: ignore[arg-type]
        sampler=sampler,  # type: ignore[arg-type]
        references=["exact", "merged"],
        draws=20_000,
        batch_size=6_000,
        significance=0.05,
        max_settings=None,
    )
    run = RunDirectory(tmp_path, "room/row", "id")
    with run.claim():
        tables = tests.run(RunContext(0, run, Tracker(None), CPU))
    assert tables["histograms"]["drawn"].sum() == 3 * 20_000
    return tables["metrics"]


@pytest.mark.parametrize("sampler", ["sample", "straight_through"])
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_each_sampler_agrees_with_its_own_reference_and_not_with_the_other(
    sampler: str, conditionals: str, tmp_path: Path
) -> None:
    """Failure rate about 1e-4 per sampler; the other reference is many detectable distances away."""
    metrics = small(tmp_path, sampler=sampler, conditionals=conditionals).set_index(["reference", "group"])
    own, other = metrics.loc[conditionals], metrics.loc["merged" if conditionals == "exact" else "exact"]
    assert (own["ks_p_value"] > 1e-5).all()
    assert (own["chi_square_p_value"] > 1e-5).all()
    assert other["rejected"].all()
    assert (other["ks_distance"] > 3 * other["ks_detectable"]).all()


def test_series_that_are_pooled_have_random_streams_of_their_own(tmp_path: Path) -> None:
    """The same urn in two series is drawn twice, by the sampler and by the merged reference alike."""
    weights, draws = (small(tmp_path / series, series=series) for series in ("weights", "draws"))
    assert (weights["ks_distance"] != draws["ks_distance"]).all()
    assert (small(tmp_path / "again")["ks_distance"] == weights["ks_distance"]).all()


def test_p_values_are_corrected_over_the_groups_of_an_urn(tmp_path: Path) -> None:
    """Benjamini-Hochberg written out: p_(i) * 3 / i, then the smallest from the right."""
    run = launch("kolmogorov_smirnov sampler=sample", tmp_path)
    for _, part in run.table("metrics").groupby(["value", "reference"]):
        part = part.sort_values("ks_p_value", ascending=False)
        expected = (part["ks_p_value"] * 3 / np.array([3, 2, 1])).cummin().clip(upper=1)
        np.testing.assert_allclose(part["ks_p_corrected"], expected, rtol=1e-12)
        assert (part["rejected"] == (part["ks_p_corrected"] <= 0.05)).all()


def test_an_interrupted_run_continues_with_the_next_urn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, settings = "kolmogorov_smirnov sampler=sample", ("experiment.max_settings=3", "experiment.batch_size=300")
    whole = launch(row, tmp_path / "whole", *settings)
    drawn = []

    def interrupted(urn: Urn, *arguments: Any) -> torch.Tensor:
        drawn.append(urn.value)
        if len(drawn) == 2:
            raise RuntimeError("killed")
        return histogram(urn, *arguments)

    monkeypatch.setattr(experiment, "histogram", interrupted)
    with pytest.raises(RuntimeError, match="killed"):
        launch(row, tmp_path / "resumed", *settings)
    assert csv_bytes(launch(row, tmp_path / "resumed", *settings)) == csv_bytes(whole)
    assert drawn == [1, 2, 2, 3]


def test_draws_off_the_support_are_an_error_not_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mvhg

    def wrong(self: mvhg.MultivariateHypergeometric, shape: tuple[int], generator: torch.Generator) -> torch.Tensor:
        return torch.full((*shape, 3), 5.0)

    monkeypatch.setattr(mvhg.MultivariateHypergeometric, "sample", wrong)
    with pytest.raises(RuntimeError, match="left the support"):
        small(tmp_path)


FIGURES = {f"figure_{number}.{suffix}" for number in (1, 4, 9, 10) for suffix in ("png", "pdf")}
FOURTH = """# @package _global_
series: middle
experiment:
  series:
    middle:
      _target_: experiments.kolmogorov_smirnov.series.Series
      parameter: total_count
      values: [10, 20]
      total_count: 10
      group_sizes: [20, 10, 20]
      weights: [1, 5, 1]
"""


@pytest.fixture(scope="session")
def metrics(make_once: MakeOnce) -> Path:
    """Smoke runs of all that the figures need, of the accuracy and of a fourth series: one new file; collected."""
    return make_once("kolmogorov_smirnov", run_and_collect) / "metrics"


def run_and_collect(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        add_config(patch, folder, "series/middle.yaml", FOURTH)
        for series in ("weights", "draws", "sizes", "middle"):
            for conditionals in ("merged", "exact"):
                launch(f"kolmogorov_smirnov series={series} conditionals={conditionals}", folder)
        launch("kolmogorov_smirnov sampler=sample", folder)
        launch("accuracy sampler=sample", folder)
        aggregate.main(["--results", str(folder), "--output", str(folder / "metrics"), "--profile", "smoke"])


def test_all_figures_are_drawn_or_one_that_is_asked_for(metrics: Path, tmp_path: Path) -> None:
    pages.write_pages(metrics, tmp_path / "all")
    pages.write_pages(metrics, tmp_path / "one", only=["figure_4"])
    every, one = ({path.name: path.stat().st_size for path in (tmp_path / name).glob("*/*")} for name in ("all", "one"))
    assert set(every) == FIGURES
    assert set(one) == {"figure_4.png", "figure_4.pdf"}
    assert min(every.values()) > 10_000


def test_what_is_collected_and_how_it_is_counted(metrics: Path) -> None:
    """Histograms are kept of what the figures show; a fourth series is a line of the table."""
    assert set(pd.read_csv(metrics / "kolmogorov_smirnov_histograms.csv")["sampler"]) == {"straight_through"}
    assert not (metrics / "accuracy_histograms.csv").exists()
    table = rejections_table(read_tests(metrics))
    assert len(table.rows) == 4 * 2 * 2 + 2 + 3  # differentiable sampler, the other one, three series of the accuracy
    assert [row[2] for row in table.rows].count("middle") == 4
    assert {origin.source for origin in table.provenance if origin} == {
        "kolmogorov_smirnov_metrics.csv",
        "accuracy_metrics.csv",
    }
