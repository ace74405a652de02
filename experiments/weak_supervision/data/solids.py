"""Convex solids as triangles with one normal per corner, for the rendered scene."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Mesh(NamedTuple):
    """Triangles: corners and unit normals, float32 [triangles, 3 corners, 3 coordinates], counter-clockwise outside."""

    corners: NDArray[np.float32]
    normals: NDArray[np.float32]


def frustum(
    sides: int, bottom_radius: float, top_radius: float, bottom: float, top: float, *, turn: float = 0.0,
    smooth: bool = False,
) -> Mesh:  # fmt: skip
    """Returns a prism, pyramid, cylinder or cone that stands upright on the z axis.

    Args:
        sides: corners of the base.
        bottom_radius: from the axis to the base's corners; ``top_radius`` likewise, 0 for a tip.
        bottom: height of the base; ``top`` likewise.
        turn: degrees by which the solid is turned about its axis.
        smooth: whether the side is shaded as a round one.
    """
    angles = np.radians(turn) + 2 * math.pi * np.arange(sides + 1) / sides
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1)
    low, high = bottom_radius * ring + [0, 0, bottom], top_radius * ring + [0, 0, top]
    low_centre, high_centre = np.broadcast_to([0, 0, bottom], low.shape), np.broadcast_to([0, 0, top], low.shape)
    sides_of = [
        np.stack([low[:-1], low[1:], high[1:]], axis=1), np.stack([low[:-1], high[1:], high[:-1]], axis=1)
    ]  # fmt: skip
    caps = [
        np.stack([low_centre[:-1], low[1:], low[:-1]], axis=1),
        np.stack([high_centre[:-1], high[:-1], high[1:]], axis=1),
    ]
    slope = (bottom_radius - top_radius) / (top - bottom)
    round_normals = (ring + [0, 0, slope]) / math.hypot(1, slope)
    round_sides = [
        np.stack([round_normals[:-1], round_normals[1:], round_normals[1:]], axis=1),
        np.stack([round_normals[:-1], round_normals[1:], round_normals[:-1]], axis=1),
    ]
    corners, normals = [], []
    for part, round_part in zip(sides_of + caps, round_sides + [None, None]):
        kept = _areas(part) > 1e-9  # a tip has no upper triangles
        corners.append(part[kept])
        normals.append(round_part[kept] if smooth and round_part is not None else _flat_normals(part[kept]))
    return _mesh(np.concatenate(corners), np.concatenate(normals))


def sphere(radius: float, *, steps: int = 24) -> Mesh:
    """Returns a sphere about the origin, shaded as a round one; ``steps`` rings from pole to pole."""
    polar = math.pi * np.arange(steps + 1) / steps
    around = 2 * math.pi * np.arange(2 * steps + 1) / (2 * steps)
    points = np.stack(
        [np.outer(np.sin(polar), np.cos(around)), np.outer(np.sin(polar), np.sin(around)),
         np.outer(np.cos(polar), np.ones_like(around))], axis=-1,
    )  # fmt: skip
    upper_left, upper_right, lower_left, lower_right = (
        points[:-1, :-1], points[:-1, 1:], points[1:, :-1], points[1:, 1:]
    )  # fmt: skip
    triangles = np.concatenate([
        np.stack([upper_left, lower_left, lower_right], axis=2).reshape(-1, 3, 3),
        np.stack([upper_left, lower_right, upper_right], axis=2).reshape(-1, 3, 3),
    ])  # fmt: skip
    triangles = triangles[_areas(triangles) > 1e-9]
    return _mesh(radius * triangles, triangles)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    """Returns the box between two opposite corners."""
    unit = frustum(4, math.sqrt(2), math.sqrt(2), -1, 1, turn=45)
    half, centre = (np.asarray(high) - low) / 2, (np.asarray(high) + low) / 2
    return _mesh(unit.corners * half + centre, unit.normals)


def _areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(_crosses(triangles), axis=-1) / 2


def _crosses(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def _flat_normals(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    crosses = _crosses(triangles)
    return np.repeat((crosses / np.linalg.norm(crosses, axis=-1, keepdims=True))[:, None], 3, axis=1)


def _mesh(corners: NDArray[np.floating], normals: NDArray[np.floating]) -> Mesh:
    return Mesh(corners.astype(np.float32), normals.astype(np.float32))
