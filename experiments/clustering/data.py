"""The dataset versions of Table 2: all digits of a source, or some classes cut to a share of theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from experiments.clustering import blobs, digits_5000, mnist
from experiments.settings import ExperimentError, settings
from experiments.shared import Shared

SOURCES = {"mnist": mnist.load, "digits_5000": digits_5000.load}
BLOBS = "blobs"  # drawn, not read
CUT_SEED = 0  # the same digits for every run: runs differ in training, not in their data


@dataclass(frozen=True)
class Splits:
    """Training and test digits of one dataset version.

    Attributes:
        train_images: [train, 784] uint8, after subsampling.
        train_labels: [train], for scoring only.
        test_images: [test, 784] uint8, all of them.
        test_labels: [test].
        test_subsampled: indices of the test digits that subsampling keeps, in the same proportions as in training.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    test_subsampled: Tensor

    @property
    def images(self) -> dict[str, Tensor]:
        """Of every split that is scored."""
        kept = self.test_images[self.test_subsampled]
        return {"test": self.test_images, "test_subsampled": kept, "train": self.train_images}

    @property
    def labels(self) -> dict[str, Tensor]:
        """The same."""
        kept = self.test_labels[self.test_subsampled]
        return {"test": self.test_labels, "test_subsampled": kept, "train": self.train_labels}

    @property
    def fingerprint(self) -> str:
        """Hash of the training images."""
        return hashlib.sha256(self.train_images.numpy().tobytes()).hexdigest()


_SPLITS: Shared[Splits] = Shared()


@settings
class ClusteringData:
    """A dataset version.

    Attributes:
        source: a key of ``SOURCES``, or ``blobs``, the control whose truth is known.
        overlap: of the blobs, in percent, see there; None for what is read.
        max_digits: keep at most so many training digits and a sixth of that for the test, drawn at random; None for
            all.
        subsampled_classes: which classes are cut.
        version: ``full``, or the share of their digits in percent that is kept.
    """

    source: str
    overlap: Annotated[int, Field(gt=0, lt=50)] | None
    max_digits: Annotated[int, Field(ge=6)] | None
    subsampled_classes: list[Annotated[int, Field(ge=0, le=9)]]
    version: str | int

    def __post_init__(self) -> None:
        if self.source not in (*SOURCES, BLOBS):
            raise ValueError(f"source must be one of {', '.join([*SOURCES, BLOBS])}, got {self.source!r}")
        if (self.source == BLOBS) != (self.overlap is not None):
            raise ValueError(f"overlap is a number for the source {BLOBS} and null for others, got {self.overlap}")
        if self.subsampled_classes != sorted(set(self.subsampled_classes)):
            raise ValueError(f"subsampled_classes must be different digits that ascend, got {self.subsampled_classes}")
        if self.version != "full" and not 0 < self.ratio < 1:
            raise ValueError(f"version must be full, or a share in percent such as 80 and 60, got {self.version!r}")
        if self.version != "full" and not self.subsampled_classes:
            raise ValueError(f"subsampled_classes names no class that version {self.version} could cut")

    @property
    def ratio(self) -> float:
        """Share of the digits of the cut classes that is kept; 0 where the version says none."""
        try:
            return 1.0 if self.version == "full" else float(self.version) / 100
        except ValueError:
            return 0.0

    def load(self, directory: Path, num_clusters: int) -> Splits:
        """Reads the digits from ``directory`` (downloading them where needed) and cuts them.

        Raises:
            ExperimentError: files are missing, damaged or can't be downloaded; a split has fewer digits than clusters,
                or a class is left without a training digit.
        """
        return _SPLITS.get((repr(self), directory, num_clusters), lambda: self._load(directory, num_clusters))

    def _load(self, directory: Path, num_clusters: int) -> Splits:
        digits = SOURCES[self.source](directory) if self.overlap is None else blobs.draw(self.overlap / 100)
        train_images, train_labels, test_images, test_labels = digits
        generator = torch.Generator().manual_seed(CUT_SEED)
        if self.max_digits is not None:
            if self.max_digits > len(train_images):
                raise ExperimentError(
                    f"experiment.data.max_digits is {self.max_digits}, but {self.source} has {len(train_images)} "
                    "training digits; give null for all"
                )
            chosen = torch.randperm(len(train_images), generator=generator)[: self.max_digits]
            train_images, train_labels = train_images[chosen], train_labels[chosen]
            chosen = torch.randperm(len(test_images), generator=generator)[: self.max_digits // 6]
            test_images, test_labels = test_images[chosen], test_labels[chosen]
        kept = subsample(train_labels, self.subsampled_classes, self.ratio, generator)
        test_kept = subsample(test_labels, self.subsampled_classes, self.ratio, generator)
        smallest = min(len(kept), len(test_kept))
        gone = sorted(set(train_labels.tolist()) - set(train_labels[kept].tolist()))
        if smallest < num_clusters or gone:
            what = f"no training digit is left of the classes {', '.join(map(str, gone))}"
            if smallest < num_clusters:
                what = f"{smallest} digits in a split are fewer than the {num_clusters} clusters"
            raise ExperimentError(
                f"{self.source}, version {self.version}: {what}; raise version or experiment.data.max_digits"
            )
        if self.version != "full" and len(kept) == len(train_labels):
            raise ExperimentError(f"{self.source}, version {self.version}: no digit is cut; take version=full")
        return Splits(train_images[kept], train_labels[kept], test_images, test_labels, test_kept)


def subsample(labels: Tensor, classes: Sequence[int], ratio: float, generator: torch.Generator) -> Tensor:
    """Keeps ``round(ratio * count)`` digits of each given class, drawn without replacement, and all of the others.

    The order of ``classes`` does not matter, and with the same seed a smaller ratio keeps a subset of a larger one's.

    Returns:
        Positions of the digits that stay [kept] int64, ascending.
    """
    keep = torch.ones(len(labels), dtype=torch.bool)
    for one in sorted(classes):
        members = torch.nonzero(labels == one).squeeze(1)
        order = torch.randperm(len(members), generator=generator)
        keep[members[order[round(ratio * len(members)) :]]] = False
    return torch.nonzero(keep).squeeze(1)
