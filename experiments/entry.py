"""What the command line runs: composes, skips what is finished, starts the rest."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.common import trained_run  # noqa: F401 - makes ${trained_run:ROW} known to configurations
from experiments.common.configuration import CONFIGS, check_overrides, resolve, run_id
from experiments.common.errors import ExperimentError
from experiments.common.objective import objective
from experiments.common.skipping import log_skipped
from experiments.common.store import RunDirectory

log = logging.getLogger("experiments")


def run_cell(config: DictConfig, row: str, overrides: list[str]) -> float | None:
    """Runs one row unless it is finished, without importing torch if it is.

    Returns:
        The mean of the column that ``objective`` names; None without one.
    """
    check_overrides(overrides)
    plain = resolve(config)
    run = RunDirectory(Path(plain["results"]), row, run_id(plain, row))
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
    try:
        return run_cell(config, str(context.runtime.choices["experiment"]), list(context.overrides.task))
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues from the last checkpoint")
