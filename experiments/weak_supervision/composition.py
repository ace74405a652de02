"""Colours the rendered planes: what the images of mpi3d_sim are, byte by byte.

image = (object plane x object colour + background plane x background colour + arm plane x arm colour) / 255, rounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from experiments.weak_supervision import scene

COLOURS = np.array(list(scene.COLOURS.values()), np.uint16)  # [6, 3]
BACKGROUNDS = np.array(list(scene.BACKGROUNDS.values()), np.uint16)  # [3, 3]
ARM = np.array(scene.ARM_COLOUR, np.uint16)  # [3]


def compose(planes: NDArray[np.uint8], colour: int, background: int) -> NDArray[np.uint8]:
    """Returns the images of some geometries in one colour, before one background.

    Args:
        planes: uint8 [count, 3 (object, background, arm), side, side]; the planes of a pixel add up to 255 at most.
        colour: index of the object's colour; ``background`` likewise.

    Returns:
        uint8 [count, side, side, 3].
    """
    wide = planes.astype(np.uint16).transpose(1, 0, 2, 3)
    images = np.empty((*wide.shape[1:], 3), np.uint8)
    for channel in range(3):
        total = wide[0] * COLOURS[colour, channel]
        total += wide[1] * BACKGROUNDS[background, channel]
        total += wide[2] * ARM[channel]
        # With t = x + 128, (t + (t >> 8)) >> 8 is x / 255 rounded, for every x in 0..255 * 255; 16 bits are enough.
        total += 128
        total += total >> 8
        images[..., channel] = total >> 8
    return images


def halve(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns images [..., side / 2, side / 2, 3] of 2x2 means, rounded, halves up."""
    rows = images[..., 0::2, :, :].astype(np.uint16)
    rows += images[..., 1::2, :, :]
    total = rows[..., 0::2, :] + rows[..., 1::2, :]
    total += 2
    total >>= 2
    return total.astype(np.uint8)
