"""Grids of decoded images: latent traversals and reconstructions, and small images as lines of a table."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]
PIXELS = ["height", "width", "pixels"]


@torch.no_grad()
def traversal(decode: Decode, mean: Tensor, values: Sequence[float]) -> Tensor:
    """Decodes one encoding again and again with one latent at a time moved over a range.

    Args:
        decode: latents [n, d] to images [n, 3, height, width] in [0, 1].
        mean: [d], the encoding that the other latents keep.
        values: what the moved latent is set to, one image each.

    Returns:
        uint8 [d, values, height, width, 3], on the CPU.
    """
    latents, steps = len(mean), len(values)
    moved = mean.repeat(latents, steps, 1)  # [d, steps, d]
    positions = torch.arange(latents, device=mean.device)
    moved[positions, :, positions] = mean.new_tensor(values)
    return to_bytes(decode(moved.flatten(0, 1))).unflatten(0, (latents, steps))


@torch.no_grad()
def reconstructions(decode: Decode, means: Tensor, images: Tensor) -> Tensor:
    """Puts what the decoder makes of each encoding beside the image that was encoded.

    Args:
        decode: latents [n, d] to images [n, 3, height, width] in [0, 1].
        means: [..., d], for example [pairs, 2, d].
        images: uint8 [..., height, width, 3], the originals.

    Returns:
        uint8 [..., 2, height, width, 3], original and reconstruction, on the CPU.

    Raises:
        ValueError: the images are not one for every encoding, or of another size than the decoder's.
    """
    shape = means.shape[:-1]
    decoded = to_bytes(decode(means.flatten(0, -2)))
    if images.dtype != torch.uint8 or images.shape != (*shape, *decoded.shape[1:]):
        raise ValueError(
            f"images must be uint8 {[*shape, *decoded.shape[1:]]}, got "
            f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
        )
    return torch.stack([images.cpu(), decoded.unflatten(0, shape)], dim=-4)


def by_activity(activity: Tensor) -> Tensor:
    """Returns the latents from the most to the least active; equally active ones in their order.

    Args:
        activity: [d], for example a latent's mean divergence from the prior.
    """
    return activity.argsort(descending=True, stable=True)


def traversal_table(
    decode: Decode, mean: Tensor, values: Sequence[float], activity: Tensor, keep: int | None = None
) -> pd.DataFrame:
    """Traversals of the latents from the most active on.

    Args:
        decode: latents [n, d] to images [n, 3, height, width] in [0, 1].
        mean: [d], the encoding that the other latents keep.
        values: what the moved latent is set to.
        activity: [d], by which the latents are ordered.
        keep: number of latents to show; None for all.

    Returns:
        A line for every image: ``rank`` (from 0), ``latent``, ``activity``, ``step``, ``value``, ``height``, ``width``,
        ``pixels``.
    """
    order = by_activity(activity).tolist()[:keep]
    images = traversal(decode, mean, values)[order]
    lines = [
        (rank, latent, float(activity[latent]), step, value)
        for rank, latent in enumerate(order)
        for step, value in enumerate(values)
    ]
    table = pd.DataFrame(lines, columns=["rank", "latent", "activity", "step", "value"])
    return table.join(pack(images.flatten(0, 1)))


def reconstruction_table(decode: Decode, means: Tensor, images: Tensor) -> pd.DataFrame:
    """Pairs of images beside their reconstructions.

    Args:
        decode: latents [n, d] to images [n, 3, height, width] in [0, 1].
        means: [pairs, 2, d].
        images: uint8 [pairs, 2, height, width, 3].

    Returns:
        A line for every image: ``pair``, ``view``, ``kind`` (``original`` or ``reconstruction``), ``height``,
        ``width``, ``pixels``.
    """
    shown = reconstructions(decode, means, images)
    lines = pd.MultiIndex.from_product(
        [range(len(means)), range(means.shape[1]), ["original", "reconstruction"]], names=["pair", "view", "kind"]
    )
    return lines.to_frame(index=False).join(pack(shown.flatten(0, 2)))


def to_bytes(images: Tensor) -> Tensor:
    """Turns images [n, 3, height, width] in [0, 1] into uint8 [n, height, width, 3] on the CPU."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu()


def pack(images: Tensor) -> pd.DataFrame:
    """Writes uint8 images [n, height, width, 3] as ``height``, ``width`` and ``pixels``, base64 of the bytes."""
    height, width = images.shape[1:3]
    lines = [(height, width, base64.b64encode(image.numpy().tobytes()).decode()) for image in images.contiguous()]
    return pd.DataFrame(lines, columns=PIXELS)


def unpack(table: pd.DataFrame) -> npt.NDArray[np.uint8]:
    """Reads images of one size back from :func:`pack`, uint8 [lines, height, width, 3].

    Raises:
        ValueError: the images differ in size, or there is none.
    """
    sizes = table[["height", "width"]].drop_duplicates()
    if len(sizes) != 1:
        raise ValueError(f"the lines must hold images of one size, got {len(sizes)} sizes")
    height, width = sizes.iloc[0]
    pixels = [np.frombuffer(base64.b64decode(text), np.uint8) for text in table["pixels"]]
    return np.stack(pixels).reshape(-1, height, width, 3)
