"""Colours the rendered planes: what the images of mpi3d_sim are, byte by byte.

image = (object plane x object colour + background plane x background colour + arm plane x arm colour) / 255, rounded.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from experiments.weak_supervision import scene

COLOURS = np.array(list(scene.COLOURS.values()), np.uint16)  # [6, 3]
BACKGROUNDS = np.array(list(scene.BACKGROUNDS.values()), np.uint16)  # [3, 3]


def compose(planes: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Writes the images of one block of geometries in all colours and backgrounds.

    Args:
        planes: uint8 [count, 3 (object, background, arm), side, side]; the planes of a pixel add up to 255 at most.
        out: uint8 [6 colours, 3 backgrounds, count, side, side, 3]; a view of any strides.
    """
    wide = planes.astype(np.uint16)
    total, carry = np.empty_like(wide[:, 0]), np.empty_like(wide[:, 0])
    for channel in range(3):
        arm = wide[:, 2] * np.uint16(scene.ARM_COLOUR[channel])
        objects = [wide[:, 0] * colour for colour in COLOURS[:, channel]]
        for background, tone in enumerate(BACKGROUNDS[:, channel]):
            rest = wide[:, 1] * tone + arm
            for colour, one in enumerate(objects):
                # (x + 128 + ((x + 128) >> 8)) >> 8 is x / 255 rounded, for every x in 0..255 * 255.
                np.add(rest, one, out=total)
                total += 128
                np.right_shift(total, 8, out=carry)
                total += carry
                total >>= 8
                out[colour, background, ..., channel] = total


def compose_grid(planes: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Writes all images of a grid.

    Args:
        planes: uint8 [shapes, sizes, cameras, horizontal, vertical, 3, side, side].
        out: uint8 [colours, shapes, sizes, cameras, backgrounds, horizontal, vertical, side, side, 3].
    """
    for shape, size, camera, horizontal in itertools.product(*map(range, planes.shape[:4])):
        block = out[:, shape, size, camera, :, horizontal]
        compose(planes[shape, size, camera, horizontal], block)


def halve(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns images [..., side / 2, side / 2, 3] of 2x2 means, rounded, halves up."""
    wide = images.astype(np.uint16)
    rows = wide[..., 0::2, :, :] + wide[..., 1::2, :, :]
    return ((rows[..., 0::2, :] + rows[..., 1::2, :] + 2) >> 2).astype(np.uint8)
