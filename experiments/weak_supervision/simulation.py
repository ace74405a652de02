"""mpi3d_sim: the default grid from the planes that are shipped, other grids rendered once into the data folder."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.common.errors import ExperimentError
from experiments.weak_supervision import planes, scene
from experiments.weak_supervision.composition import ARM, BACKGROUNDS, COLOURS, compose, halve
from experiments.weak_supervision.factors import POSITIONS, FactorGrid
from experiments.weak_supervision.image_file import AWAY, inspect, open_map, record_of, verify
from experiments.weak_supervision.image_writer import Plan, exclusive, write_images
from experiments.weak_supervision.rendering import PLANES, SIZE, Renderer
from experiments.weak_supervision.thinning import thinned

RENDERING_RATE, COLOURING_RATE = 450.0, 10_000.0  # per second on one core, for the time that is stated before
BLOCK = 2048  # images written at a time, 25 MB; a multiple of the positions of both axes
MEMORY = 2e8  # bytes that Python, NumPy and the renderer take


def grid_of(positions: int) -> FactorGrid:
    """Returns the grid with as many positions of each axis."""
    return FactorGrid((
        len(scene.COLOURS), len(scene.SHAPES), len(scene.SIZES), len(scene.CAMERA_ELEVATIONS), len(scene.BACKGROUNDS),
        positions, positions,
    ))  # fmt: skip


def definition() -> str:
    """Names what the images look like; rendered files of another look are not used."""
    colours = COLOURS.tobytes() + BACKGROUNDS.tobytes() + ARM.tobytes()
    return f"mpi3d_sim {hashlib.sha256(planes.SHA256.encode() + colours).hexdigest()[:16]}"


def load(image_size: int, positions: int, directory: Path) -> tuple[NDArray[np.uint8], FactorGrid]:
    """Returns the images of a grid, and the grid. The default one is coloured in memory, others are memory maps.

    Args:
        image_size: 64, or 32: means of 2x2 pixels, rounded.
        positions: of each axis, a divisor of 40.
        directory: the data folder; other grids than the default lie in ``mpi3d_sim/``.

    Raises:
        ExperimentError: packaged planes that were altered; rendered images that were, or by another version; no
            renderer, no disk space.
    """
    grid = grid_of(positions)
    if positions == planes.POSITIONS:
        return _default(image_size), grid
    path = directory / "mpi3d_sim" / f"mpi3d_sim_{positions}x{positions}_{image_size}.npy"
    if not path.exists():
        with exclusive(path.with_name(f"rendering_{positions}x{positions}")):
            if not path.exists():
                _render(path, image_size, positions)
    layout, shape = inspect(path), (grid.num_images, image_size, image_size, 3)
    if layout.shape != shape:
        raise ExperimentError(f"{path} holds images {layout.shape}, expected {shape}; {AWAY}")
    if verify(path, layout).origin != definition():
        raise ExperimentError(f"{path} was not rendered by this version of mpi3d_sim; {AWAY} to render it again")
    return open_map(path, layout), grid


def _default(image_size: int) -> NDArray[np.uint8]:
    shipped = planes.load()  # [shapes, sizes, cameras, horizontal, vertical, 3, 64, 64]
    sizes = grid_of(planes.POSITIONS).sizes
    images = np.empty((*sizes, image_size, image_size, 3), np.uint8)
    # Small blocks stay in the processor's cache.
    for colour, shape, size, camera, background, horizontal in np.ndindex(sizes[:-1]):
        block = compose(shipped[shape, size, camera, horizontal], colour, background)
        images[colour, shape, size, camera, background, horizontal] = block if image_size == SIZE else halve(block)
    return images.reshape(-1, image_size, image_size, 3)


def _render(path: Path, image_size: int, positions: int) -> None:
    sizes, origin, side = grid_of(positions).sizes, definition(), positions * positions
    name = f"mpi3d_sim at {positions}x{positions} positions"
    block, row = max(BLOCK // side, 1) * side, PLANES * SIZE * SIZE
    images = Plan(
        f"colouring {name}", origin, (math.prod(sizes), image_size, image_size, 3), block, COLOURING_RATE,
        MEMORY + 8 * block * row,
    )  # fmt: skip
    plane_path = path.with_name(f"planes_{positions}x{positions}.npy")
    if not plane_path.exists():
        geometries = (math.prod(sizes[1:4]) * side, PLANES, SIZE, SIZE)
        later = math.prod(images.shape)
        plan = Plan(f"rendering {name}", origin, geometries, block, RENDERING_RATE, MEMORY + block * row, later)
        axis = thinned(POSITIONS, positions)
        with Renderer() as renderer:
            write_images(plane_path, plan, lambda start, stop: planes.render(renderer, axis, start, stop))
    layout = inspect(plane_path)
    if verify(plane_path, layout).origin != origin:
        raise ExperimentError(f"{plane_path} was not rendered by this version of mpi3d_sim; {AWAY}")
    rendered = open_map(plane_path, layout).reshape(*sizes[1:4], side, PLANES, SIZE, SIZE)

    def colour_block(start: int) -> NDArray[np.uint8]:
        place = map(int, np.unravel_index(start // side, sizes[:5]))
        colour, shape, size, camera, background = place
        coloured = compose(rendered[shape, size, camera], colour, background)
        return coloured if image_size == SIZE else halve(coloured)

    def make(start: int, stop: int) -> NDArray[np.uint8]:
        return np.concatenate([colour_block(one) for one in range(start, stop, side)])

    write_images(path, images, make)
    for useless in (plane_path, record_of(plane_path)):
        useless.unlink(missing_ok=True)
