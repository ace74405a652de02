"""The results store: finished runs are skipped and guarded, nothing is lost, nothing is half written."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import mvhg
from experiments.environment import project_version
from experiments.run import log_skipped
from experiments.settings import ExperimentError
from experiments.store import Attempt, RunDirectory, find_finished, write_atomically
from tests.experiments.helpers import KS, cell, csv_bytes, launch

TABLE = pd.DataFrame({"value": [0.1, 2.0]})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path, "room/row", "abc")
    with run.claim():
        pass
    return run


def test_a_finished_run_is_skipped_and_forced_on_demand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    marker = launch(KS, tmp_path).path / "finished.json"
    written = marker.stat().st_mtime_ns
    assert launch(KS, tmp_path).path == marker.parent
    assert "skipped" in caplog.text
    assert marker.stat().st_mtime_ns == written
    launch(KS, tmp_path, "force=true")
    assert marker.stat().st_mtime_ns > written


def test_a_run_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    run = launch(KS, tmp_path, "experiment.batch_size=500")
    facts = json.loads((run.path / "environment.json").read_text())
    assert "changes: batch_size=500\n" in (run.path / "config.yaml").read_text()
    assert facts["resumed"] is False
    assert facts["seconds"] > 0
    assert facts["peak_memory_mib"] > 0
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["version"] == mvhg.__version__
    assert {"commit", "dirty", "device", "python", "platform", "threads"} <= set(facts)


@pytest.mark.parametrize(("made_by", "named"), [({"version": "0.0.9"}, "0.0.9"), ({"version": mvhg.__version__}, None)])
def test_a_run_of_another_version_is_skipped_and_named(
    made_by: dict[str, str], named: str | None, run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run.finish({"metrics": TABLE}, {"commit": "0123456789abcdef", **made_by}, "")
    log_skipped(dataclasses.replace(cell(KS, "seed=3"), run=run))
    words = f"finished by version {named} (this is {mvhg.__version__}), skipped; force=true runs it again"
    assert (words if named else f"{KS} seed=3: finished at commit 0123456789, skipped") in caplog.text


def test_the_version_is_read_without_importing_the_library() -> None:
    assert project_version() == mvhg.__version__


@pytest.mark.parametrize("column", ["value", "metrics.value"])
def test_an_objective_is_the_mean_of_a_column(column: str, run: RunDirectory) -> None:
    run.finish({"metrics": TABLE}, {}, "")
    assert run.mean_of(column) == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("column", "message"),
    [("loss", "no column of numbers in room/row; there are value"), ("curve.value", "room/row has no table curve")],
)
def test_an_objective_that_is_not_there_is_named(column: str, message: str, run: RunDirectory) -> None:
    run.finish({"metrics": TABLE.assign(name="a")}, {}, "")
    with pytest.raises(ExperimentError, match=f"objective={column}: .*{message}"):
        run.mean_of(column)
    with pytest.raises(ExperimentError, match="no column of numbers"):
        run.mean_of("name")


def test_files_of_a_finished_run_are_checked(run: RunDirectory) -> None:
    run.finish({"metrics": TABLE}, {"commit": "x"}, "seed: 0\n")
    assert run.finished() is not None
    pd.testing.assert_frame_equal(run.table("metrics"), TABLE)
    (run.path / "metrics.csv").write_text("value\n3\n")
    with pytest.raises(ExperimentError, match=r"metrics.csv was changed after the run wrote it; force=true"):
        run.finished()
    (run.path / "metrics.csv").unlink()
    with pytest.raises(ExperimentError, match=r"metrics.csv is missing; force=true"):
        run.finished()
    (run.path / "finished.json").write_text("{")
    with pytest.raises(ExperimentError, match=r"finished.json is damaged; force=true"):
        run.finished()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_corrupt_checkpoint_is_named_and_no_result_is_lost(content: bytes, tmp_path: Path) -> None:
    finished = launch(KS, tmp_path, "seed=5")
    kept = csv_bytes(finished)
    target = launch(KS, tmp_path)
    (target.path / "finished.json").unlink()
    checkpoint = target.checkpoints / "last.ckpt"
    checkpoint.write_bytes(content)
    with pytest.raises(ExperimentError, match=r"the checkpoint .*last\.ckpt can't be read .*force=true starts"):
        launch(KS, tmp_path)
    assert checkpoint.read_bytes() == content
    assert csv_bytes(finished) == kept
    launch(KS, tmp_path, "force=true")
    assert target.finished() is not None


def test_a_truncated_checkpoint_is_named(run: RunDirectory) -> None:
    path = run.checkpoints / "last.ckpt"
    torch.save({"state_dict": {"a": torch.arange(1000)}}, path)
    assert run.last_checkpoint() == path
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ExperimentError, match="can't be read"):
        run.last_checkpoint()


def test_a_checkpoint_that_would_run_code_is_not_loaded(run: RunDirectory) -> None:
    torch.save({"state_dict": {}, "hook": os.system}, run.checkpoints / "last.ckpt")
    with pytest.raises(ExperimentError, match="can't be read"):
        run.last_checkpoint()


def test_a_forced_run_that_fails_keeps_the_finished_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launch(KS, tmp_path)
    kept = csv_bytes(run)

    def fail(*_: object) -> None:
        raise RuntimeError("the machine caught fire")

    monkeypatch.setattr("experiments.kolmogorov_smirnov.experiment.exact_marginals", fail)
    with pytest.raises(RuntimeError, match="fire"):
        launch(KS, tmp_path, "force=true")
    assert run.finished() is not None
    assert csv_bytes(run) == kept


def test_an_atomic_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_two_processes_cannot_work_on_the_same_run(run: RunDirectory) -> None:
    again = RunDirectory(run.path.parents[3], "room/row", "abc")
    refused = pytest.raises(ExperimentError, match="another process is working on this run")
    with run.claim(), refused, again.claim():
        pass


def test_finished_runs_are_found_by_row(tmp_path: Path) -> None:
    for row, run_id in (("b/second", "2"), ("a/first", "1"), ("a/unfinished", "3")):
        one = RunDirectory(tmp_path, row, run_id)
        with one.claim():
            if row != "a/unfinished":
                one.finish({"metrics": TABLE}, {}, "")
    assert [(row, run.path.name) for row, run in find_finished(tmp_path)] == [("a/first", "1"), ("b/second", "2")]
    assert list(find_finished(tmp_path / "nowhere")) == []


def test_a_forced_run_killed_anywhere_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the write or move at which the process dies: the old result, or the new one, whole."""
    seen = set()
    for deadly in range(12):
        run = RunDirectory(tmp_path / str(deadly), "a/b", "1")
        run.checkpoints.mkdir(parents=True)
        run.new_model.write_text("old model")
        run.finish({"metrics": pd.DataFrame({"a": [1]})}, {"commit": "old"}, "old")
        run.new_model.write_text("new model")
        calls = iter(range(100))
        replace = os.replace

        def dying(*paths: Any, deadly: int = deadly, calls: Any = calls, replace: Any = replace) -> None:
            if next(calls) == deadly:
                raise KeyboardInterrupt
            replace(*paths)

        monkeypatch.setattr(os, "replace", dying)
        with suppress(KeyboardInterrupt):
            run.finish({"metrics": pd.DataFrame({"a": [2]})}, {"commit": "new"}, "new")
        monkeypatch.undo()
        assert run.finished() is not None
        commit = run.environment()["commit"]
        seen.add(commit)
        assert run.table("metrics")["a"].tolist() == [{"old": 1, "new": 2}[commit]]
        assert run.model.read_text() == f"{commit} model"
        assert [row for row, _ in find_finished(tmp_path / str(deadly))] == ["a/b"]
    assert seen == {"old", "new"}


def test_an_attempt_says_how_far_a_run_came_and_is_forgotten(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, "room/row", "abc")
    assert run.attempt() is None
    run.write_attempt(Attempt(failed=True, reason="no space"))
    assert run.attempt() == Attempt(failed=True, reason="no space")
    run.forget_attempt()
    assert not run.path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="can't be written"):
        RunDirectory(tmp_path / "file", "a", "b").write_attempt(Attempt(failed=False))
