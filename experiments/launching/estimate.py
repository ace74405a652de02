"""How long cells take: by the committed results, scaled by what this multirun has taken so far."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

SMOKE_SECONDS = 5.0
PRIOR_SECONDS = 120.0  # of finished work after which this multirun's own rate counts as much as the committed one
MOST_BEGUN = 0.7  # share of a cell at work that can count as done
METRICS = Path(__file__).resolve().parents[2] / "results" / "metrics"


def committed_seconds(folder: Path = METRICS) -> dict[tuple[str, str], float]:
    """Returns the median seconds of every (row, profile) of the committed results."""
    seconds: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for path in sorted(folder.glob("*_metrics.csv")):
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                if line.get("seconds"):
                    seconds[line["row"], line["profile"]][line["seed"]] = float(line["seconds"])
    return {key: median(by_seed.values()) for key, by_seed in seconds.items()}


def weights(cells: Sequence[tuple[str, str]], known: dict[tuple[str, str], float]) -> list[float]:
    """Returns what each cell takes beside the others.

    Args:
        cells: (row, profile) of each.
        known: Seconds by (row, profile). A row without its profile takes the median over its other profiles, a row that
            isn't there the median of the other cells. Smoke runs, which others say nothing about, weigh the same.

    Returns:
        Seconds of a profile of the row's, to be scaled.
    """
    by_row: dict[str, list[float]] = defaultdict(list)
    for (row, _), seconds in known.items():
        by_row[row].append(seconds)
    found = [
        SMOKE_SECONDS
        if profile == "smoke"
        else known.get((row, profile)) or (median(by_row[row]) if row in by_row else None)
        for row, profile in cells
    ]
    present = [value for value in found if value is not None]
    rest = median(present) if present else 1.0
    return [rest if value is None else value for value in found]


def seconds_left(done: float, running: float, left: float, elapsed: float, processes: int = 1) -> float:
    """Returns the seconds that are left, at the committed rate first and more and more at this multirun's own.

    Cells that are at work count as far as the committed rate brings them, without which the time left would grow until
    the first of them ends, but never as more than ``MOST_BEGUN``: one that takes longer is not about to end.

    Args:
        done: Seconds that the finished cells take by the committed results.
        running: The same of those that are at work.
        left: The same of all that are not finished, those at work among them.
        elapsed: Seconds since the start.
        processes: Cells at a time.
    """
    begun = min(max(elapsed * processes - done, 0.0), MOST_BEGUN * running)
    rate = (elapsed + PRIOR_SECONDS / processes) / (done + begun + PRIOR_SECONDS)
    return (left - begun) * rate


def in_words(seconds: float) -> str:
    """Returns a duration as people say it: 40 seconds, 9 minutes, 2.5 hours."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
