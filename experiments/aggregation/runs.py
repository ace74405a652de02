"""Which runs count: one finished, whole run of this version per row, changes, profile, data and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.axes import Row
from experiments.environment import FIRST_VERSION, project_version
from experiments.settings import ExperimentError
from experiments.store import CONFIG, FINISHED, RunDirectory, find_runs

PROVENANCE = ("commit", "dirty", "device", "seconds")  # facts of the environment that every line of the metrics has


@dataclass(frozen=True)
class Origin:
    """What makes a run one of its kind.

    Attributes:
        row: Experiment, axes and changes.
        profile: Name of the profile.
        data: Empty where an experiment has data of its own.
        seed: The seed.
        all_axes: Of the experiment, those among them that the row has no value of.
        target: The experiment's class.
    """

    row: Row
    profile: str
    data: str
    seed: int
    all_axes: tuple[str, ...]
    target: str

    @property
    def columns(self) -> dict[str, Any]:
        """The first columns of the collected tables, in their order."""
        axes = {axis: self.row.axes.get(axis, "") for axis in self.all_axes}
        data = {"data": self.data} if self.data else {}
        return {**axes, "changes": self.row.changes, "profile": self.profile, **data, "seed": self.seed}

    @property
    def key(self) -> tuple[Any, ...]:
        """Sorts as the collected tables are sorted, and is the same for runs of the same kind."""
        columns = [value if name == "seed" else str(value) for name, value in self.columns.items()]
        return (self.row.experiment, *columns)


@dataclass
class Selection:
    """Runs that count, and what was left out.

    Attributes:
        runs: By the key of their origin.
        problems: Run and reason of those that should have counted: broken, of another version, not finished.
        unwanted: The same of those that were not asked for: another seed, older than another.
        dirty: Runs that count, made with changes that are in no commit.
    """

    runs: dict[tuple[Any, ...], tuple[Origin, RunDirectory]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unwanted: list[tuple[str, str]] = field(default_factory=list)
    dirty: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Of all runs that were looked at."""
        return {_name(run) for _, run in self.runs.values()} | {run for run, _ in [*self.problems, *self.unwanted]}


def select_runs(results: Path, profile: str | None, seeds: frozenset[int] | None = None) -> Selection:
    """Looks through a results folder.

    Args:
        results: Results folder with ``runs/``.
        profile: Profile to take; None for every one except ``smoke``.
        seeds: Seeds to take; None for every one.
    """
    selection = Selection()

    def asked(origin: Origin) -> bool:
        return origin.profile == profile if profile else origin.profile != "smoke"

    for run, origin, facts in _runs(results, asked, selection):
        name = _name(run)
        if seeds is not None and origin.seed not in seeds:
            selection.unwanted.append((name, f"seed {origin.seed}"))
        elif facts is None:
            what = f"{origin.row.changes}: " if origin.row.changes else ""
            why = run.failure or "it was stopped, or is still running"
            selection.problems.append((name, f"{what}not finished: {why}"))
        elif (version := facts.get("version", FIRST_VERSION)) != project_version():
            reason = f"made by version {version}, and this is {project_version()}; force=true runs it again"
            selection.problems.append((name, reason))
        elif origin.key in selection.runs:
            selection.unwanted.append((name, f"older than {_name(selection.runs[origin.key][1])}"))
        else:
            selection.runs[origin.key] = origin, run
            if facts["dirty"]:
                selection.dirty.append(name)
    return selection


def _runs(
    results: Path, asked: Callable[[Origin], bool], selection: Selection
) -> Iterator[tuple[RunDirectory, Origin, dict[str, Any] | None]]:
    """Yields the runs that are asked for, the newest of each row first, with the facts of a finished one.

    Names those that are broken, and those that can't be read and so may have been asked for.
    """
    found = []
    for folder, run in find_runs(results):
        try:
            finished = run.finished() is not None
            config = OmegaConf.load(run.path / CONFIG if finished else run.new_config)
            assert isinstance(config, DictConfig)
            if "axes" not in config and finished:
                selection.unwanted.append((_name(run), "made before experiments had axes"))
                continue
            facts = run.environment() if finished else None
            if facts is not None and (lacking := sorted({*PROVENANCE, "resumed", "packages"} - set(facts))):
                raise ExperimentError(f"environment.json does not say {', '.join(lacking)}; force=true runs it again")
            origin = _origin(folder.partition("/")[0], config)
            if asked(origin):
                newest = (run.path / FINISHED if finished else run.new_config).stat().st_mtime
                found.append((folder, -newest, run, origin, facts))
        except ExperimentError as error:
            selection.problems.append((_name(run), str(error).replace(f"{run.path}/", "")))
        except FileNotFoundError:
            selection.problems.append((_name(run), "not finished: it was stopped before it began"))
        except Exception as error:  # a file that is not whole can break its readers in any way
            reason = " ".join(str(error).split()) or "it is no configuration of a run"
            selection.problems.append((_name(run), f"can't be read ({reason})"))
    for _, _, run, origin, facts in sorted(found, key=lambda one: one[:2]):
        yield run, origin, facts


def _origin(experiment: str, config: DictConfig) -> Origin:
    axes = {axis: config[axis] for axis in config.axes if axis in config}
    return Origin(
        row=Row(experiment, axes, config.get("changes", "")),
        profile=config.profile.name,
        data=OmegaConf.select(config, "experiment.data.source") or "",
        seed=config.seed,
        all_axes=tuple(config.axes),
        target=config.experiment["_target_"],
    )


def _name(run: RunDirectory) -> str:
    return run.path.relative_to(run.results).as_posix()
