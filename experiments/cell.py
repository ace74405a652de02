"""A cell: one run that a command asks for, known before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments import trained_run  # noqa: F401 - makes ${trained_run:EXPERIMENT} known to configurations
from experiments.axes import Row, row_of, run_id
from experiments.configuration import resolve
from experiments.estimate import Kind
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

    @property
    def kind(self) -> Kind:
        """What decides how long it takes."""
        return Kind(self.row.experiment, self.row.label, str(self.plain["profile"]["name"]))


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
