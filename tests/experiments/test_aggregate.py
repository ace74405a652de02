"""What the aggregator takes of runs on several data sets: seeds, pictures, times."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mvhg
from experiments.aggregation.runs import select_runs
from experiments.common.store import RunDirectory
from experiments.weak_supervision.kept_pictures import read_pictures
from experiments.weak_supervision.traversals import pack
from scripts import aggregate
from tests.experiments.helpers import KS, launch

ROW = "clustering/hypergeometric_60"
METRICS = "clustering_metrics.csv"


def configuration(profile: str, seed: int, data: str | None) -> str:
    room = f"{{data: {{source: {data}}}}}" if data else "{data: none}"
    return f"profile: {{name: {profile}}}\nseed: {seed}\nexperiment: {room}\n"


def finish(
    results: Path,
    run_id: str,
    seed: int,
    data: str | None = "mnist",
    row: str = ROW,
    more: Mapping[str, pd.DataFrame] | None = None,
    **facts: Any,
) -> None:
    """A finished run as the entry point leaves it."""
    config = configuration("medium", seed, data)
    environment = {"commit": "a", "dirty": False, "device": "b", "seconds": 5.0, "resumed": False, "overrides": []}
    environment |= {"packages": {"torch": "2"}} | facts
    column = {} if data is None else {"data": [data]}
    tables = {
        "metrics": pd.DataFrame({"version": ["60"], **column, "accuracy": [0.5]}),
        "confusion": pd.DataFrame({"cluster": [0, 1], "digits": [3, 4]}),
        "generated": pd.DataFrame({"pixels": ["AAAA"]}),
        "latent": pd.DataFrame({"x": [0.25]}),
    }
    run = RunDirectory(results, row, run_id)
    run.path.mkdir(parents=True)
    tables |= dict(more or {})
    run.finish(tables, environment, config)


def begin(results: Path, run_id: str, profile: str, seed: int) -> None:
    """A run that was stopped while it worked."""
    run = RunDirectory(results, ROW, run_id)
    run.checkpoints.mkdir(parents=True)
    run.new_config.write_text(configuration(profile, seed, "mnist"))


def collect(results: Path, *arguments: str) -> dict[str, pd.DataFrame]:
    output = results / "metrics"
    aggregate.main(["--results", str(results), "--output", str(output), *arguments])
    return {path.name: pd.read_csv(path) for path in output.iterdir()}


def test_the_same_row_on_other_data_is_another_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 2)
    finish(tmp_path, "two", 1, "digits_5000")
    finish(tmp_path, "three", 1)
    tables = collect(tmp_path)
    assert "left out" not in capsys.readouterr().out
    cells = tables[METRICS][["data", "seed"]].to_numpy().tolist()
    assert cells == [["digits_5000", 1], ["mnist", 1], ["mnist", 2]]  # sorted, not in the order of their making
    confusion = tables["clustering_confusion.csv"]
    assert list(confusion.columns) == ["row", "profile", "seed", "run_id", "data", "cluster", "digits"]
    assert confusion.groupby("data")["seed"].unique().map(list).to_dict() == {"digits_5000": [1], "mnist": [1, 2]}


def test_a_second_run_of_the_same_cell_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 1)
    finish(tmp_path, "two", 1)
    assert len(collect(tmp_path)[METRICS]) == 1
    assert "older than" in capsys.readouterr().out


def test_pictures_of_the_lowest_seed_only(tmp_path: Path) -> None:
    for run, (seed, data) in enumerate([(3, "mnist"), (1, "mnist"), (2, "digits_5000"), (4, "digits_5000")]):
        finish(tmp_path, str(run), seed, data)
    finish(tmp_path, "other", 7, row="clustering/hypergeometric_80")
    finish(tmp_path, "hidden", 0, row="clustering/uniform_80")
    tables = collect(tmp_path)
    for name in ("generated", "latent"):
        table = tables[f"clustering_{name}.csv"]
        shown = [[ROW, "digits_5000", 2], [ROW, "mnist", 1]]
        if name == "generated":  # the latent space is shown at 60 % alone
            shown.append(["clustering/hypergeometric_80", "mnist", 7])
        assert table[["row", "data", "seed"]].to_numpy().tolist() == shown
    assert len(tables[METRICS]) == 6
    chosen = collect(tmp_path, "--seeds", "3,4,7")["clustering_generated.csv"]  # the lowest of those asked for
    assert sorted(chosen["seed"]) == [3, 4, 7]


def test_of_the_image_pairs_only_shown_pictures_are_kept(tmp_path: Path) -> None:
    picture = pack(torch.full((1, 16, 16, 3), 100, dtype=torch.uint8))
    more = {
        "traversals": picture.assign(rank=0, latent=3, activity=1.0, step=0, value=-2.0),
        "reconstructions": picture.assign(pair=0, view=0, kind="original"),
    }
    rows = ("weak_supervision/hgvae_s3", "weak_supervision/hgvae_s1", "weak_supervision_ablation/joint_bound")
    for seed in (5, 4):
        for number, row in enumerate(rows):
            finish(tmp_path, f"{number}-{seed}", seed, "mpi3d_sim", row, more=more)
    tables = collect(tmp_path)
    assert len(tables["weak_supervision_metrics.csv"]) == 4
    traversals, reconstructions = (tables[f"weak_supervision_{name}.csv"] for name in more)
    assert traversals[["row", "data", "seed", "latent"]].to_numpy().tolist() == [[rows[0], "mpi3d_sim", 4, 3]]
    assert reconstructions[["row", "seed", "kind"]].to_numpy().tolist() == [[rows[1], 4, "original"]]
    assert read_pictures(traversals).tolist() == np.full((1, 16, 16, 3), 100).tolist()
    assert not {f"weak_supervision_ablation_{name}.csv" for name in more} & set(tables)
    newer = tmp_path / "newer"
    finish(newer, "3-3", 3, "mpi3d_sim", rows[0], more=more)
    aggregate.main(["--results", str(newer), "--output", str(tmp_path / "metrics"), "--keep"])
    assert pd.read_csv(tmp_path / "metrics" / "weak_supervision_traversals.csv")["seed"].tolist() == [3]


def test_one_data_set_may_be_asked_for(tmp_path: Path) -> None:
    finish(tmp_path, "one", 1)
    finish(tmp_path, "two", 1, "digits_5000")
    finish(tmp_path, "three", 1, None, row="other/row")  # has no choice of data
    tables = collect(tmp_path, "--data", "mnist")
    assert list(tables[METRICS]["data"]) == ["mnist"]
    assert "data" not in tables["other_metrics.csv"]
    with pytest.raises(SystemExit, match="error: no finished run of profile paper with the data mnist under"):
        collect(tmp_path, "--data", "mnist", "--profile", "paper")


def test_lines_of_runs_that_are_gone_are_kept_on_demand(tmp_path: Path) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    finish(older, "one", 10)
    finish(older, "two", 9, "digits_5000")
    finish(older, "three", 1, "digits_5000")
    collect(older)
    before = (older / "metrics" / METRICS).read_text().splitlines()
    finish(newer, "four", 9, "digits_5000", seconds=7.0)
    finish(newer, "five", 2)
    arguments = ["--results", str(newer), "--output", str(older / "metrics")]
    aggregate.main([*arguments, "--keep"])
    after = (older / "metrics" / METRICS).read_text().splitlines()
    table = pd.read_csv(older / "metrics" / METRICS)
    assert table["run_id"].tolist() == ["three", "four", "five", "one"]  # by data, then seed as a number
    assert after[1] == before[1]
    assert after[4] == before[3]
    assert table.loc[1, "seconds"] == 7.0
    assert pd.read_csv(older / "metrics" / "clustering_latent.csv")["run_id"].tolist() == ["three", "five"]
    again = (older / "metrics" / METRICS).read_bytes()
    aggregate.main([*arguments, "--keep"])
    assert (older / "metrics" / METRICS).read_bytes() == again
    aggregate.main(arguments)
    assert len(pd.read_csv(older / "metrics" / METRICS)) == 2
    (older / "metrics" / METRICS).write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="error: .*clustering_metrics.csv has no column row, profile, seed, run_id"):
        aggregate.main([*arguments, "--keep"])


def test_an_interrupted_run_has_no_time(tmp_path: Path) -> None:
    finish(tmp_path, "one", 1)
    finish(tmp_path, "two", 2, resumed=True)
    seconds = collect(tmp_path)[METRICS]["seconds"]
    assert seconds[0] == 5.0
    assert pd.isna(seconds[1])


def test_what_is_broken_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "whole", 0)
    for name, seed in (("changed", 1), ("marker", 2), ("facts", 3), ("newer", 4), ("dirty", 5)):
        facts = {"newer": {"version": "99.0"}, "dirty": {"dirty": True}}.get(name, {})
        finish(tmp_path, name, seed, **facts)
    folder = tmp_path / "runs" / ROW
    (folder / "changed" / "metrics.csv").write_text("version,accuracy\n60,0.9\n")
    (folder / "marker" / "finished.json").write_text("{")
    (folder / "facts" / "environment.json").unlink()
    (folder / "empty" / "checkpoints").mkdir(parents=True)
    begin(tmp_path, "stopped", "medium", 6)
    begin(tmp_path, "meaningless", "smoke", 6)  # of a profile that is not asked for
    tables = collect(tmp_path)
    assert tables[METRICS]["seed"].tolist() == [0, 5]
    printed = capsys.readouterr().out
    assert "warning: 6 runs are left out" in printed
    assert f"warning: runs/{ROW}/dirty was made with changes that are in no commit" in printed
    assert dict(tables["left_out.csv"].to_numpy().tolist()) == {
        f"runs/{ROW}/changed": "metrics.csv was changed after the run wrote it; force=true runs this row again",
        f"runs/{ROW}/marker": "finished.json is damaged; force=true runs this row again",
        f"runs/{ROW}/facts": "environment.json is missing; force=true runs this row again",
        f"runs/{ROW}/newer": f"made by version 99.0, and this is {mvhg.__version__}; force=true runs it again",
        f"runs/{ROW}/stopped": "not finished: it failed, was stopped, or is still running",
        f"runs/{ROW}/empty": "not finished: it was stopped before it began",
    }
    of_the_profile = dict(select_runs(tmp_path, "smoke").problems)
    assert f"runs/{ROW}/meaningless" in of_the_profile
    assert f"runs/{ROW}/stopped" not in of_the_profile
    assert f"runs/{ROW}/stopped" not in dict(select_runs(tmp_path, None, frozenset({0, 5})).problems)
    for name in ("changed", "marker", "facts", "newer", "empty", "stopped"):
        shutil.rmtree(folder / name)
    assert "left_out.csv" not in collect(tmp_path)


def test_keep_keeps_what_was_left_out_of_folders_that_are_not_there_and_forgets_what_is_mended(tmp_path: Path) -> None:
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    for folder, run_id in ((elsewhere, "aaaaaaaaaaaa"), (here, "bbbbbbbbbbbb")):
        finish(folder, "whole", 0)
        begin(folder, run_id, "medium", 6)
    arguments = ["--output", str(tmp_path / "metrics"), "--keep"]
    for folder in (elsewhere, here):
        aggregate.main(["--results", str(folder), *arguments])
    left_out = tmp_path / "metrics" / "left_out.csv"
    assert [Path(run).name for run in pd.read_csv(left_out)["run"]] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    for run_id in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        shutil.rmtree(here / "runs" / ROW / run_id, ignore_errors=True)
        finish(here, run_id, 6)
        aggregate.main(["--results", str(here), *arguments])
    assert not left_out.exists()


def test_of_studies_only_the_scores_are_kept(tmp_path: Path) -> None:
    finish(tmp_path, "one", 0, row="clustering_recipe/whole")
    assert list(collect(tmp_path)) == ["clustering_recipe_metrics.csv"]


def test_settings_that_are_the_rows_own_leave_it_the_row(tmp_path: Path) -> None:
    launch(KS, tmp_path, "experiment.sampler=sample")
    launch(KS, tmp_path, "experiment.batch_size=7")
    tables = collect(tmp_path, "--profile", "smoke")
    assert tables["kolmogorov_smirnov_metrics.csv"]["run_id"].nunique() == 1


def test_lines_of_runs_that_broke_do_not_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 1)
    finish(tmp_path, "two", 2, row="clustering_recipe/whole")
    collect(tmp_path)
    (tmp_path / "runs" / "clustering_recipe" / "whole" / "two" / "metrics.csv").write_text("a\n1\n")
    other = tmp_path / "metrics" / "somebodys_own.csv"
    other.write_text("a\n1\n")
    assert collect(tmp_path, "--keep")["clustering_recipe_metrics.csv"].empty
    tables = collect(tmp_path)
    assert "clustering_recipe_metrics.csv" not in tables
    assert {METRICS, "left_out.csv", "somebodys_own.csv"} <= set(tables)
    assert "removed" in capsys.readouterr().out
