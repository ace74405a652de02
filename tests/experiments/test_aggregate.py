"""What the aggregator takes of runs: axes and changes as columns, kinds, seeds, large tables, times."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

import mvhg
from experiments.aggregation.runs import select_runs
from experiments.axes import Row
from experiments.settings import ExperimentError
from experiments.store import RunDirectory
from scripts import aggregate
from tests.experiments.helpers import KS, launch

FOLDER = "clustering/prior=uniform,version=60"
METRICS = "clustering_metrics.csv"
LACKING = object()  # in place of a fact


class Room:
    """Stands for an experiment whose pictures are large, and shown of some rows alone."""

    one_seed_tables: ClassVar[tuple[str, ...]] = ("generated",)

    @staticmethod
    def keep_lines(table: str, row: Row, lines: pd.DataFrame) -> pd.DataFrame | None:
        """No pictures of the version 80; of 60, the first."""
        if row.axes.get("prior") == "odd":
            raise IndexError("the room expected another column")
        if table != "generated":
            return lines
        return None if row.axes.get("version") == "80" else lines.head(1)


def configuration(folder: str, profile: str, seed: int, data: str | None, changes: str = "") -> str:
    experiment, _, pairs = folder.partition("/")
    axes = dict(pair.split("=") for pair in pairs.split(","))
    lines = [f"{axis}: '{value}'" for axis, value in axes.items()]
    names = ["prior", "version", "conditionals"] if experiment == "clustering" else list(axes)
    source = f"{{data: {{source: {data}}}, _target_: {__name__}.Room}}" if data else f"{{_target_: {__name__}.Room}}"
    lines += [f"axes: [{', '.join(names)}]", f"profile: {{name: {profile}}}", f"seed: {seed}", f"experiment: {source}"]
    return "\n".join([*lines, f"changes: '{changes}'"])


def finish(
    results: Path,
    run_id: str,
    seed: int,
    data: str | None = "mnist",
    folder: str = FOLDER,
    changes: str = "",
    more: Mapping[str, pd.DataFrame] | None = None,
    **facts: Any,
) -> None:
    """A finished run as the entry point leaves it."""
    config = configuration(folder, "medium", seed, data, changes)
    environment = {"commit": "a", "dirty": False, "device": "b", "seconds": 5.0, "resumed": False}
    environment |= {"packages": {"torch": "2"}, "version": mvhg.__version__} | facts
    environment = {fact: value for fact, value in environment.items() if value is not LACKING}
    tables = {
        "metrics": pd.DataFrame({"accuracy": [0.5]}),
        "confusion": pd.DataFrame({"cluster": [0, 1], "digits": [3, 4]}),
        "generated": pd.DataFrame({"pixels": ["AAAA", "BBBB"]}),
    }
    run = RunDirectory(results, folder, run_id)
    run.path.mkdir(parents=True)
    tables |= dict(more or {})
    run.finish(tables, environment, config)


def begin(results: Path, run_id: str, profile: str, seed: int, changes: str = "") -> None:
    """A run that was stopped while it worked."""
    run = RunDirectory(results, FOLDER, run_id)
    run.checkpoints.mkdir(parents=True)
    run.new_config.write_text(configuration(FOLDER, profile, seed, "mnist", changes))


def collect(results: Path, *arguments: str) -> dict[str, pd.DataFrame]:
    output = results / "metrics"
    aggregate.main(["--results", str(results), "--output", str(output), *arguments])
    return {path.name: pd.read_csv(path) for path in output.glob("*.csv")}


def test_axes_changes_profile_data_and_seed_tell_runs_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 2)
    finish(tmp_path, "two", 1, "digits_5000")
    finish(tmp_path, "three", 10)
    finish(tmp_path, "four", 2, changes="training.steps=3")
    finish(tmp_path, "five", 2, folder="clustering/prior=hypergeometric,version=60,conditionals=merged")
    tables = collect(tmp_path)
    assert "left out" not in capsys.readouterr().out
    metrics = tables[METRICS].fillna("")
    names = ["prior", "version", "conditionals", "changes", "profile", "data", "seed", "run_id", "accuracy"]
    assert list(metrics.columns) == [*names, "commit", "dirty", "device", "seconds", "torch"]
    lines = metrics[["prior", "conditionals", "changes", "data", "seed"]].to_numpy().tolist()
    assert lines == [  # sorted, not in the order of their making
        ["hypergeometric", "merged", "", "mnist", 2],
        ["uniform", "", "", "digits_5000", 1],
        ["uniform", "", "", "mnist", 2],
        ["uniform", "", "", "mnist", 10],
        ["uniform", "", "training.steps=3", "mnist", 2],
    ]
    assert list(tables["clustering_confusion.csv"].columns) == [*names[:-1], "cluster", "digits"]


def test_foreign_files_among_the_runs_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 0)
    runs = tmp_path / "runs"
    for path in (runs / "finished.json", runs / "clustering" / "finished.json", runs / "checkpoints" / "note.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    assert list(collect(tmp_path)[METRICS]["run_id"]) == ["one"]
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("keep", [[], ["--keep"]])
def test_a_foreign_table_beside_the_collected_ones_is_left_alone(
    keep: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, "one", 0)
    notes = tmp_path / "metrics" / "urn_notes.csv"
    notes.parent.mkdir()
    notes.write_text("a,b\n1,2\n")
    aggregate.main(["--results", str(tmp_path), "--output", str(notes.parent), *keep])
    assert notes.read_text() == "a,b\n1,2\n"
    assert f"left alone: {notes} has no column" in capsys.readouterr().out


def test_a_run_of_before_there_were_axes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 1)
    run = RunDirectory(tmp_path, "urn/exact", "old")
    run.path.mkdir(parents=True)
    run.finish({"metrics": pd.DataFrame({"a": [1]})}, {}, "seed: 0\n")
    assert set(collect(tmp_path)) == {METRICS, "clustering_confusion.csv", "clustering_generated.csv"}
    assert "left out: runs/urn/exact/old (made before experiments had axes)" in capsys.readouterr().out


def test_a_second_run_of_the_same_cell_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 1)
    finish(tmp_path, "two", 1)
    assert len(collect(tmp_path)[METRICS]) == 1
    assert "older than" in capsys.readouterr().out


def test_of_large_tables_the_lowest_seed_is_taken_and_what_the_experiment_keeps(tmp_path: Path) -> None:
    for run, (seed, data) in enumerate([(3, "mnist"), (1, "mnist"), (2, "digits_5000"), (4, "digits_5000")]):
        finish(tmp_path, str(run), seed, data)
    finish(tmp_path, "other", 7, folder="clustering/prior=categorical,version=60")
    finish(tmp_path, "hidden", 0, folder="clustering/prior=uniform,version=80")
    tables = collect(tmp_path)
    table = tables["clustering_generated.csv"]
    shown = [["categorical", "mnist", 7], ["uniform", "digits_5000", 2], ["uniform", "mnist", 1]]
    assert table[["prior", "data", "seed"]].to_numpy().tolist() == shown
    assert set(table["pixels"]) == {"AAAA"}
    assert len(tables[METRICS]) == 6
    chosen = collect(tmp_path, "--seeds", "3,4,7")["clustering_generated.csv"]  # the lowest of those asked for
    assert sorted(chosen["seed"]) == [3, 4, 7]
    newer = tmp_path / "newer"
    finish(newer, "newer", 0)
    aggregate.main(["--results", str(newer), "--output", str(tmp_path / "metrics"), "--keep"])
    kept = pd.read_csv(tmp_path / "metrics" / "clustering_generated.csv")
    assert kept[kept["prior"] == "uniform"][["data", "seed"]].to_numpy().tolist() == [["digits_5000", 4], ["mnist", 0]]


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
    assert pd.read_csv(older / "metrics" / "clustering_generated.csv")["run_id"].tolist() == ["three", "five"]
    again = (older / "metrics" / METRICS).read_bytes()
    aggregate.main([*arguments, "--keep"])
    assert (older / "metrics" / METRICS).read_bytes() == again
    aggregate.main(arguments)
    assert len(pd.read_csv(older / "metrics" / METRICS)) == 2
    (older / "metrics" / METRICS).write_text("a,b\n1,2\n")
    with pytest.raises(
        SystemExit, match="error: .*clustering_metrics.csv has no column changes, profile, seed, run_id"
    ):
        aggregate.main([*arguments, "--keep"])


def test_a_column_goes_with_the_last_run_that_fills_it(tmp_path: Path) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    finish(older, "one", 1, more={"history": pd.DataFrame({"epoch": [1], "of_one": [0.5]})})
    finish(older, "two", 2, more={"history": pd.DataFrame({"epoch": [1], "of_two": [0.5]})})
    collect(older)
    finish(newer, "three", 1, more={"history": pd.DataFrame({"epoch": [1], "of_three": [0.5]})})
    aggregate.main(["--results", str(newer), "--output", str(older / "metrics"), "--keep"])
    table = pd.read_csv(older / "metrics" / "clustering_history.csv")
    assert [name for name in table if name.startswith("of_")] == ["of_three", "of_two"]


def test_histories_have_the_digits_of_single_precision_and_metrics_all(tmp_path: Path) -> None:
    third = pd.DataFrame({"x": [1 / 3]})
    finish(tmp_path, "one", 1, more={"history": third, "metrics": third})
    collect(tmp_path)
    for name, digits in {"history": "0.333333333", "metrics": repr(1 / 3)}.items():
        table = pd.read_csv(tmp_path / "metrics" / f"clustering_{name}.csv", dtype=str)
        assert table["x"].tolist() == [digits]


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
    folder = tmp_path / "runs" / FOLDER
    (folder / "changed" / "metrics.csv").write_text("accuracy\n0.9\n")
    (folder / "marker" / "finished.json").write_text("{")
    (folder / "facts" / "environment.json").unlink()
    (folder / "empty" / "checkpoints").mkdir(parents=True)
    begin(tmp_path, "stopped", "medium", 6, changes="a=1")
    begin(tmp_path, "failed", "medium", 9)
    with pytest.raises(ExperimentError), RunDirectory(tmp_path, FOLDER, "failed").noted_failure():
        raise ExperimentError("step 7:\nthe loss is not finite")
    begin(tmp_path, "meaningless", "smoke", 6)  # of a profile that is not asked for
    finish(tmp_path, "partial", 7, more={"metrics": pd.DataFrame()})  # as its marker says, and without a line
    finish(tmp_path, "repeats", 10, more={"metrics": pd.DataFrame({"version": [60], "data": ["mnist"]})})
    finish(tmp_path, "odd", 7, folder="clustering/prior=odd,version=60", more={"metrics": pd.DataFrame({"x": [1]})})
    (folder / "whole" / "extra.csv").write_text("a\n1\n")  # not a table of the run
    finish(tmp_path, "provenance", 8, device=LACKING)
    finish(tmp_path, "first", 11, version=LACKING)
    begin(tmp_path, "yaml", "medium", 9)
    RunDirectory(tmp_path, FOLDER, "yaml").new_config.write_text("axes: [")
    begin(tmp_path, "blank", "medium", 9)
    RunDirectory(tmp_path, FOLDER, "blank").new_config.write_text("")
    tables = collect(tmp_path)
    assert tables[METRICS]["seed"].tolist() == [0, 5]
    printed = capsys.readouterr().out
    assert "warning: 14 runs are left out" in printed
    assert "clustering_extra.csv" not in tables
    left_out = dict(tables["left_out.csv"].to_numpy().tolist())
    odd = left_out.pop("runs/clustering/prior=odd,version=60/odd")
    assert odd == "confusion: the room expected another column"
    for name, reason in (
        ("partial", "metrics: No columns to parse"),
        ("repeats", "metrics: it repeats data, version"),
        ("provenance", "environment.json does not say device; force=true runs it again"),
        ("yaml", "can't be read (while parsing"),
        ("blank", "can't be read ("),
    ):
        assert left_out.pop(f"runs/{FOLDER}/{name}").startswith(reason)
    assert f"warning: runs/{FOLDER}/dirty was made with changes that are in no commit" in printed
    assert left_out == {
        f"runs/{FOLDER}/changed": "metrics.csv was changed after the run wrote it; force=true runs it again",
        f"runs/{FOLDER}/marker": "finished.json is damaged; force=true runs it again",
        f"runs/{FOLDER}/facts": "environment.json is missing; force=true runs it again",
        f"runs/{FOLDER}/newer": f"made by version 99.0, and this is {mvhg.__version__}; force=true runs it again",
        f"runs/{FOLDER}/first": f"made by version 0.1.0, and this is {mvhg.__version__}; force=true runs it again",
        f"runs/{FOLDER}/stopped": "a=1: not finished: it was stopped, or is still running",
        f"runs/{FOLDER}/failed": "not finished: step 7: the loss is not finite",
        f"runs/{FOLDER}/empty": "not finished: it was stopped before it began",
    }
    of_the_profile = dict(select_runs(tmp_path, "smoke").problems)
    assert f"runs/{FOLDER}/meaningless" in of_the_profile
    assert f"runs/{FOLDER}/stopped" not in of_the_profile
    assert f"runs/{FOLDER}/stopped" not in dict(select_runs(tmp_path, None, frozenset({0, 5})).problems)
    for run in tables["left_out.csv"]["run"]:
        shutil.rmtree(tmp_path / run)
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
        shutil.rmtree(here / "runs" / FOLDER / run_id, ignore_errors=True)
        finish(here, run_id, 6)
        aggregate.main(["--results", str(here), *arguments])
    assert not left_out.exists()


def test_real_runs_are_collected_once_and_again_when_something_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(KS, tmp_path)
    launch(KS, tmp_path, "experiment.significance=0.05")  # its own: the same run
    launch(KS, tmp_path, "experiment.batch_size=7")
    table = collect(tmp_path, "--profile", "smoke")["kolmogorov_smirnov_metrics.csv"]
    assert table.groupby("run_id")["changes"].first().fillna("").tolist().count("batch_size=7") == 1
    assert table["run_id"].nunique() == 2
    before = {path.name: path.read_bytes() for path in (tmp_path / "metrics").iterdir()}
    capsys.readouterr()
    collect(tmp_path, "--profile", "smoke")
    assert "the metrics of 2 runs are up to date" in capsys.readouterr().out
    (tmp_path / "metrics" / "kolmogorov_smirnov_metrics.csv").write_text("damaged")
    collect(tmp_path, "--profile", "smoke")
    assert {path.name: path.read_bytes() for path in (tmp_path / "metrics").iterdir()} == before
    with pytest.raises(SystemExit, match="error: no finished run under"):
        collect(tmp_path)
    with pytest.raises(SystemExit, match="error: no finished run of profile paper"):
        collect(tmp_path, "--profile", "paper")


def test_a_configuration_cut_anywhere_is_named(tmp_path: Path) -> None:
    finish(tmp_path, "whole", 0)
    text = configuration(FOLDER, "medium", 1, "mnist")
    for place in range(len(text)):
        begin(tmp_path, f"cut-{place:03}", "medium", 1)
        RunDirectory(tmp_path, FOLDER, f"cut-{place:03}").new_config.write_text(text[:place])
    assert set(dict(select_runs(tmp_path, None).problems)) == {
        f"runs/{FOLDER}/cut-{place:03}" for place in range(len(text))
    }


@pytest.mark.parametrize("seeds", ["", "0,", "-1", "1.5", "01x", "4294967296"])
def test_seeds_that_there_are_not_are_refused(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        aggregate.main([f"--seeds={seeds}"])
    assert "a seed is an integer in 0..4294967295, got" in capsys.readouterr().err


def test_lines_of_runs_that_broke_do_not_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "one", 1)
    finish(tmp_path, "two", 2, folder="clustering_control/version=whole")
    collect(tmp_path)
    (tmp_path / "runs" / "clustering_control" / "version=whole" / "two" / "metrics.csv").write_text("a\n1\n")
    other = tmp_path / "metrics" / "somebodys_own.csv"
    other.write_text("a\n1\n")
    assert collect(tmp_path, "--keep")["clustering_control_metrics.csv"].empty
    tables = collect(tmp_path)
    assert "clustering_control_metrics.csv" not in tables
    assert {METRICS, "left_out.csv", "somebodys_own.csv"} <= set(tables)
    assert "removed" in capsys.readouterr().out
