"""Renders the planes of mpi3d_sim with panda3d's software renderer: no GPU, no display.

Object, background and arm are drawn in pure red, green and blue under white light. Each channel of the picture then
is one plane: how bright that part is in each pixel, 0 where it is hidden.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from experiments.common.errors import ExperimentError
from experiments.weak_supervision import scene
from experiments.weak_supervision.scene import Geometry
from experiments.weak_supervision.solids import Mesh, frustum

SIZE = 64  # pixels of an image's side
SUPERSAMPLING = 4  # rendered pixels per pixel and direction
PLANES = 3  # object, background, arm

SETTINGS = "\n".join((
    "load-display p3tinydisplay", "aux-display", "audio-library-name null", "notify-level-display error",
))  # fmt: skip


class Renderer:
    """Draws one geometry at a time. One per process: panda3d keeps its engine in globals.

    Raises:
        ExperimentError: panda3d is not installed or can't load.
    """

    def __init__(self) -> None:
        core = self._core = _panda3d()
        core.loadPrcFileData("", SETTINGS)
        self._engine = core.GraphicsEngine.getGlobalPtr()
        pipe = core.GraphicsPipeSelection.getGlobalPtr().makePipe("TinyOffscreenGraphicsPipe", "p3tinydisplay")
        if pipe is None:
            raise ExperimentError(
                "panda3d's software renderer can't load; it needs the library libX11.so.6 (Debian and Ubuntu: "
                "apt-get install libx11-6)"
            )
        properties = core.FrameBufferProperties()
        properties.setRgbaBits(8, 8, 8, 0)
        properties.setDepthBits(24)
        side = SIZE * SUPERSAMPLING
        self._buffer = self._engine.makeOutput(
            pipe, "planes", 0, properties, core.WindowProperties.size(side, side), core.GraphicsPipe.BFRefuseWindow
        )
        self._texture = core.Texture()
        self._buffer.addRenderTexture(self._texture, core.GraphicsOutput.RTMCopyRam)
        self._buffer.setClearColor((0, scene.WALL_SHADE / 255, 0, 1))
        self._build()

    def _build(self) -> None:
        core = self._core
        root = core.NodePath("scene")
        root.setTwoSided(False)
        lens = core.PerspectiveLens()
        lens.setFov(scene.FIELD_OF_VIEW)
        lens.setNearFar(scene.CAMERA_DISTANCE - 4, scene.CAMERA_DISTANCE + 4)
        self._camera = root.attachNewNode(core.Camera("camera", lens))
        self._buffer.makeDisplayRegion().setCamera(self._camera)

        table = self._attach(root, frustum(64, scene.TABLE_RADIUS, scene.TABLE_RADIUS, -0.1, 0.0))
        table.setColor(0, scene.TABLE_SHADE / 255, 0, 1)
        lit = root.attachNewNode("lit")
        self._light(lit, core.AmbientLight("ambient"), scene.AMBIENT)
        lamp = core.DirectionalLight("lamp")
        lamp.setDirection(core.Vec3(*scene.LIGHT_DIRECTION))
        self._light(lit, lamp, scene.DIFFUSE)

        for mesh in scene.PLINTH:
            self._attach(lit, mesh).setColor(0, 0, 1, 1)
        self._arm = lit.attachNewNode("arm")
        self._arm.setPos(*scene.SHOULDER)
        for mesh in scene.ARM:
            self._attach(self._arm, mesh).setColor(0, 0, 1, 1)
        self._object = lit.attachNewNode("object")
        self._shapes = [self._attach(self._object, mesh) for mesh in scene.SHAPES.values()]
        for shape in self._shapes:
            shape.setColor(1, 0, 0, 1)

    def _light(self, parent: object, light: object, strength: float) -> None:
        light.setColor((strength, strength, strength, 1))
        parent.setLight(parent.attachNewNode(light))

    def _attach(self, parent: object, mesh: Mesh) -> object:
        core = self._core
        data = core.GeomVertexData("mesh", core.GeomVertexFormat.getV3n3(), core.Geom.UHStatic)
        count = mesh.corners.shape[0] * 3
        data.setNumRows(count)
        rows = np.concatenate([mesh.corners.reshape(-1, 3), mesh.normals.reshape(-1, 3)], axis=1)
        data.modifyArray(0).modifyHandle().copyDataFrom(np.ascontiguousarray(rows, np.float32).tobytes())
        triangles = core.GeomTriangles(core.Geom.UHStatic)
        triangles.addConsecutiveVertices(0, count)
        geom = core.Geom(data)
        geom.addPrimitive(triangles)
        node = core.GeomNode("mesh")
        node.addGeom(geom)
        return parent.attachNewNode(node)

    def planes(self, geometry: Geometry) -> NDArray[np.uint8]:
        """Returns the planes of one geometry, uint8 [3 (object, background, arm), 64, 64]."""
        azimuth = scene.angle_of(geometry.horizontal_axis, scene.AZIMUTHS)
        elevation = scene.angle_of(geometry.vertical_axis, scene.ELEVATIONS)
        self._arm.setHpr(azimuth, -elevation, 0)
        tip = self._core.Vec3(0, -1, 0)
        self._object.setPos(self._object.getParent().getRelativePoint(self._arm, tip))
        for position, shape in enumerate(self._shapes):
            shape.show() if position == geometry.shape else shape.hide()
        self._object.setScale(list(scene.SIZES.values())[geometry.size])
        camera = math.radians(list(scene.CAMERA_ELEVATIONS.values())[geometry.camera_height])
        x, y, z = scene.CAMERA_TARGET
        self._camera.setPos(
            x, y - scene.CAMERA_DISTANCE * math.cos(camera), z + scene.CAMERA_DISTANCE * math.sin(camera)
        )
        self._camera.lookAt(x, y, z)
        self._engine.renderFrame()
        side = SIZE * SUPERSAMPLING
        picture = np.frombuffer(self._texture.getRamImageAs("RGB"), np.uint8).reshape(side, side, 3)[::-1]
        blocks = picture.reshape(SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING, PLANES)
        # Rounded down, so that the planes of a pixel never add up to more than 255.
        return (blocks.sum(axis=(1, 3), dtype=np.uint16) // SUPERSAMPLING**2).astype(np.uint8).transpose(2, 0, 1)


def _panda3d() -> ModuleType:
    try:
        import panda3d.core
    except ModuleNotFoundError:
        raise ExperimentError(
            "rendering mpi3d_sim needs panda3d: pip install -e '.[renderer]'"
        ) from None
    return panda3d.core
