"""The rendered stand-in: its planes are shipped whole, its colours are right, and every factor can be seen."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import one_hot

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import mpi3d_sim, scene
from experiments.weak_supervision.data.contact_sheet import contact_sheet, value_names
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.mpi3d_sim import PATH, SHAPE, compose, halve
from experiments.weak_supervision.data.solids import Mesh, box, frustum, sphere
from experiments.weak_supervision.data.sources import FACTORS

# Mean absolute difference of two images, in grey levels of 255 over all pixels and channels, that neighbouring values
# of a factor make at least, in every context; and on average over contexts. An object covers 2-10 % of an image.
SMALLEST = {
    "colour": (0.5, 1.5), "shape": (0.3, 2.0), "size": (0.6, 3.0), "camera_height": (3.0, 6.0),
    "background": (20.0, 25.0), "horizontal_axis": (0.4, 2.0), "vertical_axis": (0.3, 1.5),
}  # fmt: skip
# Share of images told right, by the better of two simple classifiers of pixels (linear regression on
# one-hot codes, nearest neighbour). Chance: 0.17, 0.17, 0.5, 0.33, 0.33,
# 0.125, 0.125.
ACCURACY = {
    "colour": 0.65, "shape": 0.3, "size": 0.75, "camera_height": 0.95, "background": 0.95, "horizontal_axis": 0.65,
    "vertical_axis": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def images() -> FactorImages:
    return load(32)


@pytest.fixture(scope="module")
def large() -> FactorImages:
    return load(64)


def load(image_size: int, levels: int | None = None) -> FactorImages:
    nowhere = Path("no folder is needed")
    return mpi3d_sim.load(image_size, levels, 8, nowhere)


def test_the_default_grid(images: FactorImages, large: FactorImages) -> None:
    assert (images.name, images.grid.sizes) == ("mpi3d_sim", (6, 6, 2, 3, 3, 8, 8))
    assert images.images.shape == (41_472, 32, 32, 3) and images.rows is None
    assert PATH.stat().st_size < 10 * 2**20
    assert large.images.shape == (41_472, 64, 64, 3)
    index = torch.randperm(41_472, generator=torch.Generator().manual_seed(0))[:500]
    means = large.gather(index).numpy().reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_array_equal(images.gather(index).numpy(), np.floor(means + 0.5))


def test_every_image_is_its_planes_in_its_colours(large: FactorImages) -> None:
    stored = mpi3d_sim.load_planes().astype(np.int64)
    generator = torch.Generator().manual_seed(1)
    for index in torch.randperm(large.grid.num_images, generator=generator)[:200]:
        colour, shape, size, camera, background, horizontal, vertical = large.grid.factors_of(index).tolist()
        thing, behind, arm = stored[shape, size, camera, horizontal, vertical][..., None]
        colours = list(scene.COLOURS.values())[colour], list(scene.BACKGROUNDS.values())[background], scene.ARM_COLOUR
        mixed = thing * colours[0] + behind * colours[1] + arm * colours[2]
        # 255 is odd: there are no halves to round.
        np.testing.assert_array_equal(large.images[index].numpy(), (2 * mixed + 255) // 510)


def test_colouring_and_halving_round_to_the_nearest() -> None:
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], (2, 64, 64))
    samples = np.floor(255 * shares).astype(np.uint8).transpose(0, 3, 1, 2)
    samples[0, :, 0, :3] = 255 * np.eye(3)  # the largest sums: one plane alone
    for colour, background in np.ndindex(6, 3):
        tones = list(scene.COLOURS.values())[colour], list(scene.BACKGROUNDS.values())[background], scene.ARM_COLOUR
        exact = np.einsum("npyx,pc->nyxc", samples.astype(float), np.array(tones, float)) / 255
        np.testing.assert_array_equal(compose(samples, colour, background), np.rint(exact))
    four = np.array(np.meshgrid(*[[0, 1, 2, 254, 255]] * 4), np.uint8).reshape(2, 2, -1)
    halved = halve(np.repeat(four.transpose(2, 0, 1)[..., None], 3, axis=-1))
    np.testing.assert_array_equal(halved[:, 0, 0, 2], np.floor(four.astype(float).mean(axis=(0, 1)) + 0.5))


@pytest.mark.parametrize("factor", FACTORS)
def test_neighbouring_values_of_a_factor_look_different(images: FactorImages, factor: str) -> None:
    grid, position = images.grid, FACTORS.index(factor)
    generator = torch.Generator().manual_seed(position)
    contexts = torch.stack([torch.randint(size, (100,), generator=generator) for size in grid.sizes], dim=1)
    smallest, average = SMALLEST[factor]
    for value in range(grid.sizes[position] - 1):
        pair = contexts.repeat(2, 1, 1)
        pair[0, :, position], pair[1, :, position] = value, value + 1
        first, second = (images.gather(grid.index_of(one)).float() for one in pair)
        difference = (first - second).abs().mean(dim=(1, 2, 3))
        assert difference.min() > smallest and difference.mean() > average


def test_pixels_tell_the_values_of_every_factor(images: FactorImages) -> None:
    # 1,000 test images: a standard error of at most 0.016, and every bound is at least 0.13 above chance.
    index = torch.randperm(images.grid.num_images, generator=torch.Generator().manual_seed(0))[:5000]
    pixels = images.gather(index).flatten(start_dim=1).numpy() / np.float32(255)
    values = images.grid.factors_of(index)
    codes = torch.cat([one_hot(values[:, factor]) for factor in range(len(FACTORS))], dim=1).numpy().astype(np.float32)
    linear = Ridge().fit(pixels[:4000], codes[:4000]).predict(pixels[4000:])
    nearest = codes[NearestNeighbors(n_neighbors=1).fit(pixels[:4000]).kneighbors(pixels[4000:])[1][:, 0]]
    edges = np.cumsum(images.grid.sizes)[:-1]
    for factor, scores in enumerate(zip(np.split(linear, edges, axis=1), np.split(nearest, edges, axis=1))):
        found = [(score.argmax(axis=1) == values[4000:, factor].numpy()).mean() for score in scores]
        assert max(found) > ACCURACY[FACTORS[factor]], FACTORS[factor]


def test_planes_share_each_pixel_and_show_every_object_whole() -> None:
    stored = mpi3d_sim.load_planes()
    assert stored.sum(axis=-3, dtype=np.uint16).max() <= 255  # what the colouring's 16 bits need
    thing = stored[..., 0, :, :]
    assert (thing > 0).sum(axis=(-2, -1)).min() >= 40  # of 4,096 pixels: 3 x 3 of 32x32 images
    edge = np.concatenate([thing[..., 0, :], thing[..., -1, :], thing[..., :, 0], thing[..., :, -1]], axis=-1)
    assert edge.sum(axis=-1).max() < 255 / 4  # at most a quarter of a pixel's worth is cut


def test_four_levels_are_those_of_the_older_mpi3d_files(images: FactorImages) -> None:
    four = load(32, levels=4)
    assert four.grid.sizes == (4, 4, 2, 3, 3, 8, 8)
    by_factor = images.images.unflatten(0, images.grid.sizes)[[1, 2, 3, 4]][:, [0, 1, 3, 5]]
    assert torch.equal(four.gather(torch.arange(four.grid.num_images)), by_factor.flatten(end_dim=6))
    assert [list(scene.COLOURS)[value] for value in (1, 2, 3, 4)] == ["green", "red", "blue", "brown"]
    assert [list(scene.SHAPES)[value] for value in (0, 1, 3, 5)] == ["cone", "cube", "hexagonal", "sphere"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered", "another"])
def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    path = tmp_path / "mpi3d_sim.npz"
    if damage == "truncated":
        path.write_bytes(PATH.read_bytes()[:-1000])
    elif damage == "altered":
        content = bytearray(PATH.read_bytes())
        content[500_000] ^= 1
        path.write_bytes(content)
    elif damage == "another":
        mpi3d_sim.save(np.zeros(SHAPE, np.uint8), path)
    monkeypatch.setattr(mpi3d_sim, "PATH", path)
    with pytest.raises(ExperimentError, match=r"mpi3d_sim.npz (is missing or damaged|was altered).*check it out again"):
        mpi3d_sim.load_planes()


def volume(mesh: Mesh) -> float:
    """Volume inside closed triangles by the divergence theorem; negative if they face inwards."""
    first, second, third = mesh.corners.astype(np.float64).transpose(1, 0, 2)
    return float(np.einsum("ij,ij->i", first, np.cross(second, third)).sum() / 6)


def polygon(sides: int) -> float:
    return sides / 2 * np.sin(2 * np.pi / sides)


@pytest.mark.parametrize(
    "mesh, expected",
    [
        (frustum(6, 1.2, 1.2, -0.5, 0.4, turn=10), polygon(6) * 1.2**2 * 0.9),
        (frustum(4, 1.5, 0.0, 0.0, 2.0), polygon(4) * 1.5**2 * 2 / 3),
        (frustum(32, 0.3, 0.2, 0.0, 1.5, smooth=True), polygon(32) * (0.09 + 0.06 + 0.04) * 1.5 / 3),
        (box((-0.1, -1.0, -0.2), (0.1, 0.0, 0.3)), 0.2 * 1.0 * 0.5),
    ],
)
def test_solids_are_closed_and_face_outwards(mesh: Mesh, expected: float) -> None:
    assert volume(mesh) == pytest.approx(expected, rel=1e-5)
    normals_of_faces = np.cross(mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0])
    assert (np.einsum("tci,ti->tc", mesh.normals, normals_of_faces) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, rtol=1e-5)


def test_the_sphere_is_a_sphere() -> None:
    mesh = sphere(0.7)
    np.testing.assert_allclose(np.linalg.norm(mesh.corners, axis=-1), 0.7, rtol=1e-5)
    np.testing.assert_allclose(mesh.normals, mesh.corners / 0.7, atol=1e-6)
    assert 0.98 < volume(mesh) / (4 / 3 * np.pi * 0.7**3) < 1


@pytest.mark.parametrize("sizes", [(6, 6, 2, 3, 3, 8, 8), (4, 4, 2, 3, 3, 40, 5)])
def test_the_contact_sheet_shows_each_factor_alone(sizes: tuple[int, ...]) -> None:
    grid = FactorGrid(FACTORS, sizes)
    numbers = torch.arange(grid.num_images)
    coded = torch.stack([numbers // 256**place % 256 for place in range(3)], dim=1).to(torch.uint8)
    figure = contact_sheet(FactorImages("mpi3d_toy", grid, coded[:, None, None].expand(-1, 2, 2, -1)))
    axes = np.array(figure.axes).reshape(-1, 8)
    for row, size in enumerate(sizes):
        drawn = [one for one in axes[row] if one.images]
        pixels = np.array([one.images[0].get_array()[0, 0] for one in drawn])
        factors = grid.factors_of(torch.from_numpy(pixels.astype(np.int64) @ 256 ** np.arange(3)))
        assert (factors != factors[:1]).any(dim=0).nonzero().flatten().tolist() == [row]
        shown = factors[:, row].tolist()
        assert shown == sorted(set(shown)) and len(shown) == min(size, 8) and shown[-1] == size - 1
        titles = [one.get_title() for one in drawn]
        assert titles == [value_names(grid)[row][value] for value in shown]
    assert value_names(grid)[0][-1] == ("olive" if sizes[0] == 6 else "brown")
    plt.close(figure)
