"""The offline runs of W&B under a results folder: which are to be uploaded, and what of a broken one is readable.

A killed process leaves a log that ends within a record. `wandb sync` then sends what stands before it, but neither
marks the part as sent nor goes on to later parts of the same run; so the end that can't be read is cut off before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import filelock

from experiments.tracking import SUPERSEDED

UNREADABLE = "unreadable-run"  # how the folder of an offline run begins in which nothing can be read
_HEADER, _BLOCK = 7, 2**15  # bytes: of the file and of every chunk; of a block, which chunks do not cross
_WHOLE, _LAST = 1, 4  # types of the chunks with which a record ends


class OfflineRuns(NamedTuple):
    """Folders of offline runs, in order of their start.

    Attributes:
        waiting: to be uploaded.
        synced: uploaded before.
        superseded: started over since.
        running: still written to.
    """

    waiting: list[Path]
    synced: list[Path]
    superseded: list[Path]
    running: list[Path]


def find_offline_runs(results: Path) -> OfflineRuns:
    """Sorts the offline runs under ``<results>/wandb``; a folder without a log is none."""
    found = OfflineRuns([], [], sorted((results / "wandb").glob(f"{SUPERSEDED}-*")), [])
    for log in sorted((results / "wandb").glob("offline-run-*/run-*.wandb")):
        if log.with_suffix(".wandb.synced").exists():
            found.synced.append(log.parent)
        elif _is_running(results, log.stem.removeprefix("run-")):
            found.running.append(log.parent)
        else:
            found.waiting.append(log.parent)
    return found


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


def cut_unreadable_ends(folders: list[Path]) -> Iterator[str]:
    """Cuts off what can't be read of the logs in some folders; a folder without any record gets another name.

    Yields:
        A line for every log that was touched.
    """
    for folder in folders:
        for log in folder.glob("run-*.wandb"):
            content = log.read_bytes()
            end = end_of_records(content)
            if end <= _HEADER:
                folder.rename(folder.with_name(folder.name.replace("offline-run", UNREADABLE, 1)))
                yield f"{folder}: no record in it can be read, left out"
            elif end < len(content):
                with log.open("r+b") as file:
                    file.truncate(end)
                yield f"{log}: its last {len(content) - end} bytes can't be read (the run was killed) and are left out"


def end_of_records(content: bytes) -> int:
    """Returns where the last whole record of a W&B log ends.

    The log is LevelDB's: behind a header, records in chunks of a checksum (CRC-32 of type and data), a length, a type
    and data; the rest of a block that is too short for a chunk is zeros.
    """
    position = end = _HEADER if content[:4] == b":W&B" else 0
    while end and position + _HEADER <= len(content):
        if _BLOCK - position % _BLOCK < _HEADER:
            position += _BLOCK - position % _BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        data = content[position + _HEADER : position + _HEADER + length]
        if kind == 0 or len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            break
        position += _HEADER + length
        if kind in (_WHOLE, _LAST):
            end = position
    rest = -end % _BLOCK
    if rest < _HEADER and not any(content[end : end + rest]):  # the zeros that fill a block belong to it
        end += rest
    return min(end, len(content))
