"""Large arrays of images: never half used, written by one process at a time."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import image_writer
from experiments.weak_supervision.data.image_file import inspect, open_map, read_record, record_of, verify
from experiments.weak_supervision.data.image_writer import Plan, write_images

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 3), np.uint8)
PLAN = Plan("sampling", "sample 1", IMAGES.shape, block=5, rate=10, memory=1e6)


class Maker:
    """Makes blocks of IMAGES, keeps a list of them, and fails when asked for a given one."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self.fails_at = fails_at

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        if start == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append((start, stop))
        return IMAGES[start:stop]


def finish(path: Path) -> Maker:
    make = Maker()
    write_images(path, PLAN, make)
    np.testing.assert_array_equal(np.load(path), IMAGES)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.json", f".{path.name}.lock"}
    return make


def test_the_array_is_an_npy_file_whose_record_is_right(tmp_path: Path) -> None:
    path = tmp_path / "new" / "images.npy"
    assert finish(path).asked == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]
    layout, record = inspect(path), read_record(path)
    np.testing.assert_array_equal(open_map(path, layout), IMAGES)
    record_of(path).unlink()
    assert record is not None and record.origin == "sample 1"
    assert verify(path, layout)._replace(origin="sample 1") == record  # its checksum is that of the file


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    finish(tmp_path / "images.npy")
    assert not finish(tmp_path / "images.npy").asked


def test_an_interruption_leaves_no_array_and_the_next_call_begins_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_images(tmp_path / "images.npy", PLAN, Maker(fails_at=10))
    assert not (tmp_path / "images.npy").exists()
    assert finish(tmp_path / "images.npy").asked[0] == (0, 5)


def test_several_processes_at_once_write_once(tmp_path: Path) -> None:
    make = Maker()
    threads = [threading.Thread(target=write_images, args=(tmp_path / "images.npy", PLAN, make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), IMAGES)
    assert len(make.asked) == 5


def test_time_disk_and_memory_are_stated_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    finish(tmp_path / "images.npy")
    path = tmp_path / "images.npy"
    assert caplog.messages == [f"sampling: 23 images to {path} (about 2 s, 1.1 kB on the disk, 1.0 MB of memory)"]


@pytest.mark.parametrize("later", [0, 10**18])
def test_a_full_disk_is_noticed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int) -> None:
    if not later:
        usage = shutil.disk_usage(tmp_path)._replace(free=1103)
        monkeypatch.setattr(image_writer.shutil, "disk_usage", lambda _: usage)
    plan = Plan("sampling", "sample 1", IMAGES.shape, 5, 10, 1e6, later)
    make = Maker()
    with pytest.raises(ExperimentError, match=r"sampling needs .*B in .* are free; make room, or name another data"):
        write_images(tmp_path / "images.npy", plan, make)
    assert not make.asked and not (tmp_path / "images.npy").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"file/images.npy can't be written"):
        write_images(tmp_path / "file" / "images.npy", PLAN, Maker())
