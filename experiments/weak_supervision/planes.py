"""The planes of the default grid of mpi3d_sim: made by the renderer, shipped beside this file, checked when loaded."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.common.errors import ExperimentError
from experiments.weak_supervision import scene
from experiments.weak_supervision.factors import POSITIONS as ALL_POSITIONS
from experiments.weak_supervision.rendering import PLANES, SIZE, Renderer
from experiments.weak_supervision.thinning import thinned

PATH = Path(__file__).with_name("mpi3d_sim_planes.npz")
POSITIONS = 8  # of each axis in the default grid
SIZES = (len(scene.SHAPES), len(scene.SIZES), len(scene.CAMERA_ELEVATIONS))
SHAPE = (*SIZES, POSITIONS, POSITIONS, PLANES, SIZE, SIZE)
# Of the planes in the order of SHAPE; `scripts/prepare_mpi3d.py package` writes the file and prints this.
SHA256 = "6a500e1b0bac154284c8c9afbdc0ecb80640f2f3dda7cac4012a1678b967760b"


def load() -> NDArray[np.uint8]:
    """Returns the shipped planes, uint8 [shapes, sizes, cameras, horizontal, vertical, 3, 64, 64].

    Raises:
        ExperimentError: the file is missing or altered.
    """
    try:
        with PATH.open("rb") as file, np.load(file) as archive:
            planes = np.moveaxis(archive["planes"], 0, -3)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ExperimentError(f"{PATH} is missing or damaged ({error}): check it out again") from None
    if planes.shape != SHAPE or digest(planes) != SHA256:
        raise ExperimentError(f"{PATH} was altered: check it out again (git checkout -- {PATH.name})")
    return planes


def digest(planes: NDArray[np.uint8]) -> str:
    """Returns the SHA-256 of planes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(planes).data).hexdigest()


def save(planes: NDArray[np.uint8], path: Path) -> None:
    """Writes planes in the form in which they are shipped: kind by kind, which packs a seventh better."""
    with path.open("wb") as file:
        np.savez_compressed(file, planes=np.moveaxis(planes, -3, 0))


def render_default(renderer: Renderer) -> NDArray[np.uint8]:
    """Renders the planes of the default grid, as :func:`load` returns them."""
    count = int(np.prod(SHAPE[:5]))
    return render(renderer, thinned(ALL_POSITIONS, POSITIONS), 0, count).reshape(SHAPE)


def render(renderer: Renderer, axis: Sequence[int], start: int, stop: int) -> NDArray[np.uint8]:
    """Renders the geometries of a grid from a first up to a last, exclusive.

    Args:
        renderer: the renderer.
        axis: the positions of both axes.
        start: number of the first geometry, row-major over shape, size, camera height and both axes.
        stop: number after the last.

    Returns:
        uint8 [stop - start, 3, 64, 64].
    """
    planes = np.empty((stop - start, PLANES, SIZE, SIZE), np.uint8)
    for number in range(start, stop):
        place = map(int, np.unravel_index(number, (*SIZES, len(axis), len(axis))))
        shape, size, camera, horizontal, vertical = place
        geometry = scene.Geometry(shape, size, camera, axis[horizontal], axis[vertical])
        planes[number - start] = renderer.planes(geometry)
    return planes
