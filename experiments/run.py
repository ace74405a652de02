"""The one entry point: composes, skips what is finished, runs the rest.

    python -m experiments.run experiment=urn estimator=exact profile=quick seed=0
    python -m experiments.run -m experiment=urn estimator=merged,exact seed=0,1,2 launcher=local

A finished run is skipped, an interrupted one continues from its last checkpoint, ``force=true`` starts over. Lightning
and torch are imported where a run needs them: asking whether hundreds of runs are finished must not take minutes.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import at_once, cell_process
from experiments.cell import Cell, cell_of
from experiments.cell_process import run_apart
from experiments.command_line import FOLDERS, check_command_line
from experiments.configuration import CONFIGS
from experiments.environment import (
    code_facts,
    environment_facts,
    leave_process_group,
)
from experiments.progress import reported
from experiments.settings import ExperimentError, build, typed_path
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
        return run_cell(cell_of(config, experiment, overrides))
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        log.warning("interrupted; the same command continues from the last checkpoint")
        sys.exit(128 + signal.SIGINT)


def run_one_of_many(
    config: DictConfig, experiment: str, overrides: list[str], multirun: Path, job: int, serial: bool
) -> float | None:
    """Runs a cell of a multirun, or starts it where ``runs_at_once`` lets several run; see ``_run_and_report``."""
    words = " ".join(overrides)
    try:
        cell = cell_of(config, experiment, overrides)
    except Exception as error:
        _report_failure(error, multirun, job, words, words)
        return None
    most = at_once.most_at_once(cell.plain) if serial else 1
    if most == 1:
        return _run_and_report(cell, multirun, job, words)
    at_once.start(cell.plain, _run_and_report, cell, multirun, job, words, most)
    return None


def _run_and_report(cell: Cell, multirun: Path, job: int, words: str, most: int = 1) -> float | None:
    """Runs a cell of a multirun, whose failure must not end the others: it is logged and reported.

    Args:
        cell: The cell.
        multirun: Folder of the multirun.
        job: Number of the job.
        words: Its overrides.
        most: How many share a process.
    """
    try:
        report(multirun, job, cell)
        if not cell.plain["force"] and cell.run.finished() is not None:
            return run_cell(cell)
        value: float | None = run_apart(run_cell, cell, True, at_once=most)
        return value
    except Exception as error:
        _report_failure(error, multirun, job, cell, words)
        return None


def _report_failure(error: Exception, multirun: Path, job: int, cell: Cell | str, words: str) -> None:
    reason = str(error)
    if not isinstance(error, ExperimentError):
        log.exception("%s", words)
        reason = f"{type(error).__name__}: {error}"
    reason = " ".join(reason.split())
    log.error("failed: %s: %s", words, reason)
    report(multirun, job, cell, reason)


def run_cell(cell: Cell, wait: bool = False) -> float | None:
    """Runs one cell unless it is finished.

    Args:
        cell: The cell.
        wait: Whether to wait for another process that is at the same cell.

    Returns:
        The mean of the column that ``objective`` names; None without one.

    Raises:
        ExperimentError: something the user can put right; no finished result is touched.
    """
    if cell.plain["force"] or cell.run.finished() is None:
        execute(cell, wait)
    else:
        log.info("%s", skipped(cell.name, cell.run))
    objective = cell.plain["objective"]
    return None if objective is None else cell.run.mean_of(objective)


def execute(cell: Cell, wait: bool = False) -> RunDirectory:
    """Runs one cell and writes its results, unless another process has just finished it.

    Args:
        cell: The cell.
        wait: Whether to wait for another process that is at it.

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
    force, before = cell.plain["force"], cell.run.finished_at
    with cell.run.claim(wait):
        if (not force or cell.run.finished_at != before) and cell.run.finished() is not None:
            log.info("%s", skipped(cell.name, cell.run))
            return cell.run
        try:
            if force:
                cell.run.discard_checkpoints()
            _run(experiment, cell)
        except OSError as error:  # a full disk, a folder that can't be written any more
            reason = f"{error.filename or cell.run.path}: {error.strerror or error}"
            raise ExperimentError(f"{reason}; nothing is half-written, the same command goes on") from error
        except SIGTERMException:  # Lightning's, a SystemExit that would end with status 0
            log.warning("stopped by SIGTERM; the same command continues from the last checkpoint")
            sys.exit(128 + signal.SIGTERM)
    return cell.run


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
    started, code = time.perf_counter(), code_facts()
    config = OmegaConf.to_yaml(OmegaConf.create({**plain, "changes": cell.row.changes}))
    write_atomically(run.new_config, config)  # says of a run that never ends what it was to be
    if plain["threads"] is not None:
        torch.set_num_threads(plain["threads"])
    with default_generator_lock:
        pl.seed_everything(plain["seed"], workers=True, verbose=False)
    trainer = plain["trainer"]
    with (
        own_stream(trainer["accelerator"], trainer["devices"]),
        track(
            **plain["logger"],
            row=cell.row.label,
            run_id=run.path.name,
            seed=plain["seed"],
            job_type=plain["job_type"],
            tags=plain["tags"],
            config=tracked_config(plain, cell.row),
            results=run.results,
            resumed=resumed,
        ) as tracker,
    ):
        tracker.define_metrics(getattr(experiment, "headline_metrics", {}))
        data = Path(plain["data_directory"])
        context = RunContext(plain["seed"], run, tracker, trainer, data, cell.row.axes)
        tables = _tables(experiment, context)
        seconds = round(time.perf_counter() - started, 2)
        measured = {"seconds": seconds, "resumed": resumed}
        if cell_process.calls_at_once > 1:
            measured["runs_at_once"] = cell_process.calls_at_once
        facts = environment_facts(trainer["accelerator"]) | code | measured
        run.finish(tables, facts, config)
        tracker.log_facts(facts)
        tracker.log_files(f"tables-{run.path.name}", "results", [run.path / f"{name}.csv" for name in tables])
        if run.model.is_file():
            tracker.log_files(f"model-{run.path.name}", "model", [run.model])
        run.discard_checkpoints()  # nothing is left to continue
    log.info("%s finished in %.1f s", cell.name, seconds)


def _tables(experiment: Experiment, context: RunContext) -> Mapping[str, pd.DataFrame]:
    """Lets the experiment work; an interruption that Lightning hides comes out as what it was."""
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    def stop(*_: object) -> None:
        if not context.is_training:  # Lightning stops a training at the end of a batch
            raise SIGTERMException

    alone = cell_process.calls_at_once == 1
    before = signal.signal(signal.SIGTERM, stop) if alone else None
    try:
        tables = experiment.run(context)
    except SIGTERMException:
        raise
    except SystemExit:  # Lightning's answer to Ctrl-C, with a status that says nothing
        if context.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before)
    if context.interrupted:
        raise KeyboardInterrupt
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
    except (ExperimentError, ValueError) as error:
        sys.exit(f"error: {error}")
    sys.argv[1:] = arguments
    with reported():
        return main()


if __name__ == "__main__":
    from experiments.run import start  # by this name other processes find it, too

    start(sys.argv[1:])
