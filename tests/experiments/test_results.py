"""From finished runs to CSVs, figures and verdicts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments.common.errors import ExperimentError
from experiments.common.figures import read_table
from experiments.verdicts.kolmogorov_smirnov import chance, family_wise, rejections
from experiments.verdicts.rules import judge_by_rule
from experiments.verdicts.urn import urn
from scripts import aggregate, figures_kolmogorov_smirnov, verdicts
from tests.experiments.helpers import launch

ROWS = [
    f"kolmogorov_smirnov/{series}_{conditionals}_straight_through"
    for series in ("weights", "draws", "sizes")
    for conditionals in ("merged", "exact")
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished smoke runs of every row that the figures need, aggregated into ``metrics``."""
    folder = tmp_path_factory.mktemp("results")
    for row in ROWS:
        launch(row, folder)
    launch(ROWS[0], folder, "experiment.batch_size=100")  # not the row as it is defined
    aggregate.main(["--results", str(folder), "--output", str(folder / "metrics"), "--profile", "smoke"])
    return folder


def test_every_line_says_where_it_comes_from(results: Path) -> None:
    metrics = pd.read_csv(results / "metrics" / "kolmogorov_smirnov_metrics.csv")
    assert set(metrics["row"]) == set(ROWS)
    assert metrics.groupby("row")["run_id"].nunique().eq(1).all()
    columns = ["row", "profile", "seed", "run_id", "commit", "dirty", "device", "seconds", "torch"]
    assert metrics[columns].notna().all(axis=None)
    assert len(metrics) == len(ROWS) * 2 * 2 * 3  # urns, references, groups


def test_changed_and_smoke_runs_are_left_out(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aggregate.main(["--results", str(results), "--output", str(tmp_path), "--profile", "smoke"])
    assert "(run with experiment.batch_size=100)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: no finished run under"):
        aggregate.main(["--results", str(results), "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: no finished run of profile paper"):
        aggregate.main(["--results", str(results), "--output", str(tmp_path), "--profile", "paper"])


def test_aggregating_twice_gives_the_same_bytes(results: Path, tmp_path: Path) -> None:
    aggregate.main(["--results", str(results), "--output", str(tmp_path), "--profile", "smoke"])
    for path in (results / "metrics").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_figures_are_the_same_bytes_every_time(results: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        arguments = ["--metrics", str(results / "metrics"), "--output", str(tmp_path / name)]
        figures_kolmogorov_smirnov.main([*arguments, "--figure", "1"])
    for suffix in ("png", "pdf"):
        one, two = (tmp_path / name / f"figure_1.{suffix}" for name in ("one", "two"))
        assert one.stat().st_size > 10_000
        assert one.read_bytes() == two.read_bytes()


def test_all_figures_are_drawn(results: Path, tmp_path: Path) -> None:
    figures_kolmogorov_smirnov.main(["--metrics", str(results / "metrics"), "--output", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {
        f"figure_{number}.{suffix}" for number in (1, 4, 9, 10) for suffix in ("png", "pdf")
    }


def test_missing_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*kolmogorov_smirnov_metrics.csv does not exist"):
        figures_kolmogorov_smirnov.main(["--metrics", str(tmp_path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .* holds no metrics of kolmogorov_smirnov, urn"):
        verdicts.main(["--metrics", str(tmp_path), "--output", str(tmp_path)])


def test_the_largest_profile_and_the_lowest_seed_are_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"profile": ["smoke", "quick", "quick", "other"], "seed": [0, 2, 1, 0]})
    table = table.assign(row="a/b", run_id="1")
    table.to_csv(tmp_path / "room_metrics.csv", index=False)
    assert read_table(tmp_path, "room_metrics")[["profile", "seed"]].to_numpy().tolist() == [["quick", 1]]
    assert len(read_table(tmp_path, "room_metrics", every_seed=True)) == 2
    table[3:].to_csv(tmp_path / "room_metrics.csv", index=False)
    with pytest.raises(ExperimentError, match="holds no run of the profiles paper, medium, quick, smoke"):
        read_table(tmp_path, "room_metrics")


def test_verdicts_are_printed_and_written(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts.main(["--metrics", str(results / "metrics"), "--output", str(tmp_path)])
    printed, written = capsys.readouterr().out, (tmp_path / "verdicts.md").read_text()
    assert "Figure 1" in printed
    assert written.count("\n| ") >= 10
    assert "not comparable (not judged here: no run)" in written  # the rows of the distribution's own sampler


ORIGIN = {"profile": "paper", "seed": 0, "row": "a/b", "run_id": "1", "dirty": False, "seconds": 1.0}
ORIGIN |= {"commit": "123456789012", "device": "d", "torch": "2.0"}


@pytest.mark.parametrize(
    ("rejected", "rule", "verdict"),
    [
        (0, "ks_reference", "reproduced"),
        (6, "ks_reference", "close"),
        (7, "ks_reference", "not reproduced"),
        (6, "ks_law", "reproduced"),
        (7, "ks_law", "not reproduced"),
    ],
)
def test_rejections_are_judged_by_the_fixed_rule(rejected: int, rule: str, verdict: str) -> None:
    part = pd.DataFrame(
        {"rejected": [True] * rejected + [False] * (30 - rejected), "ks_distance": 0.01, "ks_detectable": 0.009}
    ).assign(draws=50_000, **ORIGIN)
    assert chance(30) == 6
    measured = rejections(rule, part, {"where": "Figure 1", "sampler": "sample"}, "sample")
    assert judge_by_rule(measured).verdict == verdict


def test_one_small_p_value_decides_the_family() -> None:
    p_values = {"ks_p_value": [0.5] * 99, "chi_square_p_value": [0.5] * 98 + [float("nan")]}
    truth = pd.DataFrame(p_values).assign(**ORIGIN)
    assert judge_by_rule(family_wise(truth)).verdict == "holds"
    truth.loc[0, "chi_square_p_value"] = 0.009 / 197
    assert judge_by_rule(family_wise(truth)).verdict == "fails"


def test_the_worst_data_set_of_the_urn_decides(tmp_path: Path) -> None:
    row = ORIGIN | {"rmse_standard_errors": 1.0, "expected_squared_loss_truth": 10.0, "second_weight": 1}
    merged, loss = row | {"row": "urn/merged"}, "model_squared_loss"
    lines = [
        merged | {"rmse": 0.05, loss: 10.1, "expected_squared_loss": 10.1},
        merged | {"rmse": 0.2, loss: 11.0, "expected_squared_loss": 13.0},
        row | {"row": "urn/maximum_likelihood", "rmse": 0.01, loss: 10.0, "expected_squared_loss": 10.0},
    ]
    pd.DataFrame(lines).to_csv(tmp_path / "urn_metrics.csv", index=False)
    assert [judge_by_rule(one).verdict for one in urn(tmp_path)] == [
        "close",  # the log weights
        "close",  # the loss of the merged law
        "not reproduced",  # the same weights in the exact law
        "not comparable",
        "not comparable",
        "holds",
    ]
