"""Traversals and reconstructions of a decoder whose images can be told beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments.weak_supervision.pictures import pack, reconstruction_table, to_bytes, traversal_table, unpack

HEIGHT, WIDTH, LATENTS = 16, 16, 4  # JPEG keeps blocks of 8 x 8
VALUES = (-2.0, 0.0, 0.5, 2.0)


def decode(latents: Tensor) -> Tensor:
    """Quarter i of the image shows latent i as a grey; 1/2 at latent 0."""
    assert not torch.is_grad_enabled()
    quarters = (0.5 + latents / 8).unflatten(-1, (2, 2))
    return quarters.repeat_interleave(8, -2).repeat_interleave(8, -1)[:, None].expand(-1, 3, -1, -1)


MEAN = torch.tensor([0.25, -1.0, 0.0, 3.0])


def shown(texts: pd.Series) -> np.ndarray:
    """The latents that images show, [lines, latents]."""
    grey = unpack(texts)[:, 4::8, 4::8, 0].reshape(-1, LATENTS)
    return (grey / 255 - 0.5) * 8


def test_a_traversal_moves_one_latent_and_the_most_active_comes_first() -> None:
    mean = MEAN.clone()
    table = traversal_table(decode, mean, VALUES, torch.tensor([0.5, 0.0, 4.0, 0.5]))
    assert table.columns.tolist() == ["rank", "latent", "activity", "step", "value", "jpeg"]
    assert torch.equal(mean, MEAN)
    assert table["latent"].tolist() == [2] * 4 + [0] * 4 + [3] * 4 + [1] * 4  # equal ones in their order
    assert table["rank"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert table["activity"].tolist() == [4.0] * 4 + [0.5] * 8 + [0.0] * 4
    assert table["value"].tolist() == list(VALUES) * 4
    expected = np.tile(MEAN.numpy(), (16, 1))
    expected[np.arange(16), table["latent"]] = table["value"]
    np.testing.assert_allclose(shown(table["jpeg"]), expected, atol=0.1)  # three of 255 levels


def test_bytes_are_rounded_and_kept_in_range() -> None:
    levels = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 254.4 / 255, 1.0, 1.2])
    images = levels.repeat(3, 1)[None, :, None]  # [1, 3, 1, levels]
    assert to_bytes(images)[0, 0, :, 1].tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_reconstructions_stand_beside_the_originals_also_after_a_csv(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 2, LATENTS, generator=generator)
    with torch.no_grad():
        images = to_bytes(decode(torch.randn(6, LATENTS, generator=generator))).unflatten(0, (3, 2))
    reconstruction_table(decode, means, images).to_csv(tmp_path / "images.csv", index=False)
    table = pd.read_csv(tmp_path / "images.csv")
    assert table.columns.tolist() == ["pair", "view", "kind", "jpeg"]
    for (pair, view), lines in table.groupby(["pair", "view"]):
        texts = lines.set_index("kind")["jpeg"]
        np.testing.assert_allclose(shown(texts[["reconstruction"]])[0], means[pair, view], atol=0.1)
        original = unpack(texts[["original"]])[0].astype(int)
        assert np.abs(original - images[pair, view].numpy().astype(int)).max() <= 3


def test_pictures_survive_being_packed() -> None:
    images = torch.randint(256, (2, 1, 1, 3)).to(torch.uint8).expand(-1, 8, 8, -1)
    assert np.abs(unpack(pd.Series(pack(images))).astype(int) - images.numpy().astype(int)).max() <= 8
