"""The published mpi3d images: found in the data folder or downloaded, unpacked once where they have to be.

Gondal et al., On the transfer of inductive bias from simulation to the real world, NeurIPS 2019; CC BY 4.0.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    halve,
    inspect,
    inspect_archive,
    open_map,
    read_record,
    verify,
)
from experiments.weak_supervision.data.image_writer import Plan, write_images
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.mpi3d_factors import keep, require_positions
from experiments.weak_supervision.data.sources import FACTORS

SOURCES = ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real")
SIDE = 64
LAYOUTS = tuple(FactorGrid(FACTORS, (n, n, 2, 3, 3, 40, 40)) for n in (6, 4))  # today's files, the older ones
MIRRORS = ("https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/",)
DOWNLOAD_SIZE = 12_740_198_762  # of one file that was saved without compression, as they were on an earlier server
BLOCK = 2048  # images converted at a time, 25 MB
UNPACKING_RATE, HALVING_RATE = 15_000.0, 25_000.0  # images per second on one core, for the time stated before


def load(source: str, image_size: int, levels: int | None, positions: int, directory: Path) -> FactorImages:
    """Returns the images of one of the sources as a memory map.

    Args:
        source: one of :data:`SOURCES`.
        image_size: 64, or 32: means of 2x2 pixels, rounded.
        levels: colours and shapes that are kept: 6, or the 4 of the older files; None for all that there are.
        positions: of each axis of the arm, evenly thinned from 40.
        directory: the data folder. ``<source>_64.npy``, ``<source>_32.npy`` and ``<source>.npz`` are looked for here,
            in ``mpi3d/`` and in ``<source>/``; if there is none, the ``.npz`` file is downloaded into ``mpi3d/``.

    Raises:
        ExperimentError: a file that is truncated, altered, or of another shape or number of levels; no network; no disk
            space.
    """
    require_positions(positions)
    full = _find(directory, source, f"{source}_{SIDE}.npy") or _find(directory, source, f"{source}.npz")
    if image_size == SIDE:
        stored, grid = _map(_unpacked(full, source, directory), SIDE)
    else:
        small = _find(directory, source, f"{source}_{image_size}.npy")
        if small is None:
            small = directory / "mpi3d" / f"{source}_{image_size}.npy"
            _halve(_unpacked(full, source, directory), small)
        elif full is not None and not inspect(full).compressed:
            _require_made_from(small, full)
        stored, grid = _map(small, image_size)
    if levels is not None and levels > grid.sizes[0]:
        raise ExperimentError(
            f"levels={levels}, but {source} in {directory} is the older file of {grid.sizes[0]} colours and "
            f"shapes: set levels={grid.sizes[0]}, or move it away to download today's"
        )
    return keep(source, stored, grid, levels, positions)


def _find(directory: Path, source: str, name: str) -> Path | None:
    candidates = (folder / name for folder in (directory / "mpi3d", directory / source, directory))
    return next((path for path in candidates if path.exists()), None)


def _unpacked(path: Path | None, source: str, directory: Path) -> Path:
    """Returns a file that can be mapped, made from the one that was found, or downloaded where none was."""
    if path is None:
        path = directory / "mpi3d" / f"{source}.npz"
        _download(path)
    layout = inspect(path)
    if layout.compressed:
        _grid_of(path, layout, SIDE)
        unpacked = directory / "mpi3d" / f"{source}_{SIDE}.npy"
        _unpack(path, layout, unpacked)
        return unpacked
    archive = _find(directory, source, f"{source}.npz")
    if archive not in (None, path):
        _require_made_from(path, archive)
    return path


def _map(path: Path, side: int) -> tuple[NDArray[np.uint8], FactorGrid]:
    layout = inspect(path)
    grid = _grid_of(path, layout, side)
    verify(path, layout)
    return open_map(path, layout), grid


def _origin(path: Path) -> str:
    """Names the content of a file by its checksum, without reading it if that is known."""
    layout = inspect(path)
    return f"{path.name} {verify(path, layout).crc32 if layout.crc32 is None else layout.crc32:08x}"


def _require_made_from(path: Path, parent: Path) -> None:
    record = read_record(path)
    if record is not None and record.origin not in (GIVEN, _origin(parent)):
        raise ExperimentError(f"{path} was made from {record.origin}, not from {parent} as it is now; {AWAY}")


def _grid_of(path: Path, layout: Layout, side: int) -> FactorGrid:
    try:
        return _grid(layout.shape, side)
    except ValueError as error:
        raise ExperimentError(f"{path} {error}; {AWAY}") from None


def _grid(shape: tuple[int, ...], side: int) -> FactorGrid:
    for grid in LAYOUTS:
        if shape == (grid.num_images, side, side, 3):
            return grid
    today, older = (str((grid.num_images, side, side, 3)) for grid in LAYOUTS)
    raise ValueError(f"holds images {shape}, expected {today}, or {older} of an older file")


def _download(path: Path) -> None:
    mirrors = tuple(f"{mirror}{path.name}" for mirror in MIRRORS)
    file = Download(path.name, mirrors, None, DOWNLOAD_SIZE, fault)
    alternative = "take the data mpi3d_sim, which need no download"
    download([file], path.parent, title=path.stem, alternative=alternative)


def fault(path: Path) -> str | None:
    """Says what is wrong with a downloaded file: reads all of it, and compares shape and checksum of its array."""
    try:
        _grid(inspect_archive(path).shape, SIDE)
        with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as stream:
            while stream.read(CHUNK):
                pass
    except ValueError as error:
        return f"it {error}"
    except DAMAGE as error:
        return f"it is damaged: {error}"
    return None


def _unpack(path: Path, layout: Layout, unpacked: Path) -> None:
    plan = Plan(f"unpacking {path.name}", _origin(path), layout.shape, BLOCK, UNPACKING_RATE, 2e8)
    row = int(np.prod(layout.shape[1:]))
    with _entry(path, unpacked) as stream:
        stream.seek(layout.offset)

        def make(start: int, stop: int) -> NDArray[np.uint8]:
            data = stream.read((stop - start) * row)  # at the last byte, the archive's checksum is compared
            return np.frombuffer(data, np.uint8).reshape(stop - start, *layout.shape[1:])

        write_images(unpacked, plan, make)


@contextmanager
def _entry(path: Path, unpacked: Path) -> Iterator[zipfile.ZipExtFile]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as stream:
            yield stream  # type: ignore[misc]
    except DAMAGE as error:
        part_of(unpacked).unlink(missing_ok=True)
        raise ExperimentError(f"{path} was altered or damaged ({error}); {AWAY}") from None


def _halve(full: Path, path: Path) -> None:
    images, _ = _map(full, SIDE)
    shape = (images.shape[0], images.shape[1] // 2, images.shape[2] // 2, images.shape[3])
    plan = Plan(f"halving {full.name}", _origin(full), shape, BLOCK, HALVING_RATE, 2e8)
    write_images(path, plan, lambda start, stop: halve(images[start:stop]))
