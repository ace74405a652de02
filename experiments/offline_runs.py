"""The offline runs of W&B under a results folder: which of them are still to be uploaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import filelock

SUPERSEDED = "superseded"  # file in the folder of an offline run whose numbers were made anew


@dataclass(frozen=True)
class OfflineRuns:
    """Folders of offline runs in order of their start, by what is to be done with them.

    Attributes:
        waiting: to be uploaded.
        synced: uploaded before.
        superseded: started over since.
        running: still written to.
    """

    waiting: tuple[Path, ...]
    synced: tuple[Path, ...]
    superseded: tuple[Path, ...]
    running: tuple[Path, ...]


def offline_folders(results: Path, run_id: str) -> list[Path]:
    """The folders of the offline runs of an id, one per launch."""
    return sorted((results / "wandb").glob(f"offline-run-*-{run_id}"))


def mark_superseded(folders: Iterable[Path]) -> None:
    """Says of offline runs that they were started over."""
    for folder in folders:
        (folder / SUPERSEDED).touch()


def find_offline_runs(results: Path) -> OfflineRuns:
    """Sorts the offline runs under ``<results>/wandb``; a folder without a log is none."""
    waiting, synced, superseded, running = [], [], [], []
    for folder in sorted((results / "wandb").glob("offline-run-*")):
        logs = list(folder.glob("run-*.wandb"))
        if not logs:
            continue
        if logs[0].with_suffix(".wandb.synced").exists():
            synced.append(folder)
        elif (folder / SUPERSEDED).exists():
            superseded.append(folder)
        elif _is_running(results, logs[0].stem.removeprefix("run-")):
            running.append(folder)
        else:
            waiting.append(folder)
    return OfflineRuns(tuple(waiting), tuple(synced), tuple(superseded), tuple(running))


def _is_running(results: Path, run_id: str) -> bool:
    """Whether a process has claimed the folder of this run."""
    for path in (results / "runs").glob(f"*/*/{run_id}/.lock"):
        lock = filelock.FileLock(path, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            return True
        lock.release()
    return False
