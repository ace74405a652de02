"""Writes a large array of images block by block: it grows as ``<name>.part`` and takes its name when it is whole."""

from __future__ import annotations

import io
import logging
import math
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.downloads import part_of, readable_size
from experiments.settings import ExperimentError
from experiments.weak_supervision.data.image_file import Record, write_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Args:
        title: what happens, for messages: "rendering mpi3d_sim".
        origin: what the array is made from.
        shape: of the array, uint8.
        block: rows made at a time.
        rate: rows per second to expect; only for the time that is stated before.
        memory: bytes of memory needed, stated before.
        later: bytes of the disk that the next step will need: without them, this one isn't begun.
    """

    title: str
    origin: str
    shape: tuple[int, ...]
    block: int
    rate: float
    memory: float
    later: int = 0


def write_images(path: Path, plan: Plan, make: Callable[[int, int], NDArray[np.uint8]]) -> None:
    """Writes an array, unless it is there. Safe when several processes ask at once: one writes, the others wait.

    Args:
        path: the ``.npy`` file; its folder is made if it is missing.
        plan: what is to be written.
        make: returns the rows from a first up to a last, exclusive; asked for in ascending order.

    Raises:
        ExperimentError: the disk is full or can't be written.
    """
    with exclusive(path):
        if not path.exists():
            _write(path, plan, make)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Lets one process at a time make a file; its folder is made if it is missing.

    Raises:
        ExperimentError: the disk is full or can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        raise ExperimentError(f"{path} can't be written ({error.strerror or error})") from None


def _write(path: Path, plan: Plan, make: Callable[[int, int], NDArray[np.uint8]]) -> None:
    part, header, rows = part_of(path), _header(plan.shape), plan.shape[0]
    _announce(path, plan)
    with part.open("wb") as stream:
        stream.write(header)
        checksum = zlib.crc32(header)
        terminal = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=terminal, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task(plan.title, total=rows)
            for start in range(0, rows, plan.block):
                stop = min(start + plan.block, rows)
                block = np.ascontiguousarray(make(start, stop))
                if block.shape != (stop - start, *plan.shape[1:]) or block.dtype != np.uint8:
                    raise ValueError(f"rows {start} to {stop} came as {block.dtype} {block.shape}")
                stream.write(block.data)
                checksum = zlib.crc32(block.data, checksum)
                progress.update(task, completed=stop)
        stream.flush()
        os.fsync(stream.fileno())
    state = part.stat()
    write_record(path, Record(plan.origin, state.st_size, state.st_mtime_ns, checksum))
    part.replace(path)


def _announce(path: Path, plan: Plan) -> None:
    size, free = math.prod(plan.shape), shutil.disk_usage(path.parent).free
    if size + plan.later > free:
        needed = readable_size(size + plan.later)
        raise ExperimentError(
            f"{plan.title} needs {needed} in {path.parent}, but {readable_size(free)} are free; "
            "make room, or name another data folder with MVHG_DATA_DIR"
        )
    seconds = max(1, round(plan.shape[0] / plan.rate))
    logger.info(
        "%s: %d images to %s (about %s, %s on the disk, %s of memory)", plan.title, plan.shape[0], path,
        f"{seconds} s" if seconds < 120 else f"{seconds / 60:.0f} min", readable_size(size),
        readable_size(plan.memory),
    )  # fmt: skip


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()
