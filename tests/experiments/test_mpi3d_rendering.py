"""The renderer: what is shipped is what it makes, the object is where geometry puts it, and it may be missing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import mpi3d_sim, scene
from experiments.weak_supervision.data import renderer as renderer_module
from experiments.weak_supervision.data.images import FactorImages
from experiments.weak_supervision.data.mpi3d_factors import thinned
from experiments.weak_supervision.data.renderer import Renderer
from experiments.weak_supervision.data.scene import Geometry


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    try:
        opened = Renderer()
    except ExperimentError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def load(folder: Path, image_size: int = 64) -> FactorImages:
    return mpi3d_sim.load(image_size, None, 1, folder)


def test_the_shipped_planes_are_what_the_renderer_makes(renderer: Renderer) -> None:
    shipped, axis = mpi3d_sim.load_planes(), thinned(40, 8)
    generator = torch.Generator().manual_seed(0)
    flat = shipped.reshape(-1, *shipped.shape[-3:])
    for number in torch.randperm(len(flat), generator=generator)[:150].tolist():
        shape, size, camera, horizontal, vertical = map(int, np.unravel_index(number, shipped.shape[:5]))
        geometry = Geometry(shape, size, camera, axis[horizontal], axis[vertical])
        np.testing.assert_array_equal(renderer.planes(geometry), flat[number])


def test_a_second_renderer_makes_the_same_bytes(renderer: Renderer) -> None:
    geometry = Geometry(1, 1, 2, 7, 30)
    first = renderer.planes(geometry)
    with Renderer() as second:
        second.planes(Geometry(5, 0, 0, 39, 0))  # what was drawn before leaves no trace
        np.testing.assert_array_equal(second.planes(geometry), first)
    np.testing.assert_array_equal(renderer.planes(geometry), first)


def test_the_order_of_drawing_is_fixed(renderer: Renderer) -> None:
    # panda3d's own order goes by addresses in memory: one renderer in ten or so then makes other bytes.
    solids = list(renderer._root.findAllMatches("**/+GeomNode;+h"))  # the hidden shapes, too
    assert len(solids) == 1 + len(scene.PLINTH) + len(scene.ARM) + len(scene.SHAPES)
    assert {solid.getBinName() for solid in solids} == {"fixed"}
    assert len({solid.getBinDrawOrder() for solid in solids}) == len(solids)


@pytest.mark.parametrize("camera_height", [0, 1, 2])
def test_the_object_is_where_a_pinhole_camera_sees_the_tip_of_the_arm(renderer: Renderer, camera_height: int) -> None:
    slope = np.radians(list(scene.CAMERA_ELEVATIONS.values())[camera_height])
    backwards = np.array([0, -np.cos(slope), np.sin(slope)])  # from the target to the camera
    upwards = np.array([0, np.sin(slope), np.cos(slope)])
    focal = 32 / np.tan(np.radians(scene.FIELD_OF_VIEW / 2))  # pixels
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    for horizontal, vertical in [(0, 0), (39, 0), (20, 20), (5, 39), (33, 28)]:
        azimuth, elevation = np.radians(120 * horizontal / 39 - 60), np.radians(80 * vertical / 39 - 30)
        tip = np.array(scene.SHOULDER) + [
            np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)
        ]  # fmt: skip
        sight = tip - scene.CAMERA_TARGET
        depth = scene.CAMERA_DISTANCE - sight @ backwards
        expected = 32 + focal * sight[0] / depth, 32 - focal * (sight @ upwards) / depth
        seen = renderer.planes(Geometry(5, 0, camera_height, horizontal, vertical))[0] > 51  # half in darkest shade
        assert abs(columns[seen].mean() - expected[0]) < 0.4 and abs(rows[seen].mean() - expected[1]) < 0.4
        radius = focal * 0.95 * scene.SIZES["small"] / depth
        assert abs(seen[:, int(expected[0])].sum() - 2 * radius) < 1.5


def test_another_grid_is_rendered_once_into_the_data_folder(
    renderer: Renderer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rendered = load(tmp_path)
    assert rendered.grid.sizes == (6, 6, 2, 3, 3, 1, 1) and rendered.images.shape == (648, 64, 64, 3)
    folder = tmp_path / "mpi3d_sim"
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "mpi3d_sim_1x1_64.npy", "mpi3d_sim_1x1_64.npy.json"
    }  # fmt: skip
    (message,) = caplog.messages
    assert message.startswith("rendering mpi3d_sim at 1x1 positions: 648 images to ")
    for number in (0, 250, 647):
        colour, shape, size, camera, background, _, _ = rendered.grid.factors_of(torch.tensor(number)).tolist()
        thing, behind, arm = renderer.planes(Geometry(shape, size, camera, 20, 20)).astype(np.int64)[..., None]
        tones = list(scene.COLOURS.values())[colour], list(scene.BACKGROUNDS.values())[background], scene.ARM_COLOUR
        mixed = thing * tones[0] + behind * tones[1] + arm * tones[2]
        np.testing.assert_array_equal(rendered.images[number].numpy(), (2 * mixed + 255) // 510)
    caplog.clear()
    again = load(tmp_path)
    assert not caplog.messages and torch.equal(again.images, rendered.images)
    halves = load(tmp_path, image_size=32)
    means = rendered.images.numpy().reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_array_equal(halves.images.numpy(), np.floor(means + 0.5))


def test_rendered_images_of_another_version_or_shape_are_refused(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    path = tmp_path / "mpi3d_sim" / "mpi3d_sim_1x1_64.npy"
    with monkeypatch.context() as patch:
        patch.setattr(mpi3d_sim, "ARM", mpi3d_sim.ARM + 1)
        with pytest.raises(ExperimentError, match=r"1x1_64.npy was not rendered by this version .*move it away"):
            load(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    with pytest.raises(ExperimentError, match=r"mpi3d_sim_1x1_64.npy was altered: .*move it away"):
        load(tmp_path)
    np.save(path, np.zeros((648, 32, 32, 3), np.uint8))
    with pytest.raises(ExperimentError, match=r"holds images \(648, 32, 32, 3\), expected \(648, 64, 64, 3\)"):
        load(tmp_path)


def test_a_missing_renderer_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "panda3d", None)
    monkeypatch.setitem(sys.modules, "panda3d.core", None)
    with pytest.raises(ExperimentError, match=r"needs panda3d: pip install -e '.\[renderer\]'"):
        load(tmp_path)
    assert not list((tmp_path / "mpi3d_sim").glob("*.npy*"))
    default = mpi3d_sim.load(32, None, 8, tmp_path)
    assert default.grid.num_images == 41_472  # needs no renderer


def test_a_missing_system_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = SimpleNamespace(getGlobalPtr=lambda: SimpleNamespace(makePipe=lambda *_: None))
    core = SimpleNamespace(
        loadPrcFileData=lambda *_: None, GraphicsEngine=SimpleNamespace(getGlobalPtr=lambda: None),
        GraphicsPipeSelection=selection,
    )  # fmt: skip
    monkeypatch.setattr(renderer_module, "_panda3d", lambda: core)
    with pytest.raises(ExperimentError, match=r"needs the system library libX11.so.6 .*apt-get install libx11-6"):
        Renderer()
