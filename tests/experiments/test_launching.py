"""Multiruns: every launcher gives the same results, finished cells are left out, a dying cell harms no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from omegaconf import OmegaConf

from experiments.common import attempts
from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory
from experiments.launching.cell import Cell
from experiments.launching.kill_test import kill_test, process_tree
from experiments.launching.launcher import CellLauncher
from tests.experiments.helpers import CHECKOUT, KS, csv_bytes, environment, launch, run_command

needs_ray = pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="needs the extra `ray`")


@pytest.mark.parametrize("launcher", ["serial", "local", "slurm_local", pytest.param("ray", marks=needs_ray)])
def test_a_launcher_gives_the_results_of_single_runs_and_names_the_cells_that_fail(
    launcher: str, tmp_path: Path
) -> None:
    results = tmp_path / "many"
    arguments = [
        "-m", f"experiment={KS}", "experiment.sampler=sample,best", "seed=0,1", "profile=smoke", "logger=disabled",
        f"results={results}", f"launcher={launcher}",
    ]  # fmt: skip
    done = run_command(*arguments)
    assert done.returncode == 1
    assert "error: 2 of 4 cells failed:" in done.stderr
    for seed in (0, 1):
        reason = "experiment: sampler must be one of sample, straight_through, got 'best'"
        assert f"{KS} seed {seed} experiment.sampler=best: {reason}" in done.stderr
        alone = launch(KS, tmp_path / "alone", f"seed={seed}")
        assert csv_bytes(RunDirectory(results, KS, alone.path.name)) == csv_bytes(alone)
    assert len(list((results / "runs" / KS).iterdir())) == 2
    assert "2 of 4 cells finished, 2 failed" in done.stdout


def test_finished_cells_are_left_out_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    for seed in (0, 1):
        launch(KS, tmp_path, f"seed={seed}")
    arguments = [f"experiment={KS}", "profile=smoke", "logger=disabled", f"results={tmp_path}"]
    for several, words in (
        (["-m", "seed=0,1", "launcher=local"], "2 of 2 cells are finished already, skipped"),
        (["seed=1"], f"{KS} seed 1: finished at commit "),
    ):
        program = [sys.executable, "-X", "importtime", "-m", "experiments.run", *several, *arguments]
        done = subprocess.run(program, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, check=True)
        assert words in done.stdout
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "hydra" in imported
        assert not imported & {"torch", "pytorch_lightning", "pandas", "numpy", "wandb"}


def test_killing_processes_loses_no_finished_run(tmp_path: Path) -> None:
    lines: list[str] = []
    kill_test(tmp_path, "local", times=1, seed=0, log=lines.append, moments=(3.0, 9.0))
    assert lines[0].startswith("kill 1: a process below the parent")
    assert lines[-1] == "the last: status 0, 5 of 5 runs finished"


def test_the_process_tree_holds_this_process_and_its_children() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert child in process_tree(os.getpid())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class Pool(HydraLauncher):
    """A base launcher that plays a pool: what becomes of a cell is decided by a function of its overrides."""

    def __init__(self, results: Path, fate: Callable[[str], str]) -> None:
        self.results, self.fate = results, fate
        self.batches: list[list[str]] = []

    def setup(self, **_: Any) -> None:
        raise AssertionError

    def run(self, name: str) -> RunDirectory:
        return RunDirectory(self.results, "room/row", name)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        names = [overrides[0] for overrides in job_overrides]
        self.batches.append(names)
        answers = []
        for position, name in enumerate(names):
            run = self.run(name)
            run.path.mkdir(parents=True, exist_ok=True)
            fate = self.fate(name)
            answers.append(JobReturn(status=JobStatus.COMPLETED))
            if fate == "refuses":
                raise ExperimentError("no queue here")
            if fate == "can't write":
                answers[-1] = JobReturn(status=JobStatus.FAILED, _return_value=ExperimentError("can't be written"))
                continue
            try:
                with attempts.recorded(run):
                    if fate == "raises":
                        raise ExperimentError("a bad setting")
                    if fate == "dies":
                        raise BrokenPipeError
                    run.finish({"metrics": pd.DataFrame({"x": [1.0, 3.0]})}, {"commit": "c"}, "")
            except ExperimentError as error:
                answers[-1] = JobReturn(status=JobStatus.FAILED, _return_value=error)
                if fate == "dies":  # as a killed process leaves it, beside one that ran at the same time
                    neighbours = [name, *names[position + 1 : position + 2]]
                    for neighbour in neighbours:
                        path = self.run(neighbour).path
                        path.mkdir(parents=True, exist_ok=True)
                        (path / attempts.FILE).write_text('{"failed": false, "reason": ""}')
                    raise RuntimeError("a worker died. Much more text") from None
        return answers


def launcher_of(pool: Pool, sweeper: dict[str, Any] | None = None) -> Any:
    class Launcher(CellLauncher, Pool):  # type: ignore[misc]
        shared_fate = True

        class _composition:
            @staticmethod
            def cell(master: object, overrides: Sequence[str]) -> Cell:
                return Cell(overrides, run=pool.run(overrides[0]), name=overrides[0], row="room/row", objective="x")

    launcher = Launcher(pool.results, pool.fate)
    launcher.batches = pool.batches
    launcher._master = OmegaConf.create({"hydra": {"sweeper": sweeper or {}}})
    return launcher


def test_a_cell_that_dies_twice_is_named_and_all_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = Pool(tmp_path, lambda name: {"b": "dies", "e": "raises"}.get(name, "finishes"))
    names = ["a", "b", "c", "d", "e"]
    with pytest.raises(SystemExit) as stopped:
        launcher_of(pool).launch([[name] for name in names], 0)
    assert str(stopped.value) == (
        "error: 2 of 5 cells failed:\n  b: its process died, the second time too (a worker died)\n  e: a bad setting"
    )
    # After the death: those that ran then, one at a time; then the rest. What raised is not tried again.
    assert pool.batches == [names, ["b"], ["c"], ["d", "e"]]
    assert all(pool.run(name).finished() for name in "acd")
    assert not list(tmp_path.rglob(attempts.FILE))
    assert capsys.readouterr().out.splitlines()[-1] == "3 of 5 cells finished, 2 failed"


def test_a_launcher_that_starts_nothing_gives_up(tmp_path: Path) -> None:
    pool = Pool(tmp_path, lambda name: "refuses")
    with pytest.raises(SystemExit, match="1 of 1 cells failed:\n  a: no queue here"):
        launcher_of(pool).launch([["a"]], 0)
    assert pool.batches == [["a"]]


def test_an_error_that_a_worker_can_only_answer_is_the_reason_and_not_tried_again(tmp_path: Path) -> None:
    pool = Pool(tmp_path, lambda name: "can't write" if name == "b" else "finishes")
    with pytest.raises(SystemExit, match="1 of 2 cells failed:\n  b: can't be written"):
        launcher_of(pool).launch([["a"], ["b"]], 0)
    assert pool.batches == [["a", "b"]]


def test_what_another_multirun_failed_at_is_no_failure_of_a_cell_that_is_finished(tmp_path: Path) -> None:
    run = Pool(tmp_path, lambda name: "finishes").run("a")
    run.path.mkdir(parents=True)
    cell = Cell(["a"], run=run)
    with pytest.raises(ExperimentError), attempts.recorded(run):
        raise ExperimentError("another process is working on this run")
    assert cell.failed
    run.finish({"metrics": pd.DataFrame({"x": [1.0]})}, {}, "")
    assert not cell.failed
    refused = ExperimentError("another process is working on this run")
    cell.settle(JobReturn(status=JobStatus.FAILED, _return_value=refused), "", True)
    assert cell.reason is None
    assert not cell.waits


def test_a_sweeper_gets_the_objective_of_finished_cells_and_the_failures_that_it_tolerates(tmp_path: Path) -> None:
    pool = Pool(tmp_path, lambda name: "raises" if name == "b" else "finishes")
    first = launcher_of(pool).launch([["a"]], 0)
    assert [answer.return_value for answer in first] == [2.0]
    again = launcher_of(pool, {"max_failure_rate": 0.5}).launch([["a"], ["b"], ["a"]], 0)
    assert pool.batches == [["a"], ["b"]]
    assert [answer.status for answer in again] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    assert again[2].return_value == 2.0
    with pytest.raises(ExperimentError, match="a bad setting"):
        _ = again[1].return_value


def test_a_forced_cell_counts_as_finished_when_its_marker_is_a_new_one(tmp_path: Path) -> None:
    run = Pool(tmp_path, lambda name: "finishes").run("a")
    run.path.mkdir(parents=True)
    tables = {"metrics": pd.DataFrame({"x": [1.0]})}
    run.finish(tables, {}, "")
    assert Cell(["a"], run=run).finished
    forced = Cell(["a"], run=run, force=True)
    assert not forced.finished
    run.finish(tables, {}, "")
    assert forced.finished
