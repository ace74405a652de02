"""Unequal class frequencies: a part of the classes loses digits (Section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CLASSES = 10


def subsample(
    images: Tensor, labels: Tensor, classes: Sequence[int], ratio: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps ``round(ratio * count)`` digits of each given class, drawn without replacement, and all of the others.

    The order of ``classes`` does not matter, and with the same seed a smaller ratio keeps a subset of a larger one's.

    Args:
        images: digits [N, pixels].
        labels: their classes [N] int64, 0 to 9.
        classes: the classes that lose digits, each at most once.
        ratio: share of each of them that stays, in (0, 1].
        generator: source of the draw, on the CPU.

    Returns:
        The images and labels that stay, in their old order, and their positions [kept] int64, ascending.

    Raises:
        ValueError: a ratio outside (0, 1], a class that does not exist or stands twice, or not one label per image.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"the ratio of subsampled classes must be in (0, 1], got {ratio}")
    if any(one not in range(CLASSES) for one in classes):
        raise ValueError(f"subsampled classes must be digits 0 to {CLASSES - 1}, got {list(classes)}")
    if len(set(classes)) != len(classes):
        raise ValueError(f"subsampled classes must be distinct, got {list(classes)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{len(images)} images need as many labels, got labels of shape {tuple(labels.shape)}")
    keep = torch.ones(len(labels), dtype=torch.bool)
    for one in sorted(classes):
        members = torch.nonzero(labels.cpu() == one).squeeze(1)
        order = torch.randperm(len(members), generator=generator)
        keep[members[order[round(ratio * len(members)) :]]] = False
    kept = torch.nonzero(keep).squeeze(1).to(labels.device)
    return images[kept], labels[kept], kept
