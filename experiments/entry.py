"""What the command line runs: composes, skips what is finished, starts the rest."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import experiments.launching  # noqa: F401 - makes the launchers known to Hydra
from experiments.common import attempts, trained_run  # noqa: F401 - makes ${trained_run:ROW} known to configurations
from experiments.common.configuration import CONFIGS, check_overrides, resolve, run_id
from experiments.common.errors import ExperimentError
from experiments.common.objective import objective
from experiments.common.skipping import log_skipped
from experiments.common.store import RunDirectory

log = logging.getLogger("experiments")


def run_of(plain: Mapping[str, Any], row: str) -> RunDirectory:
    """Returns the folder of the run that a resolved configuration makes."""
    return RunDirectory(Path(plain["results"]), row, run_id(plain, row))


def run_cell(config: DictConfig, row: str, overrides: list[str]) -> float | None:
    """Runs one row unless it is finished, without importing torch if it is.

    Returns:
        The mean of the column that ``objective`` names; None without one.
    """
    check_overrides(overrides)
    plain = resolve(config)
    run = run_of(plain, row)
    if not plain["force"] and run.finished() is not None:
        log_skipped(run, plain["seed"])
    else:
        from experiments.common.execution import execute

        execute(config, row, overrides)
    return objective(run, plain["objective"])


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def main(config: DictConfig) -> float | None:
    """Hydra's entry point."""
    context = HydraConfig.get()
    row, overrides = str(context.runtime.choices["experiment"]), list(context.overrides.task)
    if context.mode == RunMode.MULTIRUN:  # in a worker, perhaps; experiments.launching tells the user
        with attempts.recorded(run_of(resolve(config), row)):
            return run_cell(config, row, overrides)
    try:
        return run_cell(config, row, overrides)
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        log.warning("interrupted; the same command continues from the last checkpoint")
        sys.exit(128 + signal.SIGINT)
