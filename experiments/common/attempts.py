"""How far a cell of a multirun came, for the process that launched it: a killed worker says nothing itself.

``attempt.json`` in the run's folder says ``running`` or ``failed`` and why. It is no result, and goes when the run is
finished or the launching process has read it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory, write_atomically

log = logging.getLogger("experiments")
FILE = "attempt.json"


class Attempt(NamedTuple):
    """State of a run that is not finished.

    Attributes:
        failed: It ended with an error; otherwise it runs, or its process died.
        reason: The error, one line.
    """

    failed: bool
    reason: str = ""


def read(run: RunDirectory) -> Attempt | None:
    """Returns what the last attempt left; None where there was none, or it finished."""
    try:
        content = json.loads((run.path / FILE).read_text())
    except FileNotFoundError:
        return None
    return Attempt(content["failed"], content["reason"])


def forget(run: RunDirectory) -> None:
    """Removes what the last attempt left, and the run's folder where nothing else is in it."""
    (run.path / FILE).unlink(missing_ok=True)
    with suppress(OSError):
        run.path.rmdir()


@contextmanager
def recorded(run: RunDirectory) -> Iterator[None]:
    """Writes how far the block comes.

    Raises:
        ExperimentError: the block's own, or one that names any other exception, whose stack trace is logged.
    """

    def write(attempt: Attempt) -> None:
        run.path.mkdir(parents=True, exist_ok=True)
        write_atomically(run.path / FILE, json.dumps(attempt._asdict()))

    try:
        write(Attempt(failed=False))
    except OSError as error:
        raise ExperimentError(f"the results folder {run.path} can't be written ({error.strerror})") from None
    try:
        yield
    except Exception as error:
        if isinstance(error, ExperimentError):
            reason = str(error)
        else:
            log.exception("%s", run.path)
            reason = f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split())
        write(Attempt(failed=True, reason=reason))
        raise ExperimentError(reason) from None
    forget(run)
