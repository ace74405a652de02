"""The published mpi3d images: found in the data folder or downloaded, unpacked once where they have to be.

Gondal et al., On the transfer of inductive bias from simulation to the real world, NeurIPS 2019; CC BY 4.0.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.downloads import Download, download, part_of
from experiments.settings import ExperimentError
from experiments.weak_supervision.data.image_file import (
    AWAY,
    CHUNK,
    DAMAGE,
    GIVEN,
    KEY,
    Layout,
    inspect,
    inspect_archive,
    open_map,
    read_record,
    verify,
)
from experiments.weak_supervision.data.image_writer import Plan, write_images
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.mpi3d_factors import keep
from experiments.weak_supervision.data.sources import FACTORS

SOURCES = ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real")
SIDE = 64
LAYOUTS = tuple(FactorGrid(FACTORS, (n, n, 2, 3, 3, 40, 40)) for n in (6, 4))  # today's files, the older ones
MIRRORS = ("https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/",)
DOWNLOAD_SIZE = 12_740_198_762  # of one file that was saved without compression, as they were on an earlier server
BLOCK = 2048  # images unpacked at a time, 25 MB
UNPACKING_RATE = 15_000.0  # images per second on one core, for the time stated before


def load(source: str, image_size: int, levels: int | None, positions: int, directory: Path) -> FactorImages:
    """Returns the images of one of the sources: as a memory map, or halved, in memory.

    Args:
        source: one of :data:`SOURCES`.
        image_size: 64, or 32: means of 2x2 pixels, rounded.
        levels: colours and shapes that are kept: 6, or the 4 of the older files; None for all that there are.
        positions: of each axis of the arm, evenly thinned from 40.
        directory: the data folder. ``<source>_64.npy`` and ``<source>.npz`` are looked for here, in ``mpi3d/`` and in
            ``<source>/``; if there is neither, the ``.npz`` file is downloaded into ``mpi3d/``.

    Raises:
        ExperimentError: a file that is truncated, altered, or of another shape or number of levels; no network; no disk
            space.
    """
    path = _unpacked(source, directory)
    layout = inspect(path)
    grid = _grid_of(path, layout)
    verify(path, layout)
    if levels is not None and levels > grid.sizes[0]:
        raise ExperimentError(
            f"levels={levels}, but {source} in {directory} is the older file of {grid.sizes[0]} colours and "
            f"shapes: set levels={grid.sizes[0]}, or move it away to download today's"
        )
    images = keep(source, open_map(path, layout), grid, levels, positions)
    return images if image_size == SIDE else images.halved()


def _unpacked(source: str, directory: Path) -> Path:
    """Returns a file that can be mapped: one that is there, or unpacked once from the archive, which may be missing."""
    array, archive = (_find(directory, source, name) for name in (f"{source}_{SIDE}.npy", f"{source}.npz"))
    if array is not None:
        if archive is not None:
            _require_made_from(array, archive)
        return array
    if archive is None:
        archive = directory / "mpi3d" / f"{source}.npz"
        _download(archive)
    layout = inspect(archive)
    if not layout.compressed:
        return archive
    _grid_of(archive, layout)
    array = directory / "mpi3d" / f"{source}_{SIDE}.npy"
    plan = Plan(f"unpacking {archive.name}", _origin(archive), layout.shape, layout.shape[0] / UNPACKING_RATE, 2e8)
    try:
        write_images(array, plan, _packed(archive, layout))
    except DAMAGE as error:
        part_of(array).unlink(missing_ok=True)
        raise ExperimentError(f"{archive} was altered or damaged ({error}); {AWAY}") from None
    return array


def _packed(archive: Path, layout: Layout) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    row = math.prod(layout.shape[1:])
    with zipfile.ZipFile(archive) as opened, opened.open(f"{KEY}.npy") as stream:
        stream.seek(layout.offset)
        for start in range(0, layout.shape[0], BLOCK):
            data = stream.read(BLOCK * row)  # at the last byte, the archive's checksum is compared
            yield start, np.frombuffer(data, np.uint8).reshape(-1, *layout.shape[1:])


def _find(directory: Path, source: str, name: str) -> Path | None:
    candidates = (folder / name for folder in (directory / "mpi3d", directory / source, directory))
    return next((path for path in candidates if path.exists()), None)


def _origin(archive: Path) -> str:
    """Names the content of an archive by its checksum."""
    return f"{archive.name} {inspect(archive).crc32:08x}"


def _require_made_from(array: Path, archive: Path) -> None:
    record = read_record(array)
    if record is not None and record.origin not in (GIVEN, _origin(archive)):
        raise ExperimentError(f"{array} was made from {record.origin}, not from {archive} as it is now; {AWAY}")


def _grid_of(path: Path, layout: Layout) -> FactorGrid:
    try:
        return _grid(layout.shape)
    except ValueError as error:
        raise ExperimentError(f"{path} {error}; {AWAY}") from None


def _grid(shape: tuple[int, ...]) -> FactorGrid:
    for grid in LAYOUTS:
        if shape == (grid.num_images, SIDE, SIDE, 3):
            return grid
    today, older = (str((grid.num_images, SIDE, SIDE, 3)) for grid in LAYOUTS)
    raise ValueError(f"holds images {shape}, expected {today}, or {older} of an older file")


def _download(path: Path) -> None:
    mirrors = tuple(f"{mirror}{path.name}" for mirror in MIRRORS)
    file = Download(path.name, mirrors, None, DOWNLOAD_SIZE, fault)
    alternative = "take the data mpi3d_sim, which need no download"
    download([file], path.parent, title=path.stem, alternative=alternative)


def fault(path: Path) -> str | None:
    """Says what is wrong with a downloaded file: reads all of it, and compares shape and checksum of its array."""
    try:
        _grid(inspect_archive(path).shape)
        with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as stream:
            while stream.read(CHUNK):
                pass
    except ValueError as error:
        return f"it {error}"
    except DAMAGE as error:
        return f"it is damaged: {error}"
    return None
