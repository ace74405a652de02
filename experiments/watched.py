"""A cell as the process sees it that launched it: a folder of the results store, and what a worker has left there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.cell import Cell
from experiments.environment import FIRST_VERSION, project_version
from experiments.estimate import Kind
from experiments.settings import ExperimentError
from experiments.store import ATTEMPT, FINISHED, RunDirectory, write_atomically

FEW = 3  # finished cells that are named one by one


@dataclass
class Watched:
    """A cell of a multirun.

    Attributes:
        name: For messages.
        kind: What decides how long it takes.
        run: Its folder.
        force: Whether it is run though it is finished.
        refusal: Why it can't be run; None if it can.
        finished_before: Whether it was finished when the multirun began.
    """

    name: str
    kind: Kind
    run: RunDirectory
    force: bool = False
    refusal: str | None = None
    finished_before: bool = field(init=False)
    _before: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.force:
            self._before = self._marker()
        self.finished_before = self.finished

    @classmethod
    def of(cls, cell: Cell) -> Watched:
        """Returns the view of a cell, and forgets why it failed before."""
        if _failure(cell.run) is not None:
            cell.run.forget_attempt()
        kind = Kind(cell.row.experiment, cell.row.label, cell.profile)
        watched = cls(cell.name, kind, cell.run, cell.plain["force"])
        if watched.finished:
            try:
                cell.run.finished()
            except ExperimentError as error:  # a worker will say the same
                watched.refusal = str(error)
        return watched

    @classmethod
    def refused(cls, name: str, reason: str) -> Watched:
        """Returns the view of a cell that has no folder."""
        return cls(name, Kind("", "", ""), RunDirectory(Path(), "none", "none"), refusal=reason)

    def announce(self, path: Path) -> None:
        """Writes the cell down for the process that launched it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        place = [str(self.run.results), self.run.row, self.run.path.name]
        write_atomically(path, json.dumps({"name": self.name, "kind": self.kind, "run": place}))

    @classmethod
    def announced(cls, path: Path) -> Watched:
        """Reads what a worker has written down."""
        content = json.loads(path.read_text())
        results, row, run_id = content["run"]
        return cls(content["name"], Kind(*content["kind"]), RunDirectory(Path(results), row, run_id))

    def _marker(self) -> float | None:
        try:
            return (self.run.path / FINISHED).stat().st_mtime
        except OSError:
            return None

    @property
    def finished(self) -> bool:
        """Whether the run's marker is there, and newer than this multirun if it was forced."""
        return self.refusal is None and self._marker() not in (None, self._before)

    @property
    def reason(self) -> str | None:
        """Why it failed; None as long as it did not, and where another multirun has finished it since."""
        if self.refusal is not None or self.finished:
            return self.refusal
        return _failure(self.run)

    def started(self, earliest: float) -> float | None:
        """Returns since when it runs; None if it doesn't, or if what was begun earlier was given up."""
        try:
            moment = (self.run.path / ATTEMPT).stat().st_mtime
        except OSError:
            return None
        return moment if moment >= earliest - 1 else None

    @property
    def seconds(self) -> float:
        """How long a finished run took."""
        try:
            return float(self.run.environment()["seconds"])
        except (OSError, ValueError, KeyError):
            return 0.0


def _failure(run: RunDirectory) -> str | None:
    """Why the last attempt failed; None if it did not, or if what it left can't be read."""
    try:
        attempt = run.attempt()
    except (OSError, ValueError, KeyError):
        return None
    return attempt.reason if attempt is not None and attempt.failed else None


def say_finished(cells: Sequence[Watched]) -> None:
    """Says how many cells are finished already, and by which version if it was not this one."""
    finished = [cell for cell in cells if cell.finished]
    if not finished:
        return
    facts = [cell.run.environment() for cell in finished]
    version = project_version()
    others = Counter(str(one.get("version", FIRST_VERSION)) for one in facts)
    del others[version]
    print(f"{len(finished)} of {len(cells)} cells are finished already, skipped", flush=True)
    for other, count in sorted(others.items()):
        print(f"  {count} of them by version {other} (this is {version}); force=true runs them again", flush=True)
    for cell, one in zip(finished, facts) if len(finished) <= FEW else ():
        print(f"  {cell.name}: finished at commit {one['commit']:.10}, skipped ({cell.run.path})", flush=True)
