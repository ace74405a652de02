"""Says how far a multirun is, whoever runs its cells: the results store is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from experiments.launching.cell import Cell
from experiments.launching.estimate import committed_seconds, in_words, seconds_left, weights


class Progress:
    """While the block runs, prints a line when the count changes, and one every half minute.

    Args:
        cells: All cells of the multirun, those that were finished before among them.
        processes: Cells that run at a time.
        poll_every: Seconds between two looks at the store.
        say_every: Seconds after which a line comes even if nothing changed.
    """

    def __init__(
        self, cells: Sequence[Cell], processes: int = 1, poll_every: float = 1.0, say_every: float = 30.0
    ) -> None:
        self._cells, self._processes = cells, processes
        self._poll_every, self._say_every = poll_every, say_every
        self._weights = weights([(cell.row, cell.profile) for cell in cells], committed_seconds())
        self._before = [cell.finished or cell.failed for cell in cells]
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def line(self) -> str:
        """Returns the state, say ``12 of 58 cells finished, 1 failed, about 9 minutes left``."""
        failed = [cell.failed for cell in self._cells]
        finished = [cell.finished and not wrong for cell, wrong in zip(self._cells, failed, strict=True)]
        parts = [f"{sum(finished)} of {len(self._cells)} cells finished"]
        if any(failed):
            parts.append(f"{sum(failed)} failed")
        done, left = 0.0, []
        for weight, ended, wrong, before in zip(self._weights, finished, failed, self._before, strict=True):
            if ended and not before:
                done += weight
            elif not ended and not wrong:
                left.append(weight)
        if left:
            running, elapsed = sum(left[: self._processes]), time.monotonic() - self._started
            seconds = seconds_left(done, running, sum(left), elapsed, self._processes)
            parts.append(f"about {in_words(seconds)} left")
        return ", ".join(parts)

    def _watch(self) -> None:
        counts, said = "", -self._say_every
        while True:
            line = self.line()
            now = time.monotonic()
            if line.partition(", about")[0] != counts or now - said >= self._say_every:
                print(line, flush=True)
                counts, said = line.partition(", about")[0], now
            if self._stop.wait(self._poll_every):
                return

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        print(self.line(), flush=True)
