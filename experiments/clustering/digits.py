"""Digits in two splits, and unequal class frequencies: a part of the classes loses digits (Section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Digits(NamedTuple):
    """What the reader of a data set returns: images [N, pixels] uint8, row by row, and labels [N] int64, 0 to 9."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def subsample(labels: Tensor, classes: Sequence[int], ratio: float, generator: torch.Generator) -> Tensor:
    """Keeps ``round(ratio * count)`` digits of each given class, drawn without replacement, and all of the others.

    The order of ``classes`` does not matter, and with the same seed a smaller ratio keeps a subset of a larger one's.

    Args:
        labels: classes of the digits [N].
        classes: the classes that lose digits.
        ratio: share of each of them that stays, in (0, 1].
        generator: source of the draw.

    Returns:
        Positions of the digits that stay [kept] int64, ascending.
    """
    keep = torch.ones(len(labels), dtype=torch.bool)
    for one in sorted(classes):
        members = torch.nonzero(labels == one).squeeze(1)
        order = torch.randperm(len(members), generator=generator)
        keep[members[order[round(ratio * len(members)) :]]] = False
    return torch.nonzero(keep).squeeze(1)
