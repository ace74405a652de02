"""The digits of a run, and the order in which training takes them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from experiments.clustering.mnist import SOURCES, load_digits
from experiments.clustering.subsampling import subsample
from experiments.common.checks import require_integer, require_number
from experiments.common.errors import ExperimentError


@dataclass(frozen=True)
class Splits:
    """Training and test digits of one dataset version.

    Attributes:
        train_images: [train, 784] uint8, after subsampling.
        train_labels: [train], for scoring only.
        test_images: [test, 784] uint8, all of them.
        test_labels: [test].
        test_subsampled: indices of the test digits that subsampling keeps, in the same proportions as in training.
        name: ``mnist`` or ``digits_5000``.
        version: ``full``, or the ratio in percent.
        fingerprint: hash of the training images.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    test_subsampled: Tensor
    name: str
    version: str
    fingerprint: str


class ClusteringData:
    """A dataset version: all digits, or some classes cut to a ratio.

    Args:
        source: ``mnist`` or ``digits_5000``.
        max_digits: keep at most so many training digits and a sixth of that for the test, drawn
            at random; None for all.
        subsampled_classes: which classes are cut.
        ratio: share of their digits that is kept, in (0, 1].
        subsampling_seed: seed of the cut, the same for every run: runs differ in training, not in their data.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        source: str,
        max_digits: int | None,
        subsampled_classes: Sequence[int],
        ratio: float,
        subsampling_seed: int,
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f"data.source must be one of {', '.join(SOURCES)}, got {source!r}")
        require_number("data.ratio", ratio, above=True, largest=1)
        if max_digits is not None:
            require_integer("data.max_digits", max_digits, 6)
        require_integer("data.subsampling_seed", subsampling_seed, 0)
        if not isinstance(subsampled_classes, Sequence):
            raise ValueError(f"data.subsampled_classes must be a list of digits, got {subsampled_classes!r}")
        different = len(set(subsampled_classes)) == len(subsampled_classes)
        if not different or not set(subsampled_classes) <= set(range(10)):
            raise ValueError(f"data.subsampled_classes must be different digits 0-9, got {list(subsampled_classes)}")
        self.source = source
        self.max_digits = max_digits
        self.subsampled_classes = tuple(subsampled_classes)
        self.ratio = float(ratio)
        self.subsampling_seed = subsampling_seed

    @property
    def version(self) -> str:
        """``full``, or the ratio in percent."""
        return "full" if self.ratio == 1 else f"{100 * self.ratio:g}"

    def load(self, directory: Path) -> Splits:
        """Reads the digits from ``directory`` (downloading them where needed) and cuts them.

        Raises:
            ExperimentError: files are missing, damaged or can't be downloaded.
        """
        digits = load_digits(self.source, directory)
        generator = torch.Generator().manual_seed(self.subsampling_seed)
        train_images, train_labels = digits.train_images, digits.train_labels
        test_images, test_labels = digits.test_images, digits.test_labels
        if self.max_digits is not None:
            chosen = torch.randperm(len(train_images), generator=generator)[: self.max_digits]
            train_images, train_labels = train_images[chosen], train_labels[chosen]
            chosen = torch.randperm(len(test_images), generator=generator)[: self.max_digits // 6]
            test_images, test_labels = test_images[chosen], test_labels[chosen]
        cut = (self.subsampled_classes, self.ratio, generator)
        train_images, train_labels, _ = subsample(train_images, train_labels, *cut)
        _, _, test_subsampled = subsample(test_images, test_labels, *cut)
        fingerprint = hashlib.sha256(train_images.numpy().tobytes()).hexdigest()
        return Splits(
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
            test_subsampled=test_subsampled,
            name=digits.name,
            version=self.version,
            fingerprint=fingerprint,
        )


def check_enough(splits: Splits, num_clusters: int) -> None:
    """Refuses data with fewer digits than clusters.

    Raises:
        ExperimentError: in training or in the test split.
    """
    smallest = min(len(splits.train_images), len(splits.test_images))
    if smallest < num_clusters:
        raise ExperimentError(
            f"{splits.name}, version {splits.version}: {smallest} digits in a split are fewer than the {num_clusters} "
            "clusters; raise experiment.data.max_digits or experiment.data.ratio"
        )


class _Chunks(Dataset[Tensor]):
    """Hands the sampler's indices through: the images lie on the device already."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        return indices


class _ShuffledChunks(Sampler[Tensor]):
    """The digits in random order, a function of (seed, epoch) alone: a resumed run sees the order of a whole one."""

    def __init__(self, num_digits: int, chunk_size: int, seed: int) -> None:
        self.num_digits = num_digits
        self.chunk_size = chunk_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        # Seeds of neighbouring runs are far apart, see derive_seed.
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.num_digits, generator=generator).split(self.chunk_size)

    def __len__(self) -> int:
        return math.ceil(self.num_digits / self.chunk_size)


def index_chunks(num_digits: int, batch_size: int, steps_per_chunk: int, seed: int) -> DataLoader[Tensor]:
    """Loader of one epoch's order in chunks of index tensors [steps_per_chunk * batch_size].

    A training step takes a whole chunk, so that the framework's work per batch is paid once per chunk.
    """
    sampler = _ShuffledChunks(num_digits, steps_per_chunk * batch_size, seed)
    return DataLoader(_Chunks(), batch_size=None, sampler=sampler)
