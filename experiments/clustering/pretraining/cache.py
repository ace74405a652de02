"""What several runs start from, kept on disk under a name that is a hash of what decides it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from experiments.settings import ExperimentError
from experiments.store import alone, read_tensors, write_tensors


def key_of(decisive: Mapping[str, Any]) -> str:
    """Returns the hash of plain values."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError(f"the cache {folder} can't be used: {error.strerror or error}") from None


def cached(folder: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of a file of the cache or makes it; a second process that wants the same waits for the first.

    Raises:
        ExperimentError: the cache can't be written or read, or the file is that of another key.
    """
    path = folder / f"{key}.pt"
    with ExitStack() as held:
        with _usable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(folder / f"{key}.lock", "making this pretraining"))
        if not path.exists():
            made = make()
            with _usable(folder):
                write_tensors(path, {key: made})
    try:
        content: dict[str, Any] = read_tensors(path, [key])[key]
        return content
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path} can't be read ({error}); delete it") from None
