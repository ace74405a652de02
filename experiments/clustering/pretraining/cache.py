"""What several runs start from, kept on disk under a name that is a hash of what decides it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch

from experiments.settings import ExperimentError
from experiments.store import write_atomically

log = logging.getLogger("experiments")


def key_of(decisive: Mapping[str, Any]) -> str:
    """Returns the hash of plain values."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def cached(folder: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of a file of the cache or makes it; a second process that wants the same waits for the first.

    Raises:
        ExperimentError: the cache can't be written or read.
    """
    path = folder / f"{key}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{key}.lock"):
            if not path.exists():
                buffer = io.BytesIO()
                torch.save(make(), buffer)
                write_atomically(path, buffer.getvalue())
            return _load(path)
    except OSError as error:
        raise ExperimentError(f"the cache {folder} can't be used: {error.strerror or error}") from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps other processes that want the same pretraining waiting."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("  another process makes this pretraining; waiting for it (%s)", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _load(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise ExperimentError(f"{path} can't be read ({str(error).splitlines()[0]}); delete it") from None
