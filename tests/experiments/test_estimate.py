"""The time that is left of a multirun."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.launching.estimate import committed_seconds, in_words, seconds_left, weights


def test_a_row_takes_the_median_of_its_seeds_however_many_lines_a_seed_has(tmp_path: Path) -> None:
    lines = ["row,profile,seed,seconds", "a/b,quick,0,10", "a/b,quick,0,10", "a/b,quick,0,10", "a/b,quick,1,20"]
    (tmp_path / "a_metrics.csv").write_text("\n".join([*lines, "a/b,quick,2,90", "a/b,medium,0,300"]) + "\n")
    (tmp_path / "study.csv").write_text("row,profile\na/b,quick\n")
    assert committed_seconds(tmp_path) == {("a/b", "quick"): 20.0, ("a/b", "medium"): 300.0}


def test_the_committed_results_say_what_the_rows_take() -> None:
    known = committed_seconds()
    assert known["urn/exact", "paper"] == 53.3
    assert weights([("urn/exact", "quick")], known) == [53.3]


def test_what_is_not_known_weighs_as_the_others_do() -> None:
    known = {("a", "quick"): 10.0, ("b", "quick"): 30.0, ("c", "paper"): 500.0}
    cells = [("a", "quick"), ("b", "quick"), ("c", "quick"), ("new", "quick")]
    assert weights(cells, known) == [10.0, 30.0, 500.0, 30.0]
    assert weights([("new", "quick")], known) == [1.0]


def test_smoke_runs_weigh_the_same() -> None:
    known = {("a", "quick"): 10.0, ("b", "quick"): 3000.0}
    assert len(set(weights([("a", "smoke"), ("b", "smoke")], known))) == 1


def test_the_time_left_starts_at_the_committed_rate_and_follows_its_own() -> None:
    assert seconds_left(done=0.0, running=20.0, left=100.0, elapsed=0.0, processes=2) == 50.0
    assert seconds_left(done=10_000.0, running=0.0, left=100.0, elapsed=40_000.0) == pytest.approx(400.0, rel=0.02)
    early, late = (seconds_left(done, 0.0, 100.0, 4 * done) for done in (10.0, 1000.0))
    assert 100 < early < late < 400


def test_the_time_left_falls_while_the_first_cells_run_as_they_should_and_rises_when_they_do_not() -> None:
    lefts = [seconds_left(done=0.0, running=400.0, left=3200.0, elapsed=float(t), processes=2) for t in (0, 70, 140)]
    assert lefts == pytest.approx([1600, 1530, 1460])
    assert seconds_left(done=0.0, running=400.0, left=3200.0, elapsed=600.0, processes=2) > 2 * lefts[-1]
    hours = 36_000.0  # of a single cell that was thought to take minutes
    assert seconds_left(done=0.0, running=300.0, left=300.0, elapsed=hours) > 0.2 * hours


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "10 seconds"), (44, "40 seconds"), (89, "90 seconds"), (540, "9 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
