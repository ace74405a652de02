"""Images in one uncompressed array on disk, read through a memory map and checked once.

Two kinds of file hold such an array: an ``.npy`` file, and an ``.npz`` file that was saved without compression (as
mpi3d's are), whose array lies in the archive byte by byte and needs no second copy. Whoever has read a file whole notes
its checksum, size and time of change beside it (``<name>.json``); until size or time change, it isn't read again.
"""

from __future__ import annotations

import json
import logging
import math
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.downloads import readable_size
from experiments.settings import ExperimentError, one_line
from experiments.store import write_atomically

logger = logging.getLogger(__name__)

KEY = "images"  # name of the array in an .npz file
CHUNK = 2**24  # bytes read at a time
GIVEN = "given"  # origin of a file that the user has put there
AWAY = "move it away and start again"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error)  # of an archive
ZIP_ENTRY = struct.Struct("<26xHH")  # a local file header: at its end the lengths of the name and of the extra field


class Layout(NamedTuple):
    """Where the array lies in its file.

    Args:
        shape: of the array; its type is uint8.
        start: byte at which the array's header begins.
        offset: byte at which its first row begins.
        crc32: checksum of header and rows by the archive's word; None where nothing is known.
        compressed: whether it has to be unpacked first; then ``start`` and ``offset`` count unpacked bytes.
    """

    shape: tuple[int, ...]
    start: int
    offset: int
    crc32: int | None
    compressed: bool


class Record(NamedTuple):
    """What is known of a file that was read or written whole; ``origin`` says what it was made from."""

    origin: str
    size: int
    mtime_ns: int
    crc32: int


def record_of(path: Path) -> Path:
    """Returns where the note about a file lies."""
    return path.with_name(f"{path.name}.json")


def read_record(path: Path) -> Record | None:
    """Returns the note about a file; None if there is none that can be read."""
    try:
        record = Record(**json.loads(record_of(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if [type(value) for value in record] == [str, int, int, int] else None


def write_record(path: Path, record: Record) -> None:
    """Writes the note about a file."""
    write_atomically(record_of(path), json.dumps(record._asdict(), indent=1) + "\n")


def inspect(path: Path) -> Layout:
    """Looks for the array of images in a file, by its headers alone.

    Args:
        path: an ``.npy`` file, or an ``.npz`` file with an array ``images``.

    Raises:
        ExperimentError: truncated, damaged, or another kind of file.
    """
    try:
        if path.suffix == ".npz":
            return inspect_archive(path)
        with path.open("rb") as stream:
            shape, offset = _read_header(stream, path.stat().st_size)
        return Layout(shape, 0, offset, None, compressed=False)
    except OSError as error:
        raise ExperimentError(f"{path} can't be read ({error.strerror or error}); {AWAY}") from None
    except ValueError as error:
        raise ExperimentError(f"{path} {error}; {AWAY}") from None


def inspect_archive(path: Path) -> Layout:
    """Looks for the array of images in an ``.npz`` file of any name.

    Raises:
        ValueError: says what the file is instead, to follow its name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if f"{KEY}.npy" not in names:
                raise ValueError(f"has no array {KEY!r}, but {', '.join(names) or 'nothing'}")
            entry = archive.getinfo(f"{KEY}.npy")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("is compressed in another way than NumPy's savez_compressed does it")
            with archive.open(entry) as stream:
                shape, header = _read_header(stream, entry.file_size)
        if entry.compress_type != zipfile.ZIP_STORED:
            return Layout(shape, 0, header, entry.CRC, compressed=True)
        with path.open("rb") as file:
            file.seek(entry.header_offset)
            start = file.tell() + ZIP_ENTRY.size + sum(ZIP_ENTRY.unpack(file.read(ZIP_ENTRY.size)))
        return Layout(shape, start, start + header, entry.CRC, compressed=False)
    except (OSError, *DAMAGE) as error:
        raise ValueError(f"is truncated or no .npz file ({error})") from None


def _read_header(stream: IO[bytes], length: int) -> tuple[tuple[int, ...], int]:
    """Returns shape and length of an .npy header; with its array, it must be as long as the file."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except OSError:
        raise
    except Exception as error:  # NumPy's reader takes a damaged header for Python, and breaks in any way
        raise ValueError(f"is truncated or holds no array ({one_line(error)})") from None
    if dtype != np.uint8 or fortran:
        raise ValueError(f"holds an array of {dtype}{' in column order' if fortran else ''}, expected uint8 in rows")
    header = stream.tell()
    expected = header + math.prod(shape)
    if length != expected:
        what = "truncated" if length < expected else "longer than its array"
        raise ValueError(f"is {what}: {length} bytes, expected {expected}")
    return shape, header


def verify(path: Path, layout: Layout) -> Record:
    """Reads a file whole, unless that was done since its last change, and compares its checksum.

    Args:
        path: the file.
        layout: of its array, uncompressed.

    Returns:
        What is known of the file; where nothing was known, its content is taken as right.

    Raises:
        ExperimentError: the content is not the one that was saved.
    """
    known, state = read_record(path), path.stat()
    if known is not None and (known.size, known.mtime_ns) == (state.st_size, state.st_mtime_ns):
        return known
    logger.info("%s: reading it once, to check it (%s)", path, readable_size(state.st_size))
    found = checksum(path, layout)
    expected = layout.crc32 if known is None or layout.crc32 is not None else known.crc32
    if expected is not None and found != expected:
        raise ExperimentError(f"{path} was altered: its checksum is {found:08x}, expected {expected:08x}; {AWAY}")
    record = Record(GIVEN if known is None else known.origin, state.st_size, state.st_mtime_ns, found)
    try:
        write_record(path, record)
    except OSError as error:
        logger.warning("%s: no note can be left beside it (%s): it is read again next time", path, error.strerror)
    return record


def checksum(path: Path, layout: Layout) -> int:
    """Reads a file's array, header and rows, and returns its checksum as archives have it."""
    found, left = 0, layout.offset - layout.start + math.prod(layout.shape)
    with path.open("rb") as stream:
        stream.seek(layout.start)
        while left:
            chunk = stream.read(min(CHUNK, left))
            if not chunk:
                raise ExperimentError(f"{path} was truncated while it was read; {AWAY}")
            found, left = zlib.crc32(chunk, found), left - len(chunk)
    return found


def open_map(path: Path, layout: Layout) -> NDArray[np.uint8]:
    """Returns the array of a file as a memory map, which can't be written to."""
    return np.memmap(path, np.uint8, "r", layout.offset, layout.shape)


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Returns a tensor on an array's memory. On a memory map it must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)
