"""Runs one row: check, seed, run, write. Lightning and torch come with this module."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException

from experiments.common import trained_run  # noqa: F401 - makes ${trained_run:ROW} known to configurations
from experiments.common.configuration import build_experiment, check_overrides, resolve, run_id
from experiments.common.context import Experiment, RunContext
from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import code_facts, environment_facts
from experiments.common.skipping import log_skipped
from experiments.common.store import RunDirectory, write_atomically
from experiments.common.tracking import track, tracked_config

log = logging.getLogger("experiments")


def execute(config: DictConfig, row: str, overrides: Sequence[str] = ()) -> RunDirectory:
    """Runs one row and writes its results.

    Args:
        config: The composed configuration.
        row: Row key, the name of the file under configs/experiment.
        overrides: The command line's overrides, checked and kept beside the result.

    Returns:
        The finished run's folder.

    Raises:
        ExperimentError: something the user can put right; no finished result is touched.
        SystemExit: SIGTERM came; the checkpoint is kept.
    """
    changing = check_overrides(overrides)
    plain = resolve(config)
    experiment = build_experiment(plain["experiment"])
    run = RunDirectory(Path(plain["results"]), row, run_id(plain, row))
    with run.claim():
        if plain["force"]:
            run.discard_checkpoints()
        elif run.finished() is not None:
            log_skipped(run, plain["seed"])
            return run
        try:
            _run(experiment, run, plain, {"overrides": changing}, OmegaConf.to_yaml(config, resolve=True))
        except SIGTERMException:  # Lightning's, a SystemExit that would end with status 0
            log.warning("stopped by SIGTERM; the same command continues from the last checkpoint")
            sys.exit(128 + signal.SIGTERM)
    return run


def _run(
    experiment: Experiment, run: RunDirectory, plain: Mapping[str, Any], facts: Mapping[str, Any], config: str
) -> None:
    resumed = run.last_checkpoint() is not None
    log.info("%s seed %d: %s (%s)", run.row, plain["seed"], "continues" if resumed else "starts", run.path)
    started, code = time.perf_counter(), code_facts()
    write_atomically(run.new_config, config)  # says of a run that never ends what it was to be
    if plain["threads"] is not None:
        torch.set_num_threads(plain["threads"])
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    with track(
        **plain["logger"],
        row=run.row,
        run_id=run.path.name,
        seed=plain["seed"],
        job_type=plain["job_type"],
        tags=plain["tags"],
        config=tracked_config(plain, run.row),
        results=run.results,
        resumed=resumed,
    ) as tracker:
        tracker.define_metrics(getattr(experiment, "headline_metrics", {}))
        context = RunContext(plain["seed"], run, tracker, plain["trainer"], Path(plain["data_directory"]))
        try:
            tables = experiment.run(context)
        except SIGTERMException:
            raise
        except SystemExit:  # Lightning's answer to Ctrl-C, with a status that says nothing
            if context.interrupted:
                raise KeyboardInterrupt from None
            raise
        if context.interrupted:
            raise KeyboardInterrupt
        if "metrics" not in tables:
            raise ExperimentError(f"{run.row}: the experiment returned no table called metrics")
        seconds = round(time.perf_counter() - started, 2)
        measured = {"seconds": seconds, "resumed": resumed}
        facts = environment_facts(plain["trainer"]["accelerator"]) | code | measured | dict(facts)
        run.finish(tables, facts, config)
        tracker.log_facts(facts)
        tracker.log_files(f"tables-{run.path.name}", "results", [run.path / f"{name}.csv" for name in tables])
        if run.model.is_file():
            tracker.log_files(f"model-{run.path.name}", "model", [run.model])
        run.discard_checkpoints()  # nothing is left to continue
    log.info("%s seed %d: finished in %.1f s", run.row, plain["seed"], seconds)
