"""Multiruns: every launcher gives the same results, finished cells are left out, a dying cell harms no other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.cell_process import run_apart
from experiments.settings import ExperimentError
from experiments.store import RunDirectory
from tests.experiments.helpers import (
    CHECKOUT,
    KS,
    arguments_of,
    csv_bytes,
    environment,
    finished_runs,
    launch,
    run_command,
    started,
    wait_for,
)
from tests.load import children, descendants, load, reports

SMOKE = ("profile=smoke", "logger=disabled")
AGAIN = "the same command, without force=true, goes on: finished cells are skipped, interrupted ones continue from "
AGAIN += "their last checkpoint"
SHORT = (*arguments_of(KS), *SMOKE)
# Long enough a cell to be hit, and with checkpoints.
LONG = (*SHORT, "experiment.draws=50000", "experiment.batch_size=1000", "experiment.max_settings=3")
needs_ray = pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="needs the extra `ray`")


@pytest.mark.parametrize(
    ("launcher", "seeds"),
    [("serial", 2), ("local", 2), ("slurm_local", 1), pytest.param("ray", 2, marks=needs_ray)],
)
def test_a_launcher_gives_the_results_of_single_runs_and_names_the_cells_that_fail(
    launcher: str, seeds: int, tmp_path: Path, alone: Path
) -> None:
    done = run_command(
        "-m", *SHORT, "experiment.batch_size=10000,-1", f"seed=range({seeds})", f"results={tmp_path}",
        f"launcher={launcher}",
    )  # fmt: skip
    assert done.returncode == 3
    lines = done.stderr[done.stderr.index("error:") :].splitlines()
    assert lines[0] == f"error: {seeds} of {2 * seeds} cells failed:"
    assert lines[seeds + 1] == AGAIN
    for line, seed in zip(lines[1 : seeds + 1], range(seeds), strict=True):
        assert line.startswith(f"  {KS} batch_size=-1 seed={seed}: experiment.batch_size: ")
        single = launch(KS, alone, f"seed={seed}")
        assert csv_bytes(RunDirectory(tmp_path, single.row, single.path.name)) == csv_bytes(single)
    assert len(finished_runs(tmp_path)) == seeds
    assert done.stdout.splitlines()[-1] == f"{seeds} of {2 * seeds} cells finished, {seeds} failed"


def test_finished_cells_are_left_out_before_anything_heavy_is_imported(alone: Path) -> None:
    for seed in (0, 1):
        launch(KS, alone, f"seed={seed}")
    arguments = [*SHORT, f"results={alone}"]
    for several, words in (
        (["-m", "seed=0,1", "launcher=local"], "2 of 2 cells are finished already, skipped"),
        (["seed=1"], f"{KS} seed=1: finished at commit "),
    ):
        program = [sys.executable, "-X", "importtime", "-m", "experiments.run", *several, *arguments]
        done = subprocess.run(program, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, check=True)
        assert words in done.stdout
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "hydra" in imported
        assert not imported & {"torch", "pytorch_lightning", "pandas", "numpy", "wandb"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=range(1,1)"], "this command asks for no run: a choice, range or glob in it is empty"),
        (
            ["-m", "experiment.absent=1,2"],
            "Could not override 'experiment.absent': Key 'absent' is not in struct; the command without it, and with "
            "-c job, shows all that there are",
        ),
    ],
)
def test_a_command_that_can_not_be_meant_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    done = run_command(*arguments, *arguments_of(KS))
    assert (done.returncode, done.stderr) == (1, f"error: {message}\n")


def test_a_launcher_that_can_not_work_here_is_named_with_what_is_left(tmp_path: Path) -> None:
    if any((Path(folder) / "srun").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("there is a Slurm here")
    done = run_command("-m", *SHORT, f"results={tmp_path}", "launcher=slurm")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith('error: the launcher gave up (Could not detect "srun"')
    assert lines[1:] == [f"  {KS} seed=0: not started", AGAIN]


def multirun(
    results: Path, *arguments: str, cell: tuple[str, ...] = LONG, path: str = ""
) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("-m", *cell, f"results={results}", *arguments, path=path)


def at_work(results: Path) -> list[Path]:
    """Folders of the runs that have written a checkpoint."""
    return [path.parents[1] for path in results.glob("runs/*/*/*/checkpoints/last.ckpt")]


def killed_cell(results: Path, launcher: str, cells: int) -> None:
    """Kills the process of one of some unfinished cells, and repeats the command."""
    before, unfinished = len(reports(results)), cells - len(finished_runs(results))

    def victims(process: subprocess.Popen[str]) -> list[int]:
        return [pid for pid, line in descendants(process.pid) if "experiments.cell_process" in line]

    with multirun(results, f"seed=range({cells})", f"launcher={launcher}") as process:
        wait_for(lambda: at_work(results) and victims(process))
        os.kill(victims(process)[0], signal.SIGKILL)
        output, errors = process.communicate()
    assert process.returncode == 3
    lines = errors[errors.index("error:") :].splitlines()
    assert lines[0] == f"error: 1 of {cells} cells failed:"
    assert lines[1].endswith(": its process was killed by SIGKILL (out of memory?)")
    assert len(finished_runs(results)) == cells - 1
    assert output.splitlines()[-1] == f"{cells - 1} of {cells} cells finished, 1 failed"
    had_a_checkpoint = bool(at_work(results))  # the killed one, which need not be the first to write one
    again = run_command("-m", *LONG, f"results={results}", f"seed=range({cells})", f"launcher={launcher}")
    assert again.returncode == 0
    assert ("continues" in again.stdout) == had_a_checkpoint
    assert again.stdout.splitlines()[-1] == f"{cells} of {cells} cells finished"
    assert f"{cells - 1} of {cells} cells are finished already, skipped" in again.stdout
    assert again.stdout.count(": finished at commit") == cells - 1  # said once, and not launched again
    assert len(reports(results)) - before == unfinished  # of the first command, which failed


def test_a_cell_whose_process_is_killed_is_named_and_all_others_are_done(tmp_path: Path) -> None:
    killed_cell(tmp_path, "serial", 2)


def test_a_worker_that_is_killed_costs_a_line_for_each_cell_and_takes_its_own_process_along(tmp_path: Path) -> None:
    with multirun(tmp_path, "seed=0,1,2", "launcher=local") as process:
        wait_for(lambda: len(reports(tmp_path)) == 2)
        workers = [pid for pid, line in children(process.pid) if "LokyProcess" in line]
        own = [pid for pid, _ in children(workers[0])]
        os.kill(workers[0], signal.SIGKILL)
        _, errors = process.communicate()
        wait_for(lambda: not any(Path(f"/proc/{pid}/fd").exists() for pid in own))
    assert process.returncode == 1
    lines = errors[errors.index("error:") :].splitlines()
    assert lines[0].startswith("error: the launcher gave up (A worker process managed by the executor was unexpectedly")
    assert sorted(line.rpartition(": ")[2] for line in lines[1:-1]) == ["lost", "lost", "not started"]
    assert lines[-1] == AGAIN
    assert "Traceback" not in errors
    killed_cell(tmp_path, "local", 3)  # the same command goes on, and loses a cell alone


@pytest.mark.parametrize("launcher", ["serial", "local"])
def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(launcher: str, tmp_path: Path) -> None:
    with multirun(tmp_path, "seed=0,1,2", f"launcher={launcher}") as process:
        wait_for(lambda: at_work(tmp_path))
        below = [pid for pid, _ in descendants(process.pid)]
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert process.returncode == 130, errors
    assert output.splitlines()[-1] == f"interrupted; {AGAIN}"


@pytest.mark.parametrize(("launcher", "way"), [("serial", signal.SIGTERM), ("local", signal.SIGKILL)])
def test_a_launching_process_that_is_killed_leaves_none_at_work(
    launcher: str, way: signal.Signals, tmp_path: Path
) -> None:
    # Workers look for their parent once a second, and then their own processes for them: a cell must last longer.
    endless = (*SHORT, "experiment.draws=50000", "experiment.batch_size=50", "experiment.max_settings=null")
    with multirun(tmp_path, "seed=0,1", f"launcher={launcher}", cell=endless) as process:
        wait_for(lambda: at_work(tmp_path))
        below = [pid for pid, line in descendants(process.pid) if "experiments" in line or "Loky" in line]
        os.kill(process.pid, way)
        process.communicate(timeout=60)
        wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert below
    assert not finished_runs(tmp_path)


@pytest.mark.parametrize("finishes", [True, False])
def test_a_multirun_waits_for_the_cell_of_another_and_takes_over_what_it_does_not_finish(
    finishes: bool, tmp_path: Path, alone: Path
) -> None:
    made = launch(KS, alone)
    run = RunDirectory(tmp_path, made.row, made.path.name)
    with multirun(tmp_path, cell=SHORT) as process:
        with run.claim():  # as another multirun does
            assert process.stdout is not None
            assert any("another process is working on this run, waiting for it" in line for line in process.stdout)
            for name in sorted(path.name for path in made.path.iterdir() if path.is_file()) if finishes else ():
                shutil.copy2(made.path / name, run.path / name)  # the marker comes before the tables: held by the lock
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (" finished in " in output) == (not finishes)
    assert csv_bytes(run) == csv_bytes(made)


def test_ctrl_c_takes_the_jobs_out_of_slurm_s_queue(tmp_path: Path) -> None:
    programs = {"srun": "", "sbatch": "Submitted batch job 4711", "sacct": "JobID|State|NodeList"}
    for name, answer in (programs | {"scancel": ""}).items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} $@ >> {tmp_path}/called\necho '{answer}'\n")
        (tmp_path / name).chmod(0o755)
    with multirun(tmp_path / "results", "seed=0,1", "launcher=slurm", path=f"{tmp_path}{os.pathsep}") as process:
        wait_for(lambda: list(tmp_path.rglob("4711_1_submitted.pkl")))
        time.sleep(2.0)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.splitlines()[-1] == f"interrupted; {AGAIN}"
    [cancelled] = [line for line in (tmp_path / "called").read_text().splitlines() if line.startswith("scancel")]
    assert {"4711_0", "4711_1"} <= set(cancelled.split()[1:]) <= {"4711", "4711_0", "4711_1"}


def test_processes_killed_and_checkpoints_cut_at_random_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """The load test in little; tests/load.py is the whole."""
    counts = load(tmp_path, cells=4, processes=2, seed=0, pause=5.0, cut_every=2, kills=3)
    assert (counts["finished"], counts["status"]) == (4, 0)
    assert 0 < counts["kills"] <= 3  # fewer where the machine is fast
    assert (counts["corrupt"], counts["lost"], counts["repeated"]) == (0, 0, 0)


def test_a_function_runs_apart_and_its_errors_come_back() -> None:
    first, second = run_apart(os.getpid), run_apart(os.getpid)
    assert first == second != os.getpid()  # the process is kept
    with pytest.raises(ExperimentError, match="FileNotFoundError: .* No such file"):
        run_apart(os.stat, "absent")
    with pytest.raises(ExperimentError, match="its process ended with status 3"):
        run_apart(os._exit, 3)
    assert run_apart(os.getpid) != first
