"""MNIST from a folder of IDX files, or from its mirrors."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.downloads import Download, download
from experiments.settings import ExperimentError


class Digits(NamedTuple):
    """What the reader of a data set returns: images [N, 784] uint8, row by row, and labels [N] int64, 0 to 9."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


class IdxFile(NamedTuple):
    """One of the four files of MNIST. The checksums are those of the published files.

    Attributes:
        name: name of the uncompressed file.
        shape: shape of its array.
        md5: of the uncompressed content; compressed files of one content differ from one gzip to the next.
        compressed_md5: of the ``.gz`` file on the mirrors.
        compressed_size: bytes of the ``.gz`` file on the mirrors.
    """

    name: str
    shape: tuple[int, ...]
    md5: str
    compressed_md5: str
    compressed_size: int


FILES = (
    IdxFile(
        "train-images-idx3-ubyte", (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422,
    ),
    IdxFile(
        "train-labels-idx1-ubyte", (60_000,), "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432", 28_881,
    ),
    IdxFile(
        "t10k-images-idx3-ubyte", (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3", 1_648_877,
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte", (10_000,), "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c", 4_542,
    ),
)  # fmt: skip
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://yann.lecun.com/exdb/mnist/")


def load(directory: Path) -> Digits:
    """Loads the 60,000 + 10,000 digits into writable tensors of their own.

    Args:
        directory: the data folder. The four IDX files, plain or gzipped, are looked for here, in ``mnist/`` and in
            ``MNIST/raw/``; if there is none at all, they are downloaded into ``mnist/``.

    Raises:
        ExperimentError: a file that is missing, truncated, altered or another one; no network.
    """
    paths = _find(directory)
    if not paths:
        _download(directory / "mnist")
        paths = _find(directory)
    train_images, train_labels, test_images, test_labels = (_read(file, paths[file.name]) for file in FILES)
    return Digits(train_images.flatten(1), train_labels.long(), test_images.flatten(1), test_labels.long())


def _find(directory: Path) -> dict[str, Path]:
    """Returns the path of each of the four files; nothing when none of them is there."""
    for folder in (directory, directory / "mnist", directory / "MNIST" / "raw"):
        found = {
            file.name: path
            for file in FILES
            for path in (folder / f"{file.name}.gz", folder / file.name)  # plain wins: it stands last
            if path.exists()
        }
        missing = [file.name for file in FILES if file.name not in found]
        if found and missing:
            raise ExperimentError(
                f"{folder} holds {len(found)} of MNIST's 4 files; {', '.join(missing)} is missing, plain or .gz: "
                "add it, or move the others away to download all"
            )
        if found:
            return found
    return {}


def _download(folder: Path) -> None:
    files = [
        Download(
            f"{file.name}.gz", tuple(f"{mirror}{file.name}.gz" for mirror in MIRRORS),
            f"md5:{file.compressed_md5}", file.compressed_size,
        )
        for file in FILES
    ]  # fmt: skip
    alternative = "take the data digits_5000, which need no download"
    download(files, folder, title="MNIST", alternative=alternative)


def _read(file: IdxFile, path: Path) -> Tensor:
    """The array of a file: two zero bytes, type code, number of dimensions, the dimensions, the elements."""
    content = _read_bytes(path)
    header = 4 + 4 * len(file.shape)
    expected = header + prod(file.shape)
    if len(content) != expected:
        what = "is truncated" if len(content) < expected else "is another file"
        raise ExperimentError(f"{path} {what}: {len(content):,} bytes, expected {expected:,}; get the file again")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        raise ExperimentError(f"{path} was altered: it has the size of MNIST's file, not its content")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).reshape(file.shape).copy())


def _read_bytes(path: Path) -> bytes:
    """The content of a plain file, or the decompressed content of one whose name ends in ``.gz``."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except EOFError:
        raise ExperimentError(f"{path} is truncated: its gzip stream ends early; get the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ExperimentError(f"{path} is not a sound gzip file ({error}); get the file again") from None
    except OSError as error:
        raise ExperimentError(f"{path} can't be read ({error.strerror})") from None
