"""Which runs count: one finished, whole run of this version per row, profile, data and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.common.configuration import CONFIGS, resolve, run_id
from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import project_version
from experiments.common.skipping import FIRST_VERSION
from experiments.common.store import CONFIG, FINISHED, RunDirectory, find_runs


class Cell(NamedTuple):
    """What makes a run one of its kind; in the order of the CSVs."""

    row: str
    profile: str
    data: str  # empty where a row has data of its own
    seed: int


@dataclass
class Selection:
    """Runs by their cells, and what was left out.

    Attributes:
        runs: The run of every cell.
        problems: Run and reason of those that should have counted: broken, of another version, not finished.
        unwanted: The same of those that were not asked for: another seed, changed settings, older than another.
        dirty: Runs that count, made with changes that are in no commit.
    """

    runs: dict[Cell, RunDirectory] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unwanted: list[tuple[str, str]] = field(default_factory=list)
    dirty: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Of all runs that were looked at."""
        return {_name(run) for run in self.runs.values()} | {run for run, _ in [*self.problems, *self.unwanted]}


def _is_plain(cell: Cell, run: RunDirectory) -> bool:
    """Whether a run is its row as it is defined, though settings were given: they may be the row's own."""
    overrides = [f"experiment={cell.row}", f"profile={cell.profile}", f"seed={cell.seed}"]
    room = cell.row.split("/")[0]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        plain = hydra.compose("config", overrides)
        for key in plain.profile:
            if room.startswith(str(key)) and cell.data and "data" in plain.profile[key]:
                plain.profile[key].data = cell.data
    return run_id(resolve(plain), cell.row) == run.path.name


def _name(run: RunDirectory) -> str:
    return run.path.relative_to(run.results).as_posix()


def select_runs(
    results: Path, profile: str | None, seeds: frozenset[int] | None = None, data: str | None = None
) -> Selection:
    """Looks through a results folder.

    Args:
        results: Results folder with ``runs/``.
        profile: Profile to take; None for every one except ``smoke``.
        seeds: Seeds to take; None for every one.
        data: Data to take, in rooms where a row can be run on more than one; None for all.
    """
    selection = Selection()

    def asked(cell: Cell) -> bool:
        of_profile = cell.profile == profile if profile else cell.profile != "smoke"
        return of_profile and (not data or cell.data in ("", data))

    for run, cell, facts in _runs(results, asked, selection.problems):
        name = _name(run)
        if seeds is not None and cell.seed not in seeds:
            selection.unwanted.append((name, f"seed {cell.seed}"))
        elif facts is None:
            selection.problems.append((name, "not finished: it failed, was stopped, or is still running"))
        elif facts["overrides"] and not _is_plain(cell, run):
            selection.unwanted.append((name, f"run with {' '.join(facts['overrides'])}"))
        elif (version := facts.get("version", FIRST_VERSION)) != project_version():
            reason = f"made by version {version}, and this is {project_version()}; force=true runs it again"
            selection.problems.append((name, reason))
        elif cell in selection.runs:
            selection.unwanted.append((name, f"older than {_name(selection.runs[cell])}"))
        else:
            selection.runs[cell] = run
            if facts["dirty"]:
                selection.dirty.append(name)
    return selection


def _runs(
    results: Path, asked: Callable[[Cell], bool], problems: list[tuple[str, str]]
) -> Iterator[tuple[RunDirectory, Cell, dict[str, Any] | None]]:
    """Yields the runs that are asked for, the newest of each row first, with the facts of a finished one.

    Names those that are broken, and those that can't be read and so may have been asked for.
    """
    found = []
    for row, run in find_runs(results):
        try:
            finished = run.finished() is not None
            config = OmegaConf.load(run.path / CONFIG if finished else run.new_config)
            source = OmegaConf.select(config, "experiment.data.source") or ""
            cell = Cell(row, config.profile.name, source, config.seed)
            if asked(cell):
                newest = (run.path / FINISHED if finished else run.new_config).stat().st_mtime
                found.append((row, -newest, run, cell, run.environment() if finished else None))
        except ExperimentError as error:
            problems.append((_name(run), str(error).replace(f"{run.path}/", "")))
        except FileNotFoundError:
            problems.append((_name(run), "not finished: it was stopped before it began"))
        except (OSError, ValueError, OmegaConfBaseException) as error:
            problems.append((_name(run), f"can't be read ({error})"))
    for _, _, run, cell, facts in sorted(found, key=lambda one: one[:2]):
        yield run, cell, facts
