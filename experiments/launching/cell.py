"""One cell of a multirun: a row with its overrides, and what the results store says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from experiments.common import attempts
from experiments.common.errors import ExperimentError
from experiments.common.objective import objective
from experiments.common.store import FINISHED, RunDirectory

MOST_ATTEMPTS = 2  # of a cell whose process dies; an error is not tried again


@dataclass
class Cell:
    """A run that a multirun asks for.

    Attributes:
        overrides: The overrides that make it.
        config: Its configuration; None if it does not compose.
        run: Its folder; None if it has none.
        name: Row and seed, for messages.
        row: Row key.
        profile: Name of the profile.
        force: Run it even if it is finished.
        objective: The column whose mean a sweep optimizes.
        reason: Why it failed; None as long as it did not.
        attempts: How often its process died.
    """

    overrides: Sequence[str]
    config: DictConfig | None = None
    run: RunDirectory | None = None
    name: str = ""
    row: str = ""
    profile: str = ""
    force: bool = False
    objective: str | None = None
    reason: str | None = None
    attempts: int = 0
    _before: tuple[int, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._before = self._marker() if self.force else None

    def _marker(self) -> tuple[int, int] | None:
        assert self.run is not None
        try:
            state = (self.run.path / FINISHED).stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino

    @property
    def finished(self) -> bool:
        """Whether the run's marker is there, and newer than this multirun if it was forced."""
        return self.run is not None and self._marker() not in (None, self._before)

    @property
    def failed(self) -> bool:
        """Whether it failed for good, or its worker has just said so."""
        if self.reason is not None or self.run is None:
            return True
        if self.finished:  # an attempt that another multirun made beside it is nothing to this one
            return False
        attempt = attempts.read(self.run)
        return attempt is not None and attempt.failed

    @property
    def waits(self) -> bool:
        """Whether it is still to be run."""
        return self.reason is None and not self.finished

    def verify(self) -> None:
        """Checks the files of a finished run; a damaged one counts as failed."""
        try:
            if self.run is not None and self.finished:
                self.run.finished()
        except ExperimentError as error:
            self.reason = str(error)

    def settle(self, answer: JobReturn | None, trouble: str, started_any: bool) -> None:
        """Takes in what an attempt left.

        Args:
            answer: What the worker gave back; None if the launcher gave up.
            trouble: Why the launcher gave up, empty if it did not.
            started_any: Whether the launcher started any cell; if so, one that was not started has no share in it.
        """
        assert self.run is not None
        attempt = attempts.read(self.run)
        attempts.forget(self.run)
        if self.finished:  # perhaps by another multirun, which the answer then complains of
            self.verify()
        elif answer is not None and answer.status == JobStatus.FAILED:
            self.reason = str(answer._return_value)  # the property prints a line of its own
        elif attempt is not None and attempt.failed:
            self.reason = attempt.reason
        elif attempt is not None or not started_any:
            self.attempts += 1
            if self.attempts == MOST_ATTEMPTS:
                self.reason = f"its process died, the second time too ({trouble or 'it left no result'})"

    def job_return(self) -> JobReturn:
        """Returns what Hydra's sweepers are to know of the cell, wherever and whenever it ran."""
        answer = JobReturn(overrides=list(self.overrides), cfg=self.config, status=JobStatus.COMPLETED)
        if self.reason is None:
            assert self.run is not None
            try:
                answer.return_value = objective(self.run, self.objective)
            except ExperimentError as error:
                self.reason = str(error)
        if self.reason is not None:
            answer.status = JobStatus.FAILED
            answer.return_value = ExperimentError(self.reason)
        return answer
