"""The command line: clear refusals, multirun, and what an interrupted run becomes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from experiments.common.command_line import check_results_folder
from experiments.common.errors import ExperimentError
from tests.experiments.helpers import CHECKOUT, KS, command, csv_bytes, environment, launch, run_command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"experiment={KS}", "no_such_key=1"], "Could not override 'no_such_key'"),
        ([f"experiment={KS}", "profile=huge"], "error: profile=huge: there is no such choice; choose from medium"),
        ([f"experiment={KS}", "launcher=moon"], "error: launcher=moon: there is no such choice; choose from local"),
        (["experiment=urn/exakt"], "error: experiment=urn/exakt: there is no such row; near it: urn/exact"),
        ([f"experiment={KS}", "hydra/launcher=joblib"], "error: hydra/launcher=joblib: choose with launcher=serial"),
        ([], "error: choose a row with experiment=ROOM/ROW, one of: clustering/categorical_60"),
        ([f"experiment={KS}", "profile=smoke", "experiment.sampler=best"], "sampler must be one of sample, straight_"),
    ],
)
def test_a_wrong_command_ends_with_a_message_and_no_stack_trace(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run_command(*arguments, f"results={tmp_path}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+experiment.extra=1", "keys can't be added or removed"),
        ("+surprise=1", "keys can't be added or removed"),
        ("experiment.conditionals=approximate", "conditionals must be one of exact, merged, got 'approximate'"),
        ("experiment.draws=0", "draws must be an integer of at least 1, got 0"),
        ("experiment.draws=many", "draws must be an integer of at least 1, got 'many'"),
        ("experiment.temperature=0", "temperature must be above 0, got 0"),
        ("experiment.references=[truth]", "references must be one of exact, merged, got 'truth'"),
        ("experiment.series.weights.parameter=colour", "series.weights.parameter must be one of weight, total_count"),
        ("experiment.series.weights.varied_group=3", "series.weights.varied_group must be in 0..2, got 3"),
        ("experiment.series.weights.values=[]", "series.weights.values must not be empty"),
        ("seed=-1", "seed must be an integer of at least 0, got -1"),
        ("seed=one", "seed must be an integer of at least 0, got 'one'"),
        ("threads=0", "threads must be an integer of at least 1 or null, got 0"),
        ("trainer.devices=2", "a run takes one device of one machine, got trainer.devices=2 and trainer.num_nodes=1"),
        ("trainer.devices=auto", "give trainer.devices=1 or one index in brackets, trainer.devices=[1]"),
        ("trainer.devices=[0,1]", "got trainer.devices=[0, 1] and trainer.num_nodes=1"),
        ("force=maybe", "force must be true or false, got 'maybe'"),
        ("job_type=guess", "job_type must be one of sample, pretrain, train, evaluate, got 'guess'"),
        ("logger.mode=carrier_pigeon", "logger.mode must be one of offline, online, disabled, got 'carrier_pigeon'"),
        ("trainer.accelerator=abacus", "trainer: "),
    ],
)
def test_an_unknown_value_is_refused_by_name(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        if override.startswith("+"):
            from experiments.common.configuration import check_overrides

            check_overrides([override])
        launch(KS, tmp_path, override)
    assert message in str(caught.value)


def test_several_machines_are_refused_and_a_chosen_device_is_not(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"got trainer\.devices=1 and trainer\.num_nodes=2"):
        launch(KS, tmp_path, "+trainer.num_nodes=2")
    with pytest.raises(ExperimentError, match="draws must be"):  # what is looked at after the trainer
        launch(KS, tmp_path, "trainer.devices=[1]", "experiment.draws=0")


def test_a_results_folder_that_cannot_be_written_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match=r"the results folder .*file/runs.* can't be written .* results=FOLDER"):
        launch(KS, tmp_path / "file")


def test_a_multirun_writes_one_folder_per_seed_and_nothing_else(tmp_path: Path) -> None:
    before = set(CHECKOUT.iterdir())
    done = run_command("-m", f"experiment={KS}", "profile=smoke", "logger=disabled", "seed=0,1", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs" / KS).iterdir())) == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"kolmogorov_smirnov", ".multirun"}
    # What other tests and tools that run at the same time leave in a checkout.
    tools = {".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__", "build", "dist", "mvhg.egg-info"}
    assert {path.name for path in CHECKOUT.iterdir()} - {path.name for path in before} <= tools


SLOW_ENOUGH = ["experiment.draws=50000", "experiment.batch_size=1000", "experiment.max_settings=3"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_continues_and_gives_the_numbers_of_an_uninterrupted_one(
    how: signal.Signals, tmp_path: Path
) -> None:
    row = "kolmogorov_smirnov/weights_exact_straight_through"
    overrides = [*SLOW_ENOUGH, "experiment.references=[exact]"]
    arguments = [f"experiment={row}", "profile=smoke", "logger=disabled", f"results={tmp_path}", *overrides]
    process = subprocess.Popen(
        command(*arguments),
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts background jobs with interrupts ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 200
    while not list((tmp_path / "runs").glob("*/*/*/checkpoints/last.ckpt")):
        assert process.poll() is None, "the run ended before it saved a checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    assert ("the same command continues from the last checkpoint" in said) == (how != signal.SIGKILL)
    assert "Traceback" not in said
    [folder] = (tmp_path / "runs" / row).iterdir()
    assert not (folder / "finished.json").exists()
    assert not list(folder.glob("*.csv"))

    run = launch(row, tmp_path, *overrides)
    assert run.path == folder
    assert json.loads((folder / "environment.json").read_text())["resumed"] is True
    assert csv_bytes(run) == csv_bytes(launch(row, tmp_path / "uninterrupted", *overrides))


def test_a_results_folder_that_cannot_be_made_is_named_before_hydra_starts() -> None:
    with pytest.raises(ExperimentError, match="the results folder /proc/none can't be written"):
        check_results_folder(["-m", "results=/proc/none"])
