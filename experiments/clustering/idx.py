"""The IDX format of the MNIST files, read in one step."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.common.errors import ExperimentError

UNSIGNED_BYTE = 0x08  # the code of the element type in the third byte of the header


def read_bytes(path: Path) -> bytes:
    """Returns the content of a plain file, or the decompressed content of one whose name ends in ``.gz``.

    Raises:
        ExperimentError: the file can't be read, or its compressed stream is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExperimentError(f"{path} can't be read ({error.strerror})") from None
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise ExperimentError(f"{path} is truncated: its gzip stream ends early; get the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ExperimentError(f"{path} is not a sound gzip file ({error}); get the file again") from None


def parse_idx(content: bytes, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns the array of an uncompressed IDX file of unsigned bytes; it owns its memory.

    Args:
        content: the whole file, decompressed.
        path: where it comes from; named in messages.
        shape: the shape that it must have.

    Raises:
        ExperimentError: the content is no IDX file of unsigned bytes, or is truncated, too long or of another shape.

    Format: two zero bytes, type code, number of dimensions, the dimensions as big-endian 32-bit integers, the elements.
    """
    dimensions = len(shape)
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if content[:4] != magic:
        raise ExperimentError(
            f"{path} is not an IDX file of {dimensions}-dimensional unsigned bytes: "
            f"it starts with {content[:4].hex(' ') or 'nothing'}, expected {magic.hex(' ')}"
        )
    if len(content) < header:
        raise ExperimentError(f"{path} is truncated: it ends within its header of {header} bytes; get the file again")
    found = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    if found != shape:
        raise ExperimentError(f"{path} has the wrong size: its header says {_times(found)}, expected {_times(shape)}")
    expected = header + prod(shape)
    if len(content) != expected:
        what = "is truncated" if len(content) < expected else "has bytes after its end"
        raise ExperimentError(f"{path} {what}: {len(content):,} bytes, expected {expected:,}; get the file again")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
