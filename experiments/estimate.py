"""How long cells take: by the committed results first, then by what this multirun has taken so far."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

SMOKE_SECONDS = 5.0
PRIOR_SECONDS = 120.0  # of finished work after which this multirun's own rate counts as much as the committed one
MOST_BEGUN = 0.7  # share of a cell at work that can count as done: one that takes longer is not about to end
METRICS = Path(__file__).resolve().parents[1] / "results" / "metrics"


class Kind(NamedTuple):
    """What decides how long a cell takes.

    Attributes:
        experiment: Name of the experiment.
        label: Of its row.
        profile: Name of the profile.
    """

    experiment: str
    label: str
    profile: str


NO_KIND = Kind("", "", "")  # of a cell whose settings are refused


class Work(NamedTuple):
    """A cell's share in the time that is left.

    Attributes:
        expected: Seconds it takes by the committed results.
        elapsed: Seconds that it took, or has taken so far; None as long as it waits.
        finished: Whether it is.
        needed: Seconds that it still needs at least, by its own word.
    """

    expected: float
    elapsed: float | None = None
    finished: bool = False
    needed: float = 0.0


def committed_seconds(folder: Path = METRICS) -> dict[Kind, float]:
    """Returns the median seconds of the runs of every kind in the committed results."""
    seconds: dict[Kind, dict[str, float]] = defaultdict(dict)
    for path in sorted(folder.glob("*_metrics.csv")):
        with suppress(OSError, ValueError, KeyError, csv.Error), path.open(newline="") as file:
            for line in csv.DictReader(file):  # a broken table costs its part of the estimate and no more
                if line.get("seconds"):
                    experiment = path.name.removesuffix("_metrics.csv")
                    names = list(line)
                    axes = [f"{axis}={line[axis]}" for axis in names[: names.index("changes")] if line[axis]]
                    label = " ".join([experiment, *axes, *filter(None, [line["changes"]])])
                    seconds[Kind(experiment, label, line["profile"])][line["run_id"]] = float(line["seconds"])
    return {kind: median(by_run.values()) for kind, by_run in seconds.items()}


def expected_seconds(kinds: Sequence[Kind], known: Mapping[Kind, float]) -> list[float]:
    """Returns what each cell takes beside the others, in seconds of the machine that made the committed results.

    What is not known takes the median of what is nearest to it: the other profiles of its row, the rows of its
    experiment in this profile, all of its experiment, the other cells. Smoke runs, which others say nothing about, take
    the same.
    """

    def median_of(fits: Callable[[Kind], bool]) -> float | None:
        values = [seconds for kind, seconds in known.items() if fits(kind)]
        return median(values) if values else None

    def expected(kind: Kind) -> float | None:
        if kind.profile == "smoke":
            return SMOKE_SECONDS
        return (
            known.get(kind)
            or median_of(lambda one: one.label == kind.label)
            or median_of(lambda one: (one.experiment, one.profile) == (kind.experiment, kind.profile))
            or median_of(lambda one: one.experiment == kind.experiment)
        )

    found = [expected(kind) for kind in kinds]
    present = [seconds for seconds in found if seconds is not None]
    rest = median(present) if present else 1.0
    return [rest if seconds is None else seconds for seconds in found]


def seconds_left(cells: Iterable[Work], processes: int) -> float:
    """Returns the seconds until all cells are finished, at the committed rate first and more and more at their own.

    It is never shorter than what the longest of those that run still needs by its own rate.

    Args:
        cells: All cells but those that failed or were finished before.
        processes: Cells at a time.
    """
    cells = list(cells)
    begun = [cell for cell in cells if cell.elapsed is not None]
    taken = sum(cell.elapsed or 0.0 for cell in begun)
    done = sum(cell.expected if cell.finished else _done(cell) for cell in begun)
    rate = (taken + PRIOR_SECONDS) / (done + PRIOR_SECONDS)
    left = [cell for cell in cells if not cell.finished]
    needed = [max(cell.needed, (cell.expected - _done(cell)) * _own_rate(cell, rate)) for cell in left]
    return max([sum(needed) / processes, *needed], default=0.0)


def _done(cell: Work) -> float:
    """What a cell that runs has done of its expected seconds, at most."""
    return min(cell.elapsed or 0.0, MOST_BEGUN * cell.expected)


def _own_rate(cell: Work, rate: float) -> float:
    return max(rate, (cell.elapsed or 0.0) / (MOST_BEGUN * cell.expected))


def in_words(seconds: float) -> str:
    """Returns a duration as people say it: 40 seconds, 9 minutes, 2.5 hours."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
