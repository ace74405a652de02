"""Writes a large array of images, block by block: it grows as ``<name>.part`` and takes its name when it is whole."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from experiments.downloads import part_of, readable_size
from experiments.settings import ExperimentError
from experiments.store import alone
from experiments.weak_supervision.data.image_file import Record, checksum, inspect, write_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Args:
        title: what happens, for messages: "rendering mpi3d_sim".
        origin: what the array is made from.
        shape: of the array, uint8.
        seconds: to expect on one core; only for the time that is stated before.
        memory: bytes of memory needed, stated before.
    """

    title: str
    origin: str
    shape: tuple[int, ...]
    seconds: float
    memory: float


def write_images(path: Path, plan: Plan, blocks: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
    """Writes an array, unless it is there. Safe when several processes ask at once: one writes, the others wait.

    Args:
        path: the ``.npy`` file; its folder is made if it is missing.
        plan: what is to be written.
        blocks: first row and rows of every part of the array, in any order; made only where they are written.

    Raises:
        ExperimentError: the disk is full or can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock"), plan.title):
            if not path.exists():
                _announce(path, plan)
                _write(path, plan, blocks)
    except OSError as error:
        raise ExperimentError(f"{path} can't be written ({error.strerror or error})") from None


def _write(path: Path, plan: Plan, blocks: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
    part, rows = part_of(path), plan.shape[0]
    bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
    with part.open("wb") as stream, bar:
        header = {"descr": "|u1", "fortran_order": False, "shape": plan.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        begin, task = stream.tell(), bar.add_task(plan.title, total=rows)
        for start, block in blocks:
            stream.seek(begin + start * math.prod(plan.shape[1:]))
            stream.write(np.ascontiguousarray(block, np.uint8).data)
            bar.advance(task, len(block))
        stream.flush()
        os.fsync(stream.fileno())
    assert bar.tasks[task].completed == rows
    state = part.stat()
    write_record(path, Record(plan.origin, state.st_size, state.st_mtime_ns, checksum(part, inspect(part))))
    part.replace(path)


def _announce(path: Path, plan: Plan) -> None:
    size, free = math.prod(plan.shape), shutil.disk_usage(path.parent).free
    if size > free:
        raise ExperimentError(
            f"{plan.title} needs {readable_size(size)} in {path.parent}, but {readable_size(free)} are free; "
            "make room, or name another data folder with MVHG_DATA_DIR"
        )
    seconds = max(1, round(plan.seconds))
    logger.info(
        "%s: %d images to %s (about %s, %s on the disk, %s of memory)", plan.title, plan.shape[0], path,
        f"{seconds} s" if seconds < 120 else f"{seconds / 60:.0f} min", readable_size(size),
        readable_size(plan.memory),
    )  # fmt: skip
