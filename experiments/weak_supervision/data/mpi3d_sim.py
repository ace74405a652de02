"""mpi3d_sim: images of a rendered scene with the factors of mpi3d.

What a geometry looks like are three planes, how bright object, background and arm are in each pixel; an image is
(object plane x object colour + background plane x background colour + arm plane x arm colour) / 255, rounded. The
planes of the default grid lie beside this file, made by the renderer and checked when loaded; the images of other grids
are rendered once and written into the data folder.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import scene
from experiments.weak_supervision.data.image_file import AWAY, inspect, open_map, verify
from experiments.weak_supervision.data.image_writer import Plan, write_images
from experiments.weak_supervision.data.images import FactorGrid, FactorImages, halve
from experiments.weak_supervision.data.mpi3d_factors import keep, thinned
from experiments.weak_supervision.data.renderer import PLANES, SIZE, Renderer
from experiments.weak_supervision.data.sources import FACTORS, POSITIONS

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
        positions: of each axis, one of the source's ``kept_positions``.
        directory: the data folder; other grids than the default lie in ``mpi3d_sim/``.

    Raises:
        ExperimentError: packaged planes that were altered; rendered images that were, or by another version; no
            renderer, no disk space.
    """
    if positions == DEFAULT_POSITIONS:
        return keep("mpi3d_sim", _default(image_size), grid_of(positions), levels, positions)
    images = keep("mpi3d_sim", _rendered(positions, directory), grid_of(positions), levels, positions)
    return images if image_size == SIZE else images.halved()


def _rendered(positions: int, directory: Path) -> NDArray[np.uint8]:
    grid, origin = grid_of(positions), definition()
    shape = (grid.num_images, SIZE, SIZE, 3)
    path = directory / "mpi3d_sim" / f"mpi3d_sim_{positions}x{positions}_{SIZE}.npy"
    if not path.exists():
        geometries = grid.num_images / (len(COLOURS) * len(BACKGROUNDS))
        seconds = geometries / RENDERING_RATE + grid.num_images / COLOURING_RATE
        memory = MEMORY + 8 * positions**2 * PLANES * SIZE**2
        plan = Plan(f"rendering mpi3d_sim at {positions}x{positions} positions", origin, shape, seconds, memory)
        with Renderer() as renderer:
            write_images(path, plan, _blocks(renderer, grid))
    layout = inspect(path)
    if layout.shape != shape:
        raise ExperimentError(f"{path} holds images {layout.shape}, expected {shape}; {AWAY}")
    if verify(path, layout).origin != origin:
        raise ExperimentError(f"{path} was not rendered by this version of mpi3d_sim; {AWAY} to render it again")
    return open_map(path, layout)


def _blocks(renderer: Renderer, grid: FactorGrid) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields the images of all positions in one look, and the number of their first; each geometry is rendered once."""
    for place in np.ndindex(SIZES):
        planes = render(renderer, place, grid.sizes[-1])
        for colour, background in np.ndindex(len(COLOURS), len(BACKGROUNDS)):
            first = np.ravel_multi_index((colour, *place, background, 0, 0), grid.sizes)
            yield int(first), compose(planes, colour, background)


def _default(image_size: int) -> NDArray[np.uint8]:
    shipped = load_planes()  # [shapes, sizes, cameras, horizontal, vertical, 3, 64, 64]
    sizes = grid_of(DEFAULT_POSITIONS).sizes
    images = np.empty((*sizes, image_size, image_size, 3), np.uint8)
    # Small blocks stay in the processor's cache.
    for colour, shape, size, camera, background, horizontal in np.ndindex(sizes[:-1]):
        block = compose(shipped[shape, size, camera, horizontal], colour, background)
        images[colour, shape, size, camera, background, horizontal] = block if image_size == SIZE else halve(block)
    return images.reshape(-1, image_size, image_size, 3)


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
    return np.stack([render(renderer, place, DEFAULT_POSITIONS) for place in np.ndindex(SIZES)]).reshape(SHAPE)


def render(renderer: Renderer, place: tuple[int, ...], positions: int) -> NDArray[np.uint8]:
    """Renders one object at all positions of the arm.

    Args:
        renderer: the renderer.
        place: indices of shape, size and camera height.
        positions: of each axis.

    Returns:
        Planes, uint8 [positions * positions, 3, 64, 64]; the vertical axis varies fastest.
    """
    axis, (shape, size, camera) = thinned(POSITIONS, positions), place
    geometries = (scene.Geometry(shape, size, camera, *both) for both in product(axis, axis))
    return np.stack([renderer.planes(geometry) for geometry in geometries])
