"""A full disk and a folder that becomes read-only, at any write: one line, nothing half-written, and it goes on."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.clustering.pretraining.cache import cached
from experiments.figures import plt, save
from experiments.run import execute
from experiments.settings import ExperimentError
from experiments.store import CODE, RunDirectory
from scripts import aggregate
from tests.experiments.helpers import KS, cell, csv_bytes, launch
from tests.experiments.test_aggregate import begin, finish

# What changes a folder, by Python's audit events; "open" only to write.
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
_watching: list[Callable[[str], None]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching or event not in EVENTS or isinstance(arguments[0], int):
        return
    if event == "open" and not _writes(*arguments[1:3]):
        return
    _watching[-1](os.fsdecode(arguments[1 if event == "os.rename" else 0]))


def _writes(mode: str | None, flags: int) -> bool:
    return bool(set(mode or "") & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR))


sys.addaudithook(_audit)


@contextmanager
def failing(folder: Path, number: int, code: int, lasts: bool) -> Iterator[list[str]]:
    """Lets a write below a folder fail.

    Args:
        folder: The folder.
        number: Which write, counted from 0.
        code: Of the error.
        lasts: Whether all later ones fail, too: a file system that became read-only.

    Yields:
        The paths of the writes that failed.
    """
    count, failed = 0, []

    def write(path: str) -> None:
        nonlocal count
        if not path.startswith(str(folder)):
            return
        count += 1
        if count - 1 == number or (lasts and count > number):
            failed.append(path)
            raise OSError(code, os.strerror(code), path)

    _watching.append(write)
    try:
        yield failed
    finally:
        _watching.pop()


def half_written(run: RunDirectory, removable: bool) -> list[str]:
    """Parts of files, and tables of a run that isn't finished; unfinished hidden files, where they can be removed."""
    names = [path.name for path in run.path.rglob("*") if path.is_file() and path.parent.name != ".next"]
    whole = {CODE} if run.finished() is None else set(names)  # which may be there
    tables = [name for name in names if name.endswith((".csv", ".json")) and name not in whole]
    return tables + [name for name in names if removable and name.startswith(".") and name != ".lock"]


FULL, READ_ONLY = (errno.ENOSPC, False, 1), (errno.EROFS, True, 3)


@pytest.mark.parametrize(("code", "lasts", "step"), [FULL, READ_ONLY], ids=["full", "read_only"])
def test_a_write_of_a_run_that_fails_is_one_line_and_the_same_command_goes_on(
    code: int, lasts: bool, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cell(KS, "profile=smoke", "logger=disabled", "experiment.max_settings=1", "experiment.draws=500")
    placed = dataclasses.replace(one, run=RunDirectory(tmp_path / "alone", one.row.folder, "1"))
    alone = csv_bytes(execute(placed))
    for number in range(0, 200, step):
        results, reason = tmp_path / str(number), None
        (results / "tmp").mkdir(parents=True)
        monkeypatch.setattr("tempfile.tempdir", str(results / "tmp"))  # where checkpoints begin
        run = RunDirectory(results, one.row.folder, "1")
        with failing(results, number, code, lasts) as failed:
            try:
                execute(dataclasses.replace(one, run=run))
            except ExperimentError as error:
                reason = str(error)
        if not failed:
            break
        assert reason is None or (os.strerror(code) in reason and "\n" not in reason), (number, failed)
        assert reason is None or not half_written(run, removable=not lasts), (number, failed)
        assert csv_bytes(execute(dataclasses.replace(one, run=run))) == alone, (number, failed)
    assert 30 < number < 199
    assert reason is None


def test_a_write_of_the_collected_tables_that_fails_leaves_the_old_ones(tmp_path: Path) -> None:
    finish(tmp_path, "one", 1)
    arguments = ["--results", str(tmp_path), "--output", str(tmp_path / "metrics")]
    aggregate.main(arguments)
    old = {path.name: path.read_bytes() for path in (tmp_path / "metrics").glob("*.csv")}
    finish(tmp_path, "two", 2)
    begin(tmp_path, "three", "medium", 3)
    for number in range(50):
        with failing(tmp_path / "metrics", number, *READ_ONLY[:2]) as failed:
            if number == 0:
                with pytest.raises(SystemExit, match="error: .*metrics.*: Read-only file system"):
                    aggregate.main(arguments)
                assert {path.name: path.read_bytes() for path in (tmp_path / "metrics").glob("*.csv")} == old
            else:
                with suppress(SystemExit):
                    aggregate.main(arguments)
        if not failed:
            break
        for path in (tmp_path / "metrics").glob("*.csv"):
            assert pd.read_csv(path).shape[0] in (1, 2, 4), path  # of one run, or of both
    assert number > 4
    assert pd.read_csv(tmp_path / "metrics" / "clustering_metrics.csv")["seed"].tolist() == [1, 2]


def test_a_write_of_a_figure_or_of_the_cache_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    figure = plt.figure(figsize=(1, 1))
    with failing(tmp_path, 1, *FULL[:2]), pytest.raises(OSError, match="No space left"):
        save(figure, tmp_path, "figure")
    for number in range(20):
        with failing(tmp_path, number, *FULL[:2]) as failed:
            if number == 0:
                with pytest.raises(ExperimentError, match="can't be used: No space left"):
                    cached(tmp_path / "cache", "key", dict)
            else:
                with suppress(ExperimentError):
                    cached(tmp_path / "cache", "key", dict)
        if not failed:
            break
        assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"key.lock", "key.pt"}
    assert number > 2
    assert cached(tmp_path / "cache", "key", dict) == {}


def test_a_checkpoint_is_written_within_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # From the system's temporary folder, on another file system, a move is a copy, which an interrupt cuts off.
    monkeypatch.delattr(tempfile, "mkstemp")
    run = launch("weak_supervision method=ada_vae shared=3", tmp_path / "results")
    assert run.finished() is not None
