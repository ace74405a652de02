"""Several cells in one process: the results of single runs, also where one diverges, dies or is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import UserDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CUDAAccelerator

from experiments import cell_process
from experiments.captured_steps import SharedGPU
from experiments.cell_process import run_apart, run_beside
from experiments.context import RunContext
from experiments.environment import leave_process_group
from experiments.run import most_at_once
from experiments.settings import ExperimentError
from experiments.shared import Shared, on_device
from experiments.store import RunDirectory
from experiments.tracking import Tracker
from experiments.training import ChunkedTraining
from tests.experiments.helpers import csv_bytes, finished_runs, launch, run_command, wait_for
from tests.experiments.test_launching import AGAIN, multirun
from tests.load import descendants

pytestmark = pytest.mark.usefixtures("one_thread")
SMOKE = ("profile=smoke", "logger=disabled", "runs_at_once=2")
PAIRS = (
    "experiment.evaluation_train_pairs=40", "experiment.evaluation_test_pairs=30", "experiment.profile_pairs=20",
    "experiment.training.batch_size=2",
)  # fmt: skip
DIGITS = ("recipe=vade", "version=60")  # without UMAP, which compiles for half a minute


def by_itself(run: RunDirectory, results: Path, *overrides: str) -> RunDirectory:
    """The same run, by itself in this process."""
    experiment, _, axes = run.row.partition("/")
    return launch(f"{experiment} {axes.replace(',', ' ')}", results, *overrides)


def at_work(results: Path) -> list[Path]:
    return list(results.rglob("last.ckpt"))


def wait_for_the_end_of(processes: list[tuple[int, str]]) -> None:
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid, _ in processes))


def test_pairs_trained_beside_each_other_give_the_results_of_single_runs_and_one_that_diverges_ends_alone(
    tmp_path: Path, alone: Path
) -> None:
    rates = ("experiment.training.learning_rate=0.001,1.0e+30",)
    done = run_command(
        "-m", "experiment=weak_supervision", "method=label_vae,ada_vae", "shared=3", *SMOKE, *PAIRS, *rates,
        f"results={tmp_path / 'many'}",
    )  # fmt: skip
    assert done.returncode == 3
    lines = done.stderr[done.stderr.index("error:") :].splitlines()
    assert lines[0] == "error: 2 of 4 cells failed:"
    for line in lines[1:3]:
        assert "learning_rate=1000" in line and "not finite; stopped, and the last checkpoint is kept" in line
    runs = finished_runs(tmp_path / "many")
    assert len(runs) == 2
    for run in runs:
        single = by_itself(run, alone, *PAIRS)
        assert csv_bytes(run) == csv_bytes(single)
        assert run.path.name == single.path.name
        assert run.environment()["runs_at_once"] == 2
        assert f"[{run.path.name}]   classifiers: " in done.stdout


def test_digits_beside_each_other_give_the_results_of_single_runs_also_when_they_are_ended_and_go_on(
    tmp_path: Path, alone: Path
) -> None:
    chosen = ("experiment=clustering", "prior=uniform,hypergeometric", *DIGITS, "experiment.training.max_epochs=10")

    def trained() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in at_work(tmp_path) if "pretraining" not in str(path)}

    with multirun(tmp_path / "many", *SMOKE, cell=chosen) as process:
        wait_for(lambda: len(trained()) == 2, seconds=240)
        below = descendants(process.pid)
        [shared] = [pid for pid, line in below if "cell_process" in line and len(line.split("\0")) > 5]
        os.kill(shared, signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        wait_for_the_end_of(below)
    assert process.returncode == 3
    assert errors.count(": its process ended with status 143\n") == 2
    kept = trained()
    with multirun(tmp_path / "many", *SMOKE, cell=chosen) as process:
        wait_for(lambda: trained() != kept, seconds=240)
        below = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=120)
        wait_for_the_end_of(below)
    assert process.returncode == 130, errors
    assert output.splitlines()[-1] == f"interrupted; {AGAIN}"
    again = run_command("-m", *chosen, *SMOKE, f"results={tmp_path / 'many'}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" continues (") == 2
    for run in finished_runs(tmp_path / "many"):
        single = by_itself(run, alone, *DIGITS, "experiment.training.max_epochs=10")
        assert csv_bytes(run) == csv_bytes(single)


def test_a_run_that_is_to_end_with_its_process_ends_after_a_chunk_as_an_interrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    step = ChunkedTraining.training_step

    def ending(self: ChunkedTraining, *arguments: Any) -> None:
        step(self, *arguments)
        taken.append(self.steps_taken)
        if self.steps_taken == 15:  # in the second of two epochs of ten steps
            cell_process.stopping.set()

    monkeypatch.setattr(ChunkedTraining, "training_step", ending)
    monkeypatch.setattr(cell_process, "stopping", threading.Event())
    with pytest.raises(KeyboardInterrupt):
        launch("weak_supervision method=label_vae shared=3", tmp_path, *PAIRS)
    cell_process.stopping.clear()
    monkeypatch.setattr(ChunkedTraining, "training_step", step)
    assert taken == [5, 10, 15]
    [checkpoint] = tmp_path.rglob("last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["chunked_training"]["steps_taken"] == 10


def test_a_stage_of_the_host_runs_in_a_process_of_its_own_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_beside(os.getpid) == os.getpid()
    monkeypatch.setattr(cell_process, "calls_at_once", 2)
    here = os.getpid()
    assert run_beside(os.getpid) == run_beside(os.getpid) != here  # kept
    assert run_beside(torch.get_num_threads) == torch.get_num_threads()
    tensor = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(run_beside(torch.t, tensor), tensor.T)


def test_a_child_takes_several_calls_at_once_and_its_death_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    def call(function: Any, *arguments: Any) -> None:
        try:
            found.append(run_apart(function, *arguments, at_once=3))
        except ExperimentError as error:
            found.append(str(error))

    threads = [threading.Thread(target=call, args=(time.sleep, 60)) for _ in range(2)]
    monkeypatch.setattr(cell_process, "_idle", [])  # without children of other tests
    for thread in threads:
        thread.start()
    wait_for(lambda: len(cell_process._idle) == 1)
    call(os.getpid)
    call(os._exit, 3)
    for thread in threads:
        thread.join()
    assert found[0] != os.getpid()
    assert found[1:] == ["its process ended with status 3"] * 3
    assert not cell_process._idle


def test_runs_that_share_a_process_share_their_data_and_images_as_long_as_one_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared: Shared[torch.Tensor] = Shared()
    one = shared.get("key", lambda: torch.zeros(2))
    assert shared.get("key", lambda: torch.ones(2)) is not one  # alone
    monkeypatch.setattr(cell_process, "calls_at_once", 2)
    first = shared.get("key", lambda: torch.zeros(2))
    assert shared.get("key", lambda: torch.ones(2)) is first
    del first
    assert shared.get("key", lambda: torch.ones(2)).sum() == 2
    images, meta = torch.zeros(3), torch.device("meta")
    placed = on_device(images, meta)
    assert on_device(images, meta) is placed
    assert on_device(torch.zeros(3), meta) is not placed
    assert on_device(images, torch.device("cpu")) is images


@pytest.mark.parametrize(("objective", "most"), [(None, 3), ("metrics.rmse", 1)])
def test_a_search_runs_one_after_the_other(objective: str | None, most: int) -> None:
    assert most_at_once({"runs_at_once": 3, "objective": objective}) == most


def test_a_trainer_that_begins_or_ends_leaves_what_graphs_of_other_runs_write_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cleared: list[str] = []
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: cleared.append("cuBLAS"), raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: cleared.append("memory"))
    trainer: Any = SimpleNamespace(local_rank=0)
    for accelerator in (SharedGPU(), CUDAAccelerator()):
        assert not cleared
        accelerator.setup(trainer)
        accelerator.teardown()
    assert cleared == 2 * ["cuBLAS", "memory"]  # Lightning's


@pytest.mark.parametrize(("accelerator", "there"), [("gpu", True), ("gpu", False), ("cpu", True)])
def test_a_trainer_takes_the_shared_gpu_where_there_is_one(
    accelerator: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedGPU, "is_available", staticmethod(lambda: there))
    monkeypatch.setattr(pl, "Trainer", lambda **settings: settings["accelerator"])
    context = RunContext(0, RunDirectory(tmp_path, "a", "b"), Tracker(None), {"accelerator": accelerator})
    assert isinstance(context.trainer(), SharedGPU) == (accelerator == "gpu" and there)


def test_a_training_leaves_torchs_own_generator_alone_which_runs_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[torch.Tensor] = []
    for name in ("on_fit_start", "on_train_end"):
        monkeypatch.setattr(ChunkedTraining, name, _noting(states, getattr(ChunkedTraining, name)))
    launch("weak_supervision method=hgvae shared=3", tmp_path, *PAIRS)
    launch("clustering prior=hypergeometric version=60", tmp_path, "recipe=vade")
    launch("urn estimator=exact", tmp_path)
    assert len(states) >= 8
    for before, after in zip(states[::2], states[1::2], strict=True):
        assert torch.equal(before, after)


def _noting(states: list[torch.Tensor], method: Any) -> Any:
    def noting(self: Any) -> None:
        states.append(torch.get_rng_state())
        method(self)

    return noting


def test_a_variable_that_another_run_takes_away_meanwhile_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanishing(UserDict[str, str]):
        def __getitem__(self, name: str) -> str:
            return self.data.pop(name)  # as if another thread deleted it right after

    monkeypatch.setattr(os, "environ", Vanishing(PL_GLOBAL_SEED="3", HOME="/"))
    leave_process_group()
    assert list(os.environ) == ["HOME"]
