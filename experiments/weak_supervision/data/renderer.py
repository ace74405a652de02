"""Renders the planes of mpi3d_sim with panda3d's software renderer: no GPU, no display.

Object, background and arm are drawn in pure red, green and blue under white light. Each channel of the picture then is
one plane: how bright that part is in each pixel, 0 where it is hidden.
"""

from __future__ import annotations

import importlib
import math
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import scene
from experiments.weak_supervision.data.scene import Geometry
from experiments.weak_supervision.data.solids import Mesh, frustum

SIZE = 64  # pixels of an image's side
SUPERSAMPLING = 4  # rendered pixels per pixel and direction
PLANES = 3  # object, background, arm
OBJECT, BACKGROUND, ARM = (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)  # the channel of each

SETTINGS = "load-display p3tinydisplay\naux-display\naudio-library-name null\n"


class Renderer:
    """Draws one geometry at a time; a context manager that frees the picture's memory.

    Raises:
        ExperimentError: panda3d is not installed or can't load its renderer.
    """

    def __init__(self) -> None:
        core = self._core = _panda3d()
        core.loadPrcFileData("", SETTINGS)
        self._engine = core.GraphicsEngine.getGlobalPtr()
        pipe = core.GraphicsPipeSelection.getGlobalPtr().makePipe("TinyOffscreenGraphicsPipe", "p3tinydisplay")
        if pipe is None:
            raise ExperimentError(
                "panda3d's software renderer can't load: it needs the system library libX11.so.6 (Debian, Ubuntu: "
                "apt-get install libx11-6)"
            )
        properties = core.FrameBufferProperties()
        properties.setRgbaBits(8, 8, 8, 0)
        properties.setDepthBits(24)
        side = core.WindowProperties.size(SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING)
        self._buffer = self._engine.makeOutput(pipe, "planes", 0, properties, side, core.GraphicsPipe.BFRefuseWindow)
        self._picture = core.Texture()
        self._buffer.addRenderTexture(self._picture, core.GraphicsOutput.RTMCopyRam)
        self._buffer.setClearColor((0, scene.WALL_SHADE / 255, 0, 1))
        self._order = 0
        self._root = core.NodePath("scene")
        self._add_camera()
        table = frustum(64, scene.TABLE_RADIUS, scene.TABLE_RADIUS, -0.1, 0.0)
        self._attach(self._root, table, (0, scene.TABLE_SHADE / 255, 0, 1))
        lit = self._root.attachNewNode("lit")
        self._add_lights(lit)
        for mesh in scene.PLINTH:
            self._attach(lit, mesh, ARM)
        self._arm = lit.attachNewNode("arm")
        self._arm.setPos(*scene.SHOULDER)
        for mesh in scene.ARM:
            self._attach(self._arm, mesh, ARM)
        self._object = lit.attachNewNode("object")
        self._shapes = [self._attach(self._object, mesh, OBJECT) for mesh in scene.SHAPES.values()]

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.removeWindow(self._buffer)

    def _add_camera(self) -> None:
        lens = self._core.PerspectiveLens()
        lens.setFov(scene.FIELD_OF_VIEW)
        lens.setNearFar(scene.CAMERA_DISTANCE - 4, scene.CAMERA_DISTANCE + 4)
        self._camera = self._root.attachNewNode(self._core.Camera("camera", lens))
        self._buffer.makeDisplayRegion().setCamera(self._camera)

    def _add_lights(self, parent: Any) -> None:
        lamp = self._core.DirectionalLight("lamp")
        lamp.setDirection(self._core.Vec3(*scene.LIGHT_DIRECTION))
        for light, strength in ((self._core.AmbientLight("ambient"), scene.AMBIENT), (lamp, scene.DIFFUSE)):
            light.setColor((strength, strength, strength, 1))
            parent.setLight(parent.attachNewNode(light))

    def _attach(self, parent: Any, mesh: Mesh, colour: tuple[float, ...]) -> Any:
        core = self._core
        rows = np.concatenate([mesh.corners.reshape(-1, 3), mesh.normals.reshape(-1, 3)], axis=1)
        data = core.GeomVertexData("mesh", core.GeomVertexFormat.getV3n3(), core.Geom.UHStatic)
        data.setNumRows(len(rows))
        data.modifyArray(0).modifyHandle().copyDataFrom(rows.tobytes())
        triangles = core.GeomTriangles(core.Geom.UHStatic)
        triangles.addConsecutiveVertices(0, len(rows))
        geometry = core.Geom(data)
        geometry.addPrimitive(triangles)
        node = core.GeomNode("mesh")
        node.addGeom(geometry)
        path = parent.attachNewNode(node)
        path.setColor(colour)
        # In the order in which they were added. Left to itself, panda3d sorts by addresses in memory, and where two
        # surfaces meet, the one that is drawn first stays: the same scene would give different bytes.
        self._order += 1
        path.setBin("fixed", self._order)
        return path

    def planes(self, geometry: Geometry) -> NDArray[np.uint8]:
        """Returns the planes of one geometry, uint8 [3 (object, background, arm), 64, 64]."""
        azimuth = scene.angle_of(geometry.horizontal_axis, scene.AZIMUTHS)
        elevation = scene.angle_of(geometry.vertical_axis, scene.ELEVATIONS)
        self._arm.setHpr(azimuth, -elevation, 0)  # the arm points to negative y
        # The object keeps its orientation, as on a gimbal: what its outline looks like is a matter of shape alone.
        self._object.setPos(self._object.getParent().getRelativePoint(self._arm, (0, -1, 0)))
        self._object.setScale(tuple(scene.SIZES.values())[geometry.size])
        for position, shape in enumerate(self._shapes):
            if position == geometry.shape:
                shape.show()
            else:
                shape.hide()
        camera = math.radians(tuple(scene.CAMERA_ELEVATIONS.values())[geometry.camera_height])
        x, y, z = scene.CAMERA_TARGET
        self._camera.setPos(
            x, y - scene.CAMERA_DISTANCE * math.cos(camera), z + scene.CAMERA_DISTANCE * math.sin(camera)
        )
        self._camera.lookAt(x, y, z)
        self._engine.renderFrame()
        side = SIZE * SUPERSAMPLING
        picture = np.frombuffer(self._picture.getRamImageAs("RGB"), np.uint8).reshape(side, side, PLANES)[::-1]
        blocks = picture.reshape(SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING, PLANES).sum(axis=(1, 3), dtype=np.uint16)
        # Rounded down, so that the planes of a pixel never add up to more than 255.
        return (blocks // SUPERSAMPLING**2).astype(np.uint8).transpose(2, 0, 1)


def _panda3d() -> Any:
    try:
        return importlib.import_module("panda3d.core")
    except ModuleNotFoundError:
        raise ExperimentError("rendering mpi3d_sim needs panda3d: pip install -e '.[renderer]'") from None
    except ImportError as error:
        raise ExperimentError(
            f"panda3d can't load ({error}); where it is libX11.so.6 that is missing: apt-get install libx11-6"
        ) from None
