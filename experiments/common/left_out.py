"""Which runs the collected metrics leave out, and why: a table beside them, so that no page is silent about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from experiments.common.store import write_atomically

FILE = "left_out.csv"
_COLUMNS = ("run", "reason")


def write_left_out(metrics: Path, left_out: Sequence[tuple[str, str]], seen: Collection[str] | None = None) -> None:
    """Writes ``<metrics>/left_out.csv``, or removes an old one where nothing is left out.

    Args:
        metrics: Folder of the collected metrics.
        left_out: Run and reason.
        seen: Keep what the file says of runs that are not among these; None: of none.
    """
    path = metrics / FILE
    if seen is not None and path.is_file():
        before = pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False, name=None)
        left_out = sorted([*left_out, *((run, reason) for run, reason in before if run not in seen)])
    if not left_out:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, pd.DataFrame(left_out, columns=list(_COLUMNS)).to_csv(index=False, lineterminator="\n"))


def read_left_out(metrics: Path) -> list[str]:
    """Returns what was left out, a line each; empty where nothing was."""
    path = metrics / FILE
    if not path.is_file():
        return []
    return [f"{line.run}: {line.reason}" for line in pd.read_csv(path, dtype=str, keep_default_na=False).itertuples()]
