"""The results store: finished runs are skipped and guarded, nothing is lost, nothing is half written."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import mvhg
from experiments.environment import project_version
from experiments.run import run_cell
from experiments.settings import ExperimentError
from experiments.store import LOCK_SECONDS, RunDirectory, readable_checkpoint, write_atomically
from experiments.watched import Watched, say_finished, skipped
from tests.experiments.helpers import KS, cell, csv_bytes, finished_runs, launch

PAIRS = "weak_supervision method=label_vae shared=3"
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


def test_a_finished_run_without_the_model_that_is_now_asked_for_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = cell(PAIRS, "profile=smoke", "experiment.keep_model=true", f"results={tmp_path}")
    with asked.run.claim():
        asked.run.finish({"metrics": TABLE}, {}, "")
    run_cell(asked, lambda: pytest.fail("a finished run is made again"))
    assert "it has kept no model; force=true trains it again" in caplog.text
    caplog.clear()
    asked.run.model.touch()
    run_cell(asked, lambda: pytest.fail("a finished run is made again"))
    assert "no model" not in caplog.text


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


def test_a_run_of_another_version_is_skipped_and_named(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    run.finish({"metrics": TABLE}, {"commit": "0123456789abcdef", "version": mvhg.__version__}, "")
    assert skipped("urn seed=3", run) == f"urn seed=3: finished at commit 0123456789, skipped ({run.path})"
    run.finish({"metrics": TABLE}, {"commit": "0123456789abcdef", "version": "0.0.9"}, "")
    words = f"urn seed=3: finished by version 0.0.9 (this is {mvhg.__version__}), skipped; force=true runs it again"
    assert skipped("urn seed=3", run) == f"{words} ({run.path})"
    say_finished([Watched("urn", run), Watched("waits")])
    assert "1 of 2 cells are finished already, skipped\n  urn: finished by version" in capsys.readouterr().out
    say_finished([Watched("urn", run)] * 9)
    said = capsys.readouterr().out.splitlines()
    assert said == ["9 of 9 cells are finished already, skipped", f"  9 of them by another version than this "
                    f"({mvhg.__version__}); force=true runs them again"]  # fmt: skip


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
    for damaged in ("{", "[]", '{"files": 3}', "", "\0\0", '{"files": {}}', '{"files": {"config.yaml": ""}}'):
        (run.path / "finished.json").write_text(damaged)
        with pytest.raises(ExperimentError, match=r"finished.json is damaged; force=true"):
            run.finished()
    (run.path / "finished.json").unlink()
    (run.path / "finished.json").mkdir()
    with pytest.raises(ExperimentError, match=r"finished.json can't be read \(Is a directory\)"):
        run.finished()
    (run.path / "finished.json").rmdir()
    (run.path / ".next").mkdir()
    (run.path / ".next" / "finished.json").write_text("\0\0")  # not whole: the run is not finished
    assert run.finished() is None


def one_byte_altered(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.arange(1000.0)}}, path)
    content = bytearray(path.read_bytes())
    assert not torch.equal(*(_altered(path, content, value)["state_dict"]["a"] for value in (0, 1))), "torch reads it"


def _altered(path: Path, content: bytearray, value: int) -> dict[str, Any]:
    place = content.index(torch.arange(1000.0).numpy().tobytes()) + 2002
    content[place] ^= value
    path.write_bytes(content)
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def truncated(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.arange(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a checkpoint"),
        truncated,
        one_byte_altered,
        lambda path: torch.save([1.0], path),
        lambda path: torch.save({"state_dict": {}, "hook": os.system}, path),  # would run code
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_over(
    damage: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = cell(KS, "profile=smoke", f"results={tmp_path}").run
    target.checkpoints.mkdir(parents=True)
    checkpoint = target.checkpoints / "last.ckpt"
    torch.save({"state_dict": {}}, checkpoint)
    assert target.last_checkpoint() == checkpoint
    damage(checkpoint)
    content = checkpoint.read_bytes()
    assert target.last_checkpoint() is None
    assert "last.ckpt can't be read" in caplog.text
    assert (target.checkpoints / "unreadable.ckpt").read_bytes() == content
    assert target.last_checkpoint() is None
    checkpoint.write_bytes(content)
    assert csv_bytes(launch(KS, tmp_path)) == csv_bytes(launch(KS, tmp_path / "alone"))


def test_a_checkpoint_without_its_parts_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "loops": 3}, path)
    assert readable_checkpoint(path, ["loops"]) == path
    assert readable_checkpoint(path, ["loops", "optimizer_states", "chunked_training"]) is None
    assert "can't be read (it lacks chunked_training, optimizer_states)" in caplog.text


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


def test_a_run_that_goes_on_forgets_why_it_failed(run: RunDirectory) -> None:
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    with pytest.raises(ExperimentError), run.noted_failure():
        raise ExperimentError("no room")
    assert run.failure == "no room"
    with pytest.raises(SystemExit), run.noted_failure():
        sys.exit(1)  # stopped from outside
    assert run.failure is None


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_two_processes_cannot_work_on_the_same_run(run: RunDirectory) -> None:
    again = RunDirectory(run.path.parents[3], "room/row", "abc")
    with run.claim():
        with pytest.raises(ExperimentError, match="another process is working on this run"), again.claim():
            pass
        waiting = threading.Thread(target=lambda: again.claim(wait=True).__enter__())
        waiting.start()
        waiting.join(LOCK_SECONDS + 1)
        assert waiting.is_alive()
    waiting.join(5)
    assert not waiting.is_alive()


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
        assert [run.row for run in finished_runs(tmp_path / str(deadly))] == ["a/b"]
    assert seen == {"old", "new"}
