"""The published images, on small files of the same format: found, mapped, unpacked, thinned, and refused when wrong."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.downloads import Download
from experiments.settings import ExperimentError
from experiments.weak_supervision.data import image_file, mpi3d
from experiments.weak_supervision.data import images as images_module
from experiments.weak_supervision.data.image_file import read_record
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.mpi3d import fault
from experiments.weak_supervision.data.sources import FACTORS

TODAY, OLDER = (FactorGrid(FACTORS, (levels, levels, 1, 1, 1, 2, 4)) for levels in (6, 4))


def random_images(grid: FactorGrid, side: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (grid.num_images, side, side, 3), np.uint8)


IMAGES = random_images(TODAY)


@pytest.fixture(autouse=True)
def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpi3d, "LAYOUTS", (TODAY, OLDER))
    monkeypatch.setattr(mpi3d, "BLOCK", 50)
    monkeypatch.setattr(mpi3d, "MIRRORS", ())


def load(folder: Path, source: str = "mpi3d_toy", levels: int | None = None, image_size: int = 64) -> FactorImages:
    return mpi3d.load(source, image_size, levels, 2, folder)


def full(loaded: FactorImages) -> NDArray[np.uint8]:
    return loaded.gather(torch.arange(loaded.grid.num_images)).numpy()


def kept(stored: NDArray[np.uint8], grid: FactorGrid = TODAY) -> NDArray[np.uint8]:
    """What two positions of each axis leave."""
    by_factor = stored.reshape(*grid.sizes, *stored.shape[1:])[:, :, :, :, :, :, 1::2]
    return by_factor.reshape(-1, *stored.shape[1:])


def save(path: Path, stored: NDArray[np.generic] = IMAGES, *, compressed: bool = False, key: str = "images") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **{key: stored})
    return path


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("folder", ["", "mpi3d", "mpi3d_toy"])
def test_an_uncompressed_archive_is_mapped_where_it_lies(tmp_path: Path, folder: str) -> None:
    path = save(tmp_path / folder / "mpi3d_toy.npz")
    loaded = load(tmp_path)
    assert (loaded.name, loaded.grid.sizes) == ("mpi3d_toy", (6, 6, 1, 1, 1, 2, 2))
    np.testing.assert_array_equal(full(loaded), kept(IMAGES))
    assert {file.name for file in path.parent.iterdir()} - {"mpi3d"} == {"mpi3d_toy.npz", "mpi3d_toy.npz.json"}
    assert loaded.images.untyped_storage().nbytes() == IMAGES.nbytes  # all images are there, and only as a map


def test_an_array_behind_other_entries_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mpi3d_real.npz", "w") as archive:
        archive.writestr("notes.txt", "x" * 1001)
        array = io.BytesIO()
        np.lib.format.write_array(array, IMAGES, version=(2, 0))
        archive.writestr("images.npy", array.getvalue())
        archive.writestr("labels.npy", b"")
    np.testing.assert_array_equal(full(load(tmp_path, "mpi3d_real")), kept(IMAGES))


@pytest.mark.parametrize("name", ["mpi3d_toy_64.npy", "mpi3d/mpi3d_toy_64.npy"])
def test_an_array_that_is_there_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    np.save(tmp_path / name, IMAGES)
    np.testing.assert_array_equal(full(load(tmp_path)), kept(IMAGES))


def test_a_compressed_archive_is_unpacked_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "mpi3d_toy.npz", compressed=True)
    caplog.set_level(logging.INFO)
    np.testing.assert_array_equal(full(load(tmp_path)), kept(IMAGES))
    np.testing.assert_array_equal(np.load(tmp_path / "mpi3d" / "mpi3d_toy_64.npy"), IMAGES)
    assert "unpacking mpi3d_toy.npz: 288 images" in caplog.text
    caplog.clear()
    load(tmp_path)
    assert not caplog.messages


def test_images_are_halved_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "_PART", 50)
    path = save(tmp_path / "mpi3d_toy.npz")
    loaded = load(tmp_path, image_size=32)
    halved = np.floor(IMAGES.reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4)) + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(full(loaded), kept(halved))
    assert {file.name for file in tmp_path.rglob("mpi3d_toy*")} == {path.name, f"{path.name}.json"}


def test_four_levels_of_todays_file(tmp_path: Path) -> None:
    save(tmp_path / "mpi3d_toy.npz")
    loaded = load(tmp_path, levels=4)
    assert loaded.grid.sizes == (4, 4, 1, 1, 1, 2, 2)
    by_factor = IMAGES.reshape(*TODAY.sizes, 64, 64, 3)[[1, 2, 3, 4]][:, [0, 1, 3, 5]][:, :, :, :, :, :, 1::2]
    np.testing.assert_array_equal(full(loaded), by_factor.reshape(-1, 64, 64, 3))
    assert loaded.images.shape[0] == TODAY.num_images  # no copy was made
    index = torch.tensor([3, 0, 3])
    np.testing.assert_array_equal(loaded.gather(index).numpy(), full(loaded)[[3, 0, 3]])


def test_an_older_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    stored = random_images(OLDER)
    save(tmp_path / "mpi3d_toy.npz", stored)
    for levels in (None, 4):
        loaded = load(tmp_path, levels=levels)
        assert loaded.grid.sizes == (4, 4, 1, 1, 1, 2, 2)
        np.testing.assert_array_equal(full(loaded), kept(stored, OLDER))
    with pytest.raises(ExperimentError, match=r"levels=6, but mpi3d_toy in .* is the older file of 4 colours"):
        load(tmp_path, levels=6)


def reading_is_stated(caplog: pytest.LogCaptureFixture) -> bool:
    return any("reading it once, to check it" in message for message in caplog.messages)


def test_a_file_is_read_whole_once_and_again_after_a_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "mpi3d_toy.npz")
    caplog.set_level(logging.INFO)
    for expected in (True, False):
        caplog.clear()
        load(tmp_path)
        assert reading_is_stated(caplog) is expected
    flip(path, 100_000)
    with pytest.raises(ExperimentError, match=r"mpi3d_toy.npz was altered: its checksum is .*; move it away"):
        load(tmp_path)
    flip(path, 100_000)
    caplog.clear()
    load(tmp_path)
    assert reading_is_stated(caplog)


def test_an_unpacked_file_that_was_altered_or_made_from_another_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "mpi3d_toy.npz", random_images(OLDER), compressed=True)
    load(tmp_path)
    flip(tmp_path / "mpi3d" / "mpi3d_toy_64.npy", 70_000)
    with pytest.raises(ExperimentError, match=r"mpi3d_toy_64.npy was altered: its checksum is .*move it"):
        load(tmp_path)
    save(tmp_path / "mpi3d_toy.npz", compressed=True)
    with pytest.raises(ExperimentError, match=r"mpi3d_toy_64.npy was made from mpi3d_toy.npz \w{8}, not .*move it"):
        load(tmp_path)


def test_a_folder_that_cannot_be_written_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "mpi3d_toy.npz")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(image_file, "write_atomically", refuse)
    np.testing.assert_array_equal(full(load(tmp_path)), kept(IMAGES))
    assert "no note can be left beside it (Permission denied): it is read again next time" in caplog.text


def cut(path: Path) -> None:
    save(path)
    path.write_bytes(path.read_bytes()[:-200_000])


def replaced(path: Path) -> None:
    path.write_text("<html>please log in</html>")


def altered(path: Path, compressed: bool) -> None:
    flip(save(path, compressed=compressed), 100_000)


def other_checksum(path: Path) -> None:
    """The packed bytes are right, the archive's word for their checksum is another."""
    content = save(path, compressed=True).read_bytes()
    with zipfile.ZipFile(path) as archive:
        checksum = archive.getinfo("images.npy").CRC
    path.write_bytes(content.replace(checksum.to_bytes(4, "little"), (checksum ^ 1).to_bytes(4, "little")))


def packed_otherwise(path: Path) -> None:
    array = io.BytesIO()
    np.save(array, IMAGES)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("images.npy", array.getvalue())


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "is truncated or no .npz file"),
    "empty": (lambda path: path.touch(), "is truncated or no .npz file"),
    "a page": (replaced, "is truncated or no .npz file"),
    "altered": (lambda path: altered(path, False), "was altered: its checksum is"),
    "altered, compressed": (lambda path: altered(path, True), "was altered or damaged"),
    "other checksum, compressed": (other_checksum, "was altered or damaged"),
    "other packing": (packed_otherwise, "is compressed in another way"),
    "other key": (lambda path: save(path, key="data"), "has no array 'images', but data.npy"),
    "other type": (lambda path: save(path, IMAGES[:4].astype(np.float32)), "holds an array of float32, expected uint8"),
    "columns": (lambda path: save(path, np.asfortranarray(IMAGES)), "holds an array of uint8 in column order"),
    "other number": (lambda path: save(path, IMAGES[:-1]), r"holds images \(287, 64, 64, 3\), expected \(288, 64"),
    "other side": (lambda path: save(path, random_images(TODAY, 32)), r"holds images \(288, 32, 32, 3\), expected"),
    "grey": (lambda path: save(path, IMAGES[..., 0], compressed=True), r"holds images \(288, 64, 64\), expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    make, message = WRONG[case]
    make(tmp_path / "mpi3d_toy.npz")
    before = (tmp_path / "mpi3d_toy.npz").read_bytes()
    for _ in range(2):  # the first refusal leaves nothing behind that a second call would use
        with pytest.raises(ExperimentError, match=rf"/mpi3d_toy.npz {message}.*; move it away"):
            load(tmp_path)
    assert (tmp_path / "mpi3d_toy.npz").read_bytes() == before
    assert not list(tmp_path.glob("mpi3d/*.npy")) and not list(tmp_path.glob("mpi3d/*.part*"))


@pytest.mark.parametrize("length, message", [(-1, "is truncated: "), (40, "is truncated or holds no array")])
def test_a_truncated_array_is_refused_by_name(tmp_path: Path, length: int, message: str) -> None:
    path = tmp_path / "mpi3d_toy_64.npy"
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ExperimentError, match=rf"mpi3d_toy_64.npy {message}.*; move it away"):
        load(tmp_path)
    np.save(path, IMAGES)
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExperimentError, match="mpi3d_toy_64.npy is longer than its array: "):
        load(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_missing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool) -> None:
    def download(files: list[Download], directory: Path, *, title: str, alternative: str) -> None:
        (file,) = files
        assert (file.name, title) == ("mpi3d_realistic.npz", "mpi3d_realistic") and "mpi3d_sim" in alternative
        save(directory / file.name, compressed=compressed)
        assert fault(directory / file.name) is None and file.fault is fault

    monkeypatch.setattr(mpi3d, "download", download)
    np.testing.assert_array_equal(full(load(tmp_path, "mpi3d_realistic")), kept(IMAGES))


@pytest.mark.parametrize("case", ["cut", "altered", "altered, compressed", "other key", "other number", "a page"])
def test_a_wrong_file_of_a_mirror_is_noticed(tmp_path: Path, case: str) -> None:
    WRONG[case][0](tmp_path / "mpi3d_toy.npz")
    assert str(fault(tmp_path / "mpi3d_toy.npz")).startswith("it ")


def test_no_network_is_one_line_with_two_ways_on(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"mpi3d_toy can't be downloaded: no mirror gave mpi3d_toy.npz (). Put the file into {tmp_path / 'mpi3d'} by "
        "hand, or take the data mpi3d_sim, which need no download"
    )


def test_images_that_do_not_fit_their_grid_are_refused() -> None:
    stored = torch.from_numpy(IMAGES)
    for wrong in (stored[:-1], stored.float(), stored[..., 0]):
        with pytest.raises(ValueError, match="need 288 images of uint8"):
            FactorImages("mpi3d_toy", TODAY, wrong)
    with pytest.raises(ValueError, match="need 128 images"):
        FactorImages("mpi3d_toy", OLDER, stored, torch.arange(127))


def test_a_given_array_without_a_note_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "mpi3d_toy_64.npy"
    np.save(path, IMAGES)
    load(tmp_path)
    record = read_record(path)
    assert record is not None and record.origin == "given"
    flip(path, 100_000)
    with pytest.raises(ExperimentError, match="mpi3d_toy_64.npy was altered"):
        load(tmp_path)


def test_a_damaged_header_is_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    whole = path.read_bytes()
    for place in range(128):
        for byte in b"\0'({x\xff":
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                assert image_file.inspect(path).shape == (4, 8, 8, 3)  # a space that is another one
            except ExperimentError as error:
                assert "images.npy" in str(error)


@pytest.mark.parametrize("note", ["[]", "3", '{"origin": "given", "size": 1, "mtime_ns": 1, "crc32": "zz"}', "\0\0"])
def test_a_note_that_says_nothing_is_none(note: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    image_file.record_of(path).write_text(note)
    assert image_file.verify(path, image_file.inspect(path)).origin == image_file.GIVEN
