"""The one entry point: composes, skips what is finished, runs the rest.

    python -m experiments.run experiment=urn estimator=exact profile=quick seed=0
    python -m experiments.run -m experiment=urn estimator=merged,exact seed=0,1,2 launcher=local

A finished run is skipped, an interrupted one continues from its last checkpoint, ``force=true`` starts over. Lightning
and torch are imported where a run needs them: asking whether hundreds of runs are finished must not take minutes.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import cell_process
from experiments.axes import Cell, cell_of
from experiments.command_line import FOLDERS, check_command_line
from experiments.configuration import CONFIGS
from experiments.environment import environment_facts, leave_process_group, peak_memory, reset_peak_memory
from experiments.progress import reported
from experiments.settings import ExperimentError, build, one_line, typed_path
from experiments.store import RunDirectory, write_atomically
from experiments.watched import report, skipped

if TYPE_CHECKING:
    import pandas as pd

    from experiments.context import Experiment, RunContext

log = logging.getLogger("experiments")


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def main(config: DictConfig) -> float | None:
    """Runs one cell for Hydra.

    Returns:
        The mean of the column that ``objective`` names; None without one, and in a multirun where the cell failed: why
        stands in its report to the process that launched it.
    """
    context = HydraConfig.get()
    experiment, overrides = str(context.runtime.choices["experiment"]), list(context.overrides.task)
    if context.mode == RunMode.MULTIRUN:
        serial = context.runtime.choices["launcher"] == "serial"
        return run_one_of_many(config, experiment, overrides, Path(context.sweep.dir), int(context.job.num), serial)
    try:
        cell = cell_of(config, experiment, overrides)
        return run_cell(cell, lambda: attempt(cell))
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        log.warning("interrupted; the same command%s continues from the last checkpoint", _unforced(config.force))
        sys.exit(128 + signal.SIGINT)


def _unforced(force: bool) -> str:
    return " without force=true" if force else ""


def run_one_of_many(
    config: DictConfig, experiment: str, overrides: list[str], multirun: Path, job: int, serial: bool
) -> float | None:
    """Runs a cell of a multirun, or starts it where several share a process: see ``most_at_once``.

    Its failure must not end the others: it is logged, and reported to the process that launched it.
    """
    cell_process.end_with_launcher()
    words = " ".join(overrides)
    failed = partial(_report_failure, multirun, job, words)
    try:
        cell = cell_of(config, experiment, overrides)
    except Exception as error:
        return failed(words, error)
    at_once = most_at_once(cell.plain) if serial else 1

    def run() -> float | None:
        try:
            report(multirun, job, cell)
            return run_cell(cell, lambda: cell_process.run_apart(attempt, cell, True, at_once=at_once))
        except Exception as error:
            return failed(cell, error)

    if at_once == 1:
        return run()
    cell_process.start(run, at_once, json.dumps([cell.plain["trainer"], cell.plain["threads"]]))
    return None


def _report_failure(multirun: Path, job: int, words: str, cell: Cell | str, error: Exception) -> None:
    reason = one_line(error)
    if not isinstance(error, ExperimentError):
        log.exception("%s", words)
        reason = f"{type(error).__name__}: {reason}"
    log.error("failed: %s: %s", words, reason)
    report(multirun, job, cell, reason)


def most_at_once(plain: Mapping[str, Any]) -> int:
    """How many cells of a resolved configuration run at once in one process; 1 for a search, which learns from each."""
    return 1 if plain["objective"] is not None else int(plain["runs_at_once"])


def run_cell(cell: Cell, run: Callable[[], object]) -> float | None:
    """Runs one cell unless it is finished.

    Returns:
        The mean of the column that ``objective`` names; None without one.

    Raises:
        ExperimentError: something the user can put right; no finished result is touched.
    """
    if cell.plain["force"] or cell.run.finished() is None:
        run()
    else:
        log.info("%s", skipped(cell.name, cell.run))
        if cell.plain["experiment"].get("keep_model") and not cell.run.model.exists():
            log.warning("%s: it has kept no model; force=true trains it again", cell.name)
    objective = cell.plain["objective"]
    return None if objective is None else cell.run.mean_of(objective)


def attempt(cell: Cell, wait: bool = False) -> RunDirectory:
    """Executes a cell. What nobody foresaw is a line, too; its stack trace goes into the run's folder.

    Returns:
        The finished run's folder.

    Raises:
        ExperimentError: it failed; no finished result is touched.
        SystemExit: SIGTERM came; the checkpoint is kept.
    """
    try:
        return execute(cell, wait)
    except ExperimentError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        if isinstance(error, ImportError):
            reason += "; `make doctor` says what is missing"
        path = cell.run.checkpoints / "traceback.txt"
        try:
            write_atomically(path, traceback.format_exc())
            reason += f" (stack trace: {path})"
        except OSError:
            log.exception("%s", cell.name)
        raise ExperimentError(reason) from error


def execute(cell: Cell, wait: bool = False) -> RunDirectory:
    """Runs one cell in this process and writes its results, unless another one has just finished it.

    Returns:
        The finished run's folder.

    Raises:
        ExperimentError: something the user can put right; no finished result is touched.
        SystemExit: SIGTERM came; the checkpoint is kept.
    """
    leave_process_group()
    if cell_process.calls_at_once > 1:
        threading.current_thread().name = cell.run.path.name  # which stands before its lines in the log
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    experiment: Experiment = build(cell.plain["experiment"])
    refuse_idle_settings(experiment, cell)
    force, before = cell.plain["force"], cell.run.finished_at
    with cell.run.claim(wait):
        if (not force or cell.run.finished_at != before) and cell.run.finished() is not None:
            log.info("%s", skipped(cell.name, cell.run))
            return cell.run
        try:
            if force:
                cell.run.discard_checkpoints()
            with cell.run.noted_failure():
                _run(experiment, cell)
        except OSError as error:  # a full disk, a folder that can't be written any more
            reason = f"{error.filename or cell.run.path}: {error.strerror or error}"
            raise ExperimentError(f"{reason}; nothing is half-written, the same command goes on") from error
        except SIGTERMException:  # Lightning's, a SystemExit that would end with status 0
            log.warning("stopped by SIGTERM; the same command%s continues from the last checkpoint", _unforced(force))
            sys.exit(128 + signal.SIGTERM)
    return cell.run


def refuse_idle_settings(experiment: Experiment, cell: Cell) -> None:
    """Refuses changes that change nothing: the row would tell runs apart that have the same numbers.

    Raises:
        ExperimentError: names the first one.
    """
    idle = set(getattr(experiment, "idle_settings", ()))
    if find := getattr(experiment, "idle_changes", None):
        idle |= find(cell.replaced)
    for change in cell.row.changes.split():
        if change.partition("=")[0] in idle:
            name = change if change.startswith("trainer.") else f"experiment.{change}"
            raise ExperimentError(f"{name}: nothing reads it in {cell.row.label}; leave it out")


def _run(experiment: Experiment, cell: Cell) -> None:
    import pytorch_lightning as pl
    import torch

    from experiments.captured_steps import own_stream
    from experiments.context import RunContext
    from experiments.tracking import track, tracked_config
    from experiments.training import default_generator_lock

    run, plain = cell.run, cell.plain
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    if plain["trainer"]["accelerator"] in ("gpu", "cuda") and not there:
        raise ExperimentError("trainer=gpu: torch finds no GPU here, `make doctor` says more; trainer=cpu needs none")
    resumed = run.last_checkpoint() is not None
    log.info("%s %s (%s)", cell.name, "continues" if resumed else "starts", run.path)
    started = time.perf_counter()
    config = OmegaConf.to_yaml(OmegaConf.create({**plain, "changes": cell.row.changes}))
    write_atomically(run.new_config, config)  # says of a run that never ends what it was to be
    if plain["threads"] is not None:
        torch.set_num_threads(plain["threads"])
    device = plain["trainer"]["accelerator"], plain["trainer"]["devices"]
    facts = environment_facts(*device)  # before the work, under which the checkout may change
    reset_peak_memory(*device)
    facts |= run.note_code(facts["commit"], facts["dirty"], resumed)
    with default_generator_lock:
        pl.seed_everything(plain["seed"], workers=True, verbose=False)
    trainer = plain["trainer"]
    with (
        own_stream(trainer["accelerator"], trainer["devices"]),
        track(
            run.results,
            **plain["logger"],
            group=cell.row.label,
            run_id=run.path.name,
            resumed=resumed,
            name=cell.name,
            job_type=plain["job_type"],
            tags=plain["tags"],
            config=tracked_config(plain, cell.row),
        ) as tracker,
    ):
        tracker.define_metrics(getattr(experiment, "headline_metrics", {}))
        data = Path(plain["data_directory"])
        axes, changed = cell.row.axes, cell.replaced.keys()
        context = RunContext(plain["seed"], run, tracker, trainer, data, axes, changed, afresh=plain["force"])
        tables = _tables(experiment, context)
        seconds = round(time.perf_counter() - started, 2)
        facts |= peak_memory(*device) | {"seconds": seconds, "resumed": resumed or context.went_on}
        if cell_process.calls_at_once > 1:
            facts["runs_at_once"] = cell_process.calls_at_once
        run.finish(tables, facts, config)
        tracker.log_facts(facts)
        tracker.log_files(f"tables-{run.path.name}", "results", [run.path / f"{name}.csv" for name in tables])
        if run.model.is_file():
            tracker.log_files(f"model-{run.path.name}", "model", [run.model])
        run.discard_checkpoints()  # nothing is left to continue
    log.info("%s finished in %.1f s", cell.name, seconds)


def _tables(experiment: Experiment, context: RunContext) -> Mapping[str, pd.DataFrame]:
    """Lets the experiment work, which SIGTERM ends: at once, or a training at the end of a batch."""
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    def stop(*_: object) -> None:
        if not context.is_training:  # of which Lightning takes care
            raise SIGTERMException

    alone = cell_process.calls_at_once == 1
    before = signal.signal(signal.SIGTERM, stop) if alone else None
    try:
        tables = experiment.run(context)
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before)
    if "metrics" not in tables:
        raise ExperimentError(f"{context.run.row}: the experiment returned no table called metrics")
    return tables


def start(arguments: Sequence[str]) -> Any:
    """Looks at the command line and hands over to Hydra."""
    try:
        for variable in FOLDERS.values():
            if typed := os.environ.pop(variable, ""):  # an empty one is none
                os.environ[variable] = str(typed_path(typed))
        arguments = check_command_line(arguments)
    except (ExperimentError, ArgumentTypeError) as error:
        sys.exit(f"error: {error}")
    sys.argv[1:] = arguments
    os.environ[cell_process.LAUNCHER] = str(os.getpid())
    with reported():
        return main()


if __name__ == "__main__":
    from experiments.run import start  # by this name other processes find it, too

    start(sys.argv[1:])
