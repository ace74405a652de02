"""mpi3d_sim: images of a rendered scene with the factors of mpi3d.

What a geometry looks like are three planes, how bright object, background and arm are in each pixel; an image is
(object plane x object colour + background plane x background colour + arm plane x arm colour) / 255, rounded. The
planes of the default grid lie beside this file, made by the renderer and checked when loaded; those of other grids are
rendered once, and their images written into the data folder.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import scene
from experiments.weak_supervision.data.image_file import AWAY, halve, inspect, open_map, record_of, verify
from experiments.weak_supervision.data.image_writer import Plan, exclusive, write_images
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.mpi3d_factors import POSITIONS, keep, require_positions, thinned
from experiments.weak_supervision.data.renderer import PLANES, SIZE, Renderer
from experiments.weak_supervision.data.sources import FACTORS

PATH = Path(__file__).with_name("mpi3d_sim_planes.npz")
DEFAULT_POSITIONS = 8  # of each axis in the default grid
SIZES = (len(scene.SHAPES), len(scene.SIZES), len(scene.CAMERA_ELEVATIONS))
SHAPE = (*SIZES, DEFAULT_POSITIONS, DEFAULT_POSITIONS, PLANES, SIZE, SIZE)
# Of the planes in the order of SHAPE; `python -m scripts.prepare_mpi3d package` writes the file and prints this.
SHA256 = "6a500e1b0bac154284c8c9afbdc0ecb80640f2f3dda7cac4012a1678b967760b"
COLOURS = np.array(list(scene.COLOURS.values()), np.uint16)  # [6, 3]
BACKGROUNDS = np.array(list(scene.BACKGROUNDS.values()), np.uint16)  # [3, 3]
ARM = np.array(scene.ARM_COLOUR, np.uint16)  # [3]

RENDERING_RATE, COLOURING_RATE = 450.0, 10_000.0  # per second on one core, for the time that is stated before
BLOCK = 2048  # images written at a time, 25 MB; a multiple of the positions of both axes
MEMORY = 2e8  # bytes that Python, NumPy and the renderer take


def grid_of(positions: int) -> FactorGrid:
    """Returns the grid with as many positions of each axis."""
    return FactorGrid(FACTORS, (
        len(scene.COLOURS), len(scene.SHAPES), len(scene.SIZES), len(scene.CAMERA_ELEVATIONS), len(scene.BACKGROUNDS),
        positions, positions,
    ))  # fmt: skip


def definition() -> str:
    """Names what the images look like; rendered files of another look are not used."""
    colours = COLOURS.tobytes() + BACKGROUNDS.tobytes() + ARM.tobytes()
    return f"mpi3d_sim {hashlib.sha256(SHA256.encode() + colours).hexdigest()[:16]}"


def load(image_size: int, levels: int | None, positions: int, directory: Path) -> FactorImages:
    """Returns the images of a grid. The default one is coloured in memory, others are memory maps.

    Args:
        image_size: 64, or 32: means of 2x2 pixels, rounded.
        levels: colours and shapes that are kept: 6, or the 4 of the older mpi3d files; None for all.
        positions: of each axis, a divisor of 40.
        directory: the data folder; other grids than the default lie in ``mpi3d_sim/``.

    Raises:
        ExperimentError: packaged planes that were altered; rendered images that were, or by another version; no
            renderer, no disk space.
    """
    require_positions(positions)
    grid = grid_of(positions)
    stored = _default(image_size) if positions == DEFAULT_POSITIONS else _rendered(image_size, positions, directory)
    return keep("mpi3d_sim", stored, grid, levels, positions)


def _rendered(image_size: int, positions: int, directory: Path) -> NDArray[np.uint8]:
    path = directory / "mpi3d_sim" / f"mpi3d_sim_{positions}x{positions}_{image_size}.npy"
    if not path.exists():
        with exclusive(path.with_name(f"rendering_{positions}x{positions}")):
            if not path.exists():
                _render(path, image_size, positions)
    layout, shape = inspect(path), (grid_of(positions).num_images, image_size, image_size, 3)
    if layout.shape != shape:
        raise ExperimentError(f"{path} holds images {layout.shape}, expected {shape}; {AWAY}")
    if verify(path, layout).origin != definition():
        raise ExperimentError(f"{path} was not rendered by this version of mpi3d_sim; {AWAY} to render it again")
    return open_map(path, layout)


def _default(image_size: int) -> NDArray[np.uint8]:
    shipped = load_planes()  # [shapes, sizes, cameras, horizontal, vertical, 3, 64, 64]
    sizes = grid_of(DEFAULT_POSITIONS).sizes
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
            write_images(plane_path, plan, lambda start, stop: render(renderer, axis, start, stop))
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


def load_planes() -> NDArray[np.uint8]:
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
    """Renders the planes of the default grid, as :func:`load_planes` returns them."""
    count = int(np.prod(SHAPE[:5]))
    return render(renderer, thinned(POSITIONS, DEFAULT_POSITIONS), 0, count).reshape(SHAPE)


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
