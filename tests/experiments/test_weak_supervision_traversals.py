"""Traversals and reconstructions of a decoder whose images can be told beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.weak_supervision.traversals import (
    by_activity,
    pack,
    reconstruction_table,
    reconstructions,
    to_bytes,
    traversal,
    traversal_table,
    unpack,
)

HEIGHT, WIDTH, LATENTS = 2, 5, 4
VALUES = (-2.0, 0.0, 0.5, 2.0)


def decode(latents: Tensor) -> Tensor:
    """Pixel i of the image, row by row, is latent i in all channels, a tenth of it in green; 1/2 at latent 0."""
    assert not torch.is_grad_enabled()
    assert latents.shape[1] == LATENTS
    flat = torch.zeros(len(latents), 3, HEIGHT * WIDTH)
    flat[:, :, :LATENTS] = 0.5 + latents[:, None] / 8 * torch.tensor([1.0, 0.1, 1.0])[:, None]
    return flat.unflatten(-1, (HEIGHT, WIDTH))


def byte(latent: float, share: float = 1.0) -> int:
    return round((0.5 + latent / 8 * share) * 255)


MEAN = torch.tensor([0.25, -1.0, 0.0, 3.0])


def test_a_traversal_moves_one_latent_and_leaves_the_others() -> None:
    mean = MEAN.clone()
    images = traversal(decode, mean, VALUES)
    assert images.shape == (LATENTS, len(VALUES), HEIGHT, WIDTH, 3)
    assert images.dtype == torch.uint8
    assert torch.equal(mean, MEAN)
    for moved in range(LATENTS):
        for step, value in enumerate(VALUES):
            pixels = images[moved, step].flatten(0, 1)
            for latent in range(LATENTS):
                at = value if latent == moved else float(MEAN[latent])
                assert pixels[latent].tolist() == [byte(at), byte(at, 0.1), byte(at)]
            assert not pixels[LATENTS:].any()


def test_bytes_are_rounded_and_kept_in_range() -> None:
    levels = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 254.4 / 255, 1.0, 1.2])
    images = levels.repeat(3, 1)[None, :, None]  # [1, 3, 1, levels]
    assert to_bytes(images)[0, 0, :, 1].tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_reconstructions_stand_beside_the_originals() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 2, LATENTS, generator=generator)
    images = torch.randint(256, (3, 2, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)
    shown = reconstructions(decode, means, images)
    assert shown.shape == (3, 2, 2, HEIGHT, WIDTH, 3)
    assert torch.equal(shown[:, :, 0], images)
    for pair in range(3):
        for view in range(2):
            expected = [byte(float(latent)) for latent in means[pair, view]]
            assert shown[pair, view, 1].flatten(0, 1)[:LATENTS, 0].tolist() == expected


@pytest.mark.parametrize("images", [torch.zeros(3, HEIGHT, WIDTH, 3), torch.zeros(3, 3, HEIGHT, WIDTH).byte()])
def test_originals_of_another_kind_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \[3, 2, 5, 3\], got (float32|uint8) \[3, "):
        reconstructions(decode, torch.zeros(3, LATENTS), images)


def test_the_most_active_latent_comes_first() -> None:
    assert by_activity(torch.tensor([0.1, 2.0, 0.1, 3.0])).tolist() == [3, 1, 0, 2]


def test_the_table_of_traversals_is_ordered_by_activity() -> None:
    activity = torch.tensor([0.5, 0.0, 4.0, 1.5])
    table = traversal_table(decode, MEAN, VALUES, activity, keep=3)
    assert table["latent"].tolist() == [2] * 4 + [3] * 4 + [0] * 4
    assert table["rank"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert table["activity"].tolist() == [4.0] * 4 + [1.5] * 4 + [0.5] * 4
    assert table["value"].tolist() == list(VALUES) * 3
    assert table["step"].tolist() == [0, 1, 2, 3] * 3
    images = unpack(table).reshape(3, len(VALUES), HEIGHT, WIDTH, 3)
    assert np.array_equal(images, traversal(decode, MEAN, VALUES)[[2, 3, 0]].numpy())
    assert len(traversal_table(decode, MEAN, VALUES, activity)) == LATENTS * len(VALUES)


def test_the_table_of_reconstructions_survives_a_csv(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 2, LATENTS, generator=generator)
    images = torch.randint(256, (3, 2, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)
    reconstruction_table(decode, means, images).to_csv(tmp_path / "images.csv", index=False)
    table = pd.read_csv(tmp_path / "images.csv")
    assert table.columns.tolist() == ["pair", "view", "kind", "height", "width", "pixels"]
    shown = reconstructions(decode, means, images)
    for kind, position in (("original", 0), ("reconstruction", 1)):
        for (pair, view), lines in table[table["kind"] == kind].groupby(["pair", "view"]):
            assert np.array_equal(unpack(lines)[0], shown[pair, view, position].numpy())


def test_images_of_two_sizes_cannot_be_read_as_one_array() -> None:
    two = pd.concat([pack(torch.zeros(1, 2, 2, 3).byte()), pack(torch.zeros(1, 4, 4, 3).byte())])
    with pytest.raises(ValueError, match="images of one size, got 2 sizes"):
        unpack(two)
