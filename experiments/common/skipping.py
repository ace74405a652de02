"""Says that a finished run is not run again."""

from __future__ import annotations

import logging

from experiments.common.reproducibility import project_version
from experiments.common.store import RunDirectory

log = logging.getLogger("experiments")
FIRST_VERSION = "0.1.0"  # runs of before the version was recorded


def log_skipped(run: RunDirectory, seed: int) -> None:
    """Writes one line: which commit made the run, and which version if it was not this one."""
    facts, version = run.environment(), project_version()
    made_by = facts.get("version", FIRST_VERSION)
    if made_by == version:
        log.info("%s seed %d: finished at commit %.10s, skipped (%s)", run.row, seed, facts["commit"], run.path)
        return
    log.info(
        "%s seed %d: finished by version %s (this is %s), skipped; force=true runs it again (%s)",
        run.row, seed, made_by, version, run.path,
    )  # fmt: skip
