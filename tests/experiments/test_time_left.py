"""The time that is left of a multirun: by its own finished cells, and never less than a cell at work says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.store import TRAINED_AT, RunDirectory
from experiments.watched import Watched, in_words, seconds_left

MakeCell = Callable[..., Watched]


@pytest.fixture
def make_cell(tmp_path: Path) -> MakeCell:
    """Makes a cell that waits, that was begun some seconds ago and may say how many it needs, or that took some."""

    def make(begun: float | None = None, says: float | None = None, took: float | None = None) -> Watched:
        run = RunDirectory(tmp_path, "urn/estimator=exact", str(len(list(tmp_path.rglob("checkpoints")))))
        run.checkpoints.mkdir(parents=True)
        cell = Watched("urn", run)
        cell.started = None if begun is None else time.time() - begun
        if says is not None:
            (run.checkpoints / TRAINED_AT).write_text(str(time.time() + says))
        if took is not None:
            run.finish({}, {"seconds": took}, "seed: 0\n")
        return cell

    return make


def test_the_time_left_is_that_of_the_finished_cells(make_cell: MakeCell) -> None:
    waiting = [make_cell() for _ in range(10)]
    assert seconds_left(waiting, 10, 2) is None  # nothing is known
    done = [make_cell(200, took=100), make_cell(200, took=300)]
    assert seconds_left([*done, *waiting], 12, 2) == pytest.approx(1000)
    assert seconds_left([*done, *waiting], 22, 2) == pytest.approx(2000)  # of a search, the others are not known yet
    failed = make_cell(50)
    failed.reason = "diverged"
    assert seconds_left([*done, failed, *waiting], 13, 2) == pytest.approx(1000)
    begun = make_cell(150)
    assert seconds_left([*done, begun], 3, 2) == pytest.approx(50, abs=1)
    before = Watched("urn", done[0].run)
    assert before.finished and before.finished_before
    assert seconds_left([before, *waiting], 11, 2) is None  # which says nothing of this machine now


def test_the_time_left_is_never_shorter_than_a_running_cell_s_own_word(make_cell: MakeCell) -> None:
    cell = make_cell(says=5000)
    assert cell.needed == 0  # it waits: that is of an earlier try
    cell.started = time.time() + 10
    assert cell.needed == 0
    cell.started = time.time() - 10
    assert cell.needed == pytest.approx(5000, abs=5)
    others = [make_cell(20, took=1) for _ in range(20)]
    assert seconds_left([cell, *others], 30, 8) == pytest.approx(5000, abs=5)
    assert seconds_left([cell], 3, 1) == pytest.approx(5000 + 2 * 5010, abs=20)  # the others are like it
    assert cell.run is not None
    for content in ("soon", ""):
        (cell.run.checkpoints / TRAINED_AT).write_text(content)
        assert cell.needed == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "10 seconds"), (44, "40 seconds"), (89, "90 seconds"), (540, "9 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
