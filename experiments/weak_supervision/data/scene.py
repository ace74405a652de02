"""The scene of mpi3d_sim: a robot arm on a plinth carries one object at its tip, on a round table before a wall.

Everything is described here without the renderer: solids, where they stand, and what each value of a factor means.
Lengths are in arm lengths, angles in degrees. The camera stands at negative y and looks towards positive y.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments.weak_supervision.data.solids import Mesh, box, frustum, sphere
from experiments.weak_supervision.data.sources import POSITIONS

COLOURS = {
    "white": (255, 255, 255), "green": (30, 235, 45), "red": (255, 35, 35), "blue": (50, 100, 255),
    "brown": (170, 95, 40), "olive": (190, 195, 25),
}  # fmt: skip
# Dark, as mpi3d's are: the object and the arm carry the image.
BACKGROUNDS = {"purple": (70, 20, 105), "sea green": (12, 85, 70), "salmon": (120, 50, 30)}
ARM_COLOUR = (175, 180, 190)

# The six differ in outline, not in shading alone: images of 32x32 pixels show little else.
SHAPES: dict[str, Mesh] = {
    "cone": frustum(32, 0.95, 0.0, -1.0, 1.1, smooth=True),
    "cube": frustum(4, 1.13, 1.13, -0.8, 0.8, turn=20),
    "cylinder": frustum(32, 0.62, 0.62, -1.05, 1.05, smooth=True),
    "hexagonal": frustum(6, 1.2, 1.2, -0.45, 0.45, turn=10),
    "pyramid": frustum(4, 1.35, 0.0, -0.6, 0.8, turn=20),
    "sphere": sphere(0.95),
}
SIZES = {"small": 0.31, "large": 0.5}  # lengths of the shapes' unit
CAMERA_ELEVATIONS = {"top": 48.0, "centre": 25.0, "bottom": 4.0}
CAMERA_DISTANCE = 9.0
CAMERA_TARGET = (0.0, -0.62, 1.05)
FIELD_OF_VIEW = 19.0

SHOULDER = (0.0, 0.0, 0.92)
AZIMUTHS = (-60.0, 60.0)  # the horizontal axis: 0 points at the camera
ELEVATIONS = (-30.0, 50.0)  # the vertical axis: 0 is level

WALL_SHADE, TABLE_SHADE = 150, 255  # of the background's colour
TABLE_RADIUS = 1.45
AMBIENT, DIFFUSE = 0.4, 0.6  # light, sum 1
LIGHT_DIRECTION = (0.45, 0.6, -0.9)  # the way it falls: from the upper left, behind the camera

PLINTH: tuple[Mesh, ...] = (
    frustum(32, 0.42, 0.42, 0.0, 0.12, smooth=True),
    frustum(32, 0.26, 0.2, 0.12, 0.87, smooth=True),
)
ARM: tuple[Mesh, ...] = (  # before it is turned: towards the camera, level, from the origin
    sphere(0.2),
    box((-0.1, -1.0, -0.1), (0.1, 0.0, 0.1)),
)


class Geometry(NamedTuple):
    """Everything but the colours: indices of shape, size, camera height, and positions of both axes in 0..39."""

    shape: int
    size: int
    camera_height: int
    horizontal_axis: int
    vertical_axis: int


def angle_of(position: int, limits: tuple[float, float]) -> float:
    """Returns the angle of one of the 40 positions of an axis."""
    return limits[0] + (limits[1] - limits[0]) * position / (POSITIONS - 1)
