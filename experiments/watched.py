"""A cell as the process sees it that launched it: a folder of the results store, and what its worker reports.

A worker, here or on another machine, writes its reports into the folder of the multirun, a file a cell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.axes import Cell
from experiments.environment import FIRST_VERSION, project_version
from experiments.settings import ExperimentError
from experiments.store import RunDirectory, write_atomically

FEW = 3  # finished cells that are named one by one


def report(multirun: Path, job: int, cell: Cell | str, reason: str | None = None) -> None:
    """In a worker: says that a cell was begun, or why it failed.

    Args:
        multirun: Folder of the multirun.
        job: Number of the job.
        cell: The cell; its overrides where they make none.
        reason: Why it failed, one line; None when it begins.
    """
    content: dict[str, Any] = {"reason": reason, "name": cell if isinstance(cell, str) else cell.name}
    if isinstance(cell, Cell):
        content["run"] = [str(cell.run.results), cell.run.row, cell.run.path.name]
    multirun.mkdir(parents=True, exist_ok=True)
    write_atomically(multirun / f"{job}.json", json.dumps(content))


@dataclass
class Watched:
    """A cell of a multirun.

    Attributes:
        name: For messages.
        run: Its folder; None if its settings are refused.
        force: Whether it is run though it is finished.
        reason: Why it failed; None as long as it did not.
        started: Since when it runs, seconds of the epoch; None as long as it waits.
    """

    name: str
    run: RunDirectory | None = None
    force: bool = False
    reason: str | None = None
    started: float | None = None
    _finished_before: float | None = field(init=False)

    def __post_init__(self) -> None:
        self._finished_before = self.run.finished_at if self.run else None
        if self.run and self.finished_before:
            try:
                self.run.finished()
            except ExperimentError as error:  # a worker will say the same
                self.reason = str(error)

    @property
    def finished_before(self) -> bool:
        """Whether it was finished when the multirun began, and is not to be run again."""
        return self._finished_before is not None and not self.force

    @property
    def finished(self) -> bool:
        """Whether the run's marker is there, and newer than this multirun if it was forced."""
        marked = self.run.finished_at if self.run and self.reason is None else None
        return marked is not None and not (self.force and marked == self._finished_before)

    @property
    def at_work(self) -> bool:
        """Whether it was begun, and neither finished nor failed."""
        return self.started is not None and self.reason is None and not self.finished

    @property
    def needed(self) -> float:
        """Seconds that a cell at work still needs for its training, by its own rate; 0 where it has not said so."""
        end = self.run.trained_at(self.started) if self.run and self.started else None
        return max(0.0, end - time.time()) if end else 0.0

    @property
    def seconds(self) -> float:
        """How long a finished run took."""
        try:
            return float(self.run.environment()["seconds"]) if self.run else 0.0
        except (ExperimentError, ValueError, KeyError):
            return 0.0


def read_reports(multirun: Path, cells: list[Watched]) -> None:
    """Brings the cells of a multirun up to date, and adds those that were not known before: a search's."""
    by_run = {cell.run.path: cell for cell in cells if cell.run}
    for path in sorted(multirun.glob("*.json"), key=lambda path: int(path.stem)):
        content, began = json.loads(path.read_text()), path.stat().st_mtime
        run = RunDirectory(Path(content["run"][0]), *content["run"][1:]) if "run" in content else None
        cell = by_run.get(run.path) if run else next((one for one in cells if one.name == content["name"]), None)
        if cell is None:
            cell = Watched(content["name"], run)
            cells.append(cell)
        cell.started = began
        finished_at = cell.run.finished_at if cell.run else None
        if not cell.finished or (finished_at and began > finished_at):  # what failed after it: the objective
            cell.reason = content["reason"]


def seconds_left(cells: Sequence[Watched], total: int, processes: int) -> float | None:
    """Returns the seconds until all cells are done, by those that this multirun has finished and those at work.

    It is never shorter than what the longest of those at work still needs by its own rate. None as long as none says
    anything.

    Args:
        cells: Those that are known.
        total: How many there will be; fewer may be known, of a search.
        processes: Cells at a time.
    """
    now, at_work = time.time(), [(cell, cell.needed) for cell in cells if cell.at_work]
    taken = [cell.seconds for cell in cells if cell.finished and not cell.finished_before]
    taken += [now - cell.started + needed for cell, needed in at_work if cell.started and needed]
    if not taken:
        return None
    one = fmean(taken)
    ended = sum(cell.finished or cell.reason is not None for cell in cells)
    left = [max(needed, one - (now - (cell.started or now))) for cell, needed in at_work]
    left += [one] * (total - ended - len(at_work))
    return max([sum(left) / processes, *left], default=0.0)


def in_words(seconds: float) -> str:
    """Returns a duration as people say it: 40 seconds, 9 minutes, 2.5 hours."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def skipped(name: str, run: RunDirectory) -> str:
    """Says that a finished run is not run again: which commit made it, and which version if it was not this one."""
    facts, version = run.environment(), project_version()
    made_by = facts.get("version", FIRST_VERSION)
    if made_by == version:
        return f"{name}: finished at commit {facts.get('commit', 'unknown'):.10}, skipped ({run.path})"
    return f"{name}: finished by version {made_by} (this is {version}), skipped; force=true runs it again ({run.path})"


def say_finished(cells: Sequence[Watched]) -> None:
    """Says how many cells are finished already; names a few, and says of more how many another version made."""
    finished = [(cell, cell.run) for cell in cells if cell.finished and cell.run]
    if not finished:
        return
    print(f"{len(finished)} of {len(cells)} cells are finished already, skipped", flush=True)
    lines = [skipped(cell.name, run) for cell, run in finished]
    if len(lines) > FEW:
        others = sum("finished by version" in line for line in lines)
        words = f"{others} of them by another version than this ({project_version()}); force=true runs them again"
        lines = [words] if others else []
    for line in lines:
        print(f"  {line}", flush=True)
