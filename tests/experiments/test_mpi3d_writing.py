"""Large arrays of images: never half used, written by one process at a time."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import image_writer
from experiments.weak_supervision.data.image_file import inspect, open_map, read_record, record_of, verify
from experiments.weak_supervision.data.image_writer import Plan, write_images

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 3), np.uint8)
PLAN = Plan("sampling", "sample 1", IMAGES.shape, seconds=2.3, memory=1e6)
STARTS = [15, 0, 20, 5, 10]  # in any order


def blocks(asked: list[int], fails_at: int | None = None) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Blocks of IMAGES, with a list of those that were asked for; fails where it is told to."""
    for start in STARTS:
        if start == fails_at:
            raise KeyboardInterrupt
        asked.append(start)
        yield start, IMAGES[start : start + 5]


def finish(path: Path) -> list[int]:
    asked: list[int] = []
    write_images(path, PLAN, blocks(asked))
    np.testing.assert_array_equal(np.load(path), IMAGES)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.json", f".{path.name}.lock"}
    return asked


def test_the_array_is_an_npy_file_whose_record_is_right_and_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "images.npy"
    assert finish(path) == STARTS
    layout, record = inspect(path), read_record(path)
    np.testing.assert_array_equal(open_map(path, layout), IMAGES)
    record_of(path).unlink()
    assert record is not None and record.origin == "sample 1"
    assert verify(path, layout)._replace(origin="sample 1") == record  # its checksum is that of the file
    assert not finish(path)


@pytest.mark.parametrize("fails_at", [5, None])  # None: while the record is written
def test_an_interruption_leaves_no_array_and_the_next_call_begins_again(
    fails_at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_writer, "write_record", interrupted)
        write_images(tmp_path / "images.npy", PLAN, blocks([], fails_at=fails_at))
    assert not (tmp_path / "images.npy").exists()
    assert finish(tmp_path / "images.npy") == STARTS


def test_several_processes_at_once_write_once(tmp_path: Path) -> None:
    asked: list[int] = []
    path = tmp_path / "images.npy"
    threads = [threading.Thread(target=write_images, args=(path, PLAN, blocks(asked))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.load(path), IMAGES)
    assert asked == STARTS


def test_time_disk_and_memory_are_stated_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    finish(tmp_path / "images.npy")
    path = tmp_path / "images.npy"
    assert caplog.messages == [f"sampling: 23 images to {path} (about 2 s, 1.1 kB on the disk, 1.0 MB of memory)"]


def test_a_full_disk_is_noticed_before_and_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1103)
    monkeypatch.setattr(image_writer.shutil, "disk_usage", lambda _: usage)
    asked: list[int] = []
    with pytest.raises(ExperimentError, match=r"sampling needs .*B in .* are free; make room, or name another data"):
        write_images(tmp_path / "images.npy", PLAN, blocks(asked))
    assert not asked and not (tmp_path / "images.npy").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"file/images.npy can't be written"):
        write_images(tmp_path / "file" / "images.npy", PLAN, blocks([]))
