"""A cell: one run that a command asks for, known before anything heavy is imported."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.axes import Row, row_of, run_id
from experiments.configuration import axes_of, compose, resolve
from experiments.store import RunDirectory


@dataclass(frozen=True)
class Cell:
    """A row with profile and seed.

    Attributes:
        row: Its row.
        plain: Its resolved configuration.
        run: Its folder.
    """

    row: Row
    plain: dict[str, Any]
    run: RunDirectory

    @property
    def name(self) -> str:
        """For messages, for example ``urn estimator=exact seed=0``."""
        return f"{self.row.label} seed={self.plain['seed']}"


def cell_of(config: DictConfig, experiment: str, overrides: Sequence[str] = ()) -> Cell:
    """Returns the cell of a composed configuration.

    Args:
        config: As Hydra composes it.
        experiment: Name of the experiment; Hydra's ``runtime.choices["experiment"]``.
        overrides: The command line's.

    Raises:
        ExperimentError: a setting is refused.
    """
    plain = resolve(config)
    row = row_of(plain, experiment, overrides)
    return Cell(row, plain, RunDirectory(Path(plain["results"]), row.folder, run_id(plain, row)))


def trained_run_id(experiment: str, *, _root_: DictConfig) -> str:
    """Returns the id of the run that this command makes of another experiment, whose trained model it starts from.

    A configuration asks for it by ``${trained_run:EXPERIMENT}``. The other run has the same values of its axes, the
    same settings where both have them, and the same profile, seed and trainer. So its id is part of the asking run's
    settings, and of its own id: a model that is trained differently is scored again.

    Args:
        experiment: name of the other experiment.
        _root_: the whole configuration, from OmegaConf.
    """
    axes = [axis for axis in axes_of(experiment) if axis in _root_]
    config = copy.deepcopy(compose(f"experiment={experiment}", *(f"{axis}={_root_[axis]}" for axis in axes)))
    with open_dict(config):
        for section in ("profile", "seed", "trainer"):
            config[section] = _root_[section]
        for key in config.experiment:
            if key != "_target_" and key in _root_.experiment:
                config.experiment[key] = copy.deepcopy(_root_.experiment._get_node(key))
    plain = resolve(config)
    return run_id(plain, row_of(plain, experiment))


OmegaConf.register_new_resolver("trained_run", trained_run_id, replace=True)
