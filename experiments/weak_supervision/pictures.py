"""What a trained model's decoder makes of a few test pairs and of moved latents: small images as lines of a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.image import imread, imsave
from torch import Tensor

Decode = Callable[[Tensor], Tensor]
Images = npt.NDArray[np.uint8]

TRAVERSED = tuple(-2 + 4 * step / 6 for step in range(7))  # values of a latent, prior standard deviations
# Which runs' pictures are kept beside the committed metrics: few, and of a traversal the most active latents.
RECONSTRUCTED, RECONSTRUCTED_SHARED = ("label_vae", "ada_vae", "hgvae", "evidence_hgvae"), (1, 5)
TRAVERSED_METHODS, TRAVERSED_SHARED, TRAVERSED_LATENTS = ("hgvae", "evidence_hgvae"), 3, 7
_JPEG = {"quality": 90, "subsampling": 0, "optimize": True}  # a quarter of a PNG; by eye there is no difference


@torch.no_grad()
def traversal_table(decode: Decode, mean: Tensor, values: Sequence[float], activity: Tensor) -> pd.DataFrame:
    """Decodes one encoding again and again with one latent at a time moved over a range, the most active latent first.

    Args:
        decode: latents [n, d] to images [n, 3, height, width] in [0, 1].
        mean: [d], the encoding that the other latents keep.
        values: what the moved latent is set to, an image each.
        activity: [d], by which the latents are ordered, for example their mean divergence from the prior.

    Returns:
        A line for every image: ``rank`` (from 0), ``latent``, ``activity``, ``step``, ``value``, ``jpeg`` (base64).
    """
    order = activity.argsort(descending=True, stable=True).tolist()
    moved = mean.repeat(len(mean), len(values), 1)  # [d, steps, d]
    latents = torch.arange(len(mean), device=mean.device)
    moved[latents, :, latents] = mean.new_tensor(values)
    images = to_bytes(decode(moved.flatten(0, 1))).unflatten(0, (len(mean), len(values)))[order]
    lines = [
        (rank, latent, float(activity[latent]), step, value)
        for rank, latent in enumerate(order)
        for step, value in enumerate(values)
    ]
    table = pd.DataFrame(lines, columns=["rank", "latent", "activity", "step", "value"])
    return table.assign(jpeg=pack(images.flatten(0, 1)))


@torch.no_grad()
def reconstruction_table(decode: Decode, means: Tensor, images: Tensor) -> pd.DataFrame:
    """Puts what the decoder makes of each encoding beside the image that was encoded.

    Args:
        decode: latents [n, d] to images [n, 3, height, width] in [0, 1].
        means: [pairs, 2, d].
        images: uint8 [pairs, 2, height, width, 3].

    Returns:
        A line for every image: ``pair``, ``view``, ``kind`` (``original`` or ``reconstruction``), ``jpeg`` (base64).
    """
    decoded = to_bytes(decode(means.flatten(0, -2))).unflatten(0, means.shape[:-1])
    shown = torch.stack([images.cpu(), decoded], dim=2)  # [pairs, 2 views, 2 kinds, height, width, 3]
    lines = pd.MultiIndex.from_product(
        [range(len(means)), range(2), ["original", "reconstruction"]], names=["pair", "view", "kind"]
    )
    return lines.to_frame(index=False).assign(jpeg=pack(shown.flatten(0, 2)))


def kept_pictures(table: str, method: str, shared: int, lines: pd.DataFrame) -> pd.DataFrame:
    """Returns what the figures show of a run's pictures; nothing of most runs.

    Args:
        table: ``traversals`` or ``reconstructions``.
        method: of the run.
        shared: s of the run.
        lines: of its table.
    """
    if table == "traversals":
        kept = method in TRAVERSED_METHODS and shared == TRAVERSED_SHARED
        return lines[(lines["rank"] < TRAVERSED_LATENTS) & kept]
    return lines[[method in RECONSTRUCTED and shared in RECONSTRUCTED_SHARED] * len(lines)]


def to_bytes(images: Tensor) -> Tensor:
    """Turns images [n, 3, height, width] in [0, 1] into uint8 [n, height, width, 3] on the CPU."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu()


def pack(images: Tensor) -> list[str]:
    """Writes uint8 images [n, height, width, 3] as JPEG, base64."""
    texts = []
    for image in images.numpy():
        file = io.BytesIO()
        imsave(file, image, format="jpeg", pil_kwargs=_JPEG)
        texts.append(base64.b64encode(file.getvalue()).decode())
    return texts


def unpack(texts: pd.Series) -> Images:
    """Reads images of one size back, uint8 [lines, height, width, 3]."""
    return np.stack([imread(io.BytesIO(base64.b64decode(text)), format="jpeg") for text in texts])
