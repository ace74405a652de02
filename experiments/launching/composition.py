"""Composes the cells of a multirun, each row once: composing takes longer than asking whether a run is finished."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict, read_write

from experiments.common import trained_run  # noqa: F401 - makes ${trained_run:ROW} known to configurations
from experiments.common.configuration import check_overrides, resolve, run_id
from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory
from experiments.launching.cell import Cell

SEED = "seed="


class Composition:
    """Composes what a sweep asks for; overrides that differ in the seed alone are composed once.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._load = loader.load_sweep_config
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Composes like Hydra's function of that name; the seed is that of the first overrides of the same row."""
        key = tuple(override for override in sweep_overrides if not override.startswith(SEED))
        if key not in self._composed:
            self._composed[key] = self._load(master_config, list(sweep_overrides))
        return self._composed[key]

    def cell(self, master_config: DictConfig, overrides: Sequence[str]) -> tuple[Cell, dict[str, Any]]:
        """Returns a cell and its plain settings, which are empty where the cell is refused."""
        name = " ".join(override for override in overrides if override.startswith(("experiment", SEED)))
        try:
            composed = self.load_sweep_config(master_config, list(overrides))
            row = str(composed.hydra.runtime.choices["experiment"])
            config = copy.copy(composed)
            with read_write(config), open_dict(config):
                del config["hydra"]
                for override in overrides:
                    if override.startswith(SEED):
                        config.seed = OverridesParser.create().parse_override(override).value()
            check_overrides(overrides)
            plain = resolve(config)
        except (ExperimentError, HydraException) as error:
            return Cell(overrides, name=name, reason=" ".join(str(error).split())), {}
        run = RunDirectory(Path(plain["results"]), row, run_id(plain, row))
        name = f"{row} seed {plain['seed']}"
        return Cell(overrides, config, run, name, row, plain["profile"]["name"], plain["force"]), plain
