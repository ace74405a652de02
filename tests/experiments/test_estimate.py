"""The time that is left of a multirun."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

from experiments.estimate import METRICS, Kind, Work, committed_seconds, expected_seconds, in_words, seconds_left
from experiments.store import TRAINED_AT, RunDirectory
from experiments.watched import Watched

QUICK = Kind("urn", "urn estimator=exact", "quick")


def test_a_row_takes_the_median_of_its_runs_however_many_lines_a_run_has(tmp_path: Path) -> None:
    lines = ["estimator,changes,profile,seed,run_id,seconds", *3 * ["exact,,quick,0,a,10"], "exact,,quick,1,b,20"]
    lines += ["exact,,quick,2,c,90", "exact,,medium,0,d,300", "exact,steps=1,quick,0,e,5"]
    (tmp_path / "urn_metrics.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "study.csv").write_text("row,profile\na/b,quick\n")
    changed = Kind("urn", "urn estimator=exact steps=1", "quick")
    assert committed_seconds(tmp_path) == {QUICK: 20.0, QUICK._replace(profile="medium"): 300.0, changed: 5.0}


def test_the_committed_results_say_what_the_rows_take() -> None:
    lines = pd.read_csv(METRICS / "urn_metrics.csv")
    chosen = lines[(lines["estimator"] == "exact") & (lines["profile"] == "paper")]
    assert committed_seconds()[QUICK._replace(profile="paper")] == chosen.groupby("seed")["seconds"].first().median()


def test_what_is_not_known_takes_the_median_of_what_is_nearest() -> None:
    known = {
        Kind("urn", "urn estimator=exact", "quick"): 10.0,
        Kind("urn", "urn estimator=exact", "medium"): 50.0,
        Kind("urn", "urn estimator=merged", "quick"): 30.0,
        Kind("clustering", "clustering prior=uniform", "paper"): 500.0,
    }
    asked = {
        QUICK: 10.0,
        QUICK._replace(profile="paper"): 30.0,  # of the other profiles of the row
        Kind("urn", "urn estimator=new", "quick"): 20.0,  # of the experiment in this profile
        Kind("clustering", "clustering prior=new", "quick"): 500.0,  # of the experiment
        Kind("new", "new", "quick"): 20.0,  # of the other cells
        QUICK._replace(profile="smoke"): 5.0,
    }
    assert expected_seconds(list(asked), known) == list(asked.values())
    assert expected_seconds([Kind("new", "new", "quick")], known) == [1.0]


def test_the_time_left_starts_at_the_committed_rate_and_follows_its_own() -> None:
    assert seconds_left(10 * [Work(10.0)], processes=2) == 50.0
    slow = [Work(10_000.0, 40_000.0, finished=True), *10 * [Work(10.0)]]
    assert seconds_left(slow, processes=1) == pytest.approx(400.0, rel=0.02)
    early, late = (seconds_left([Work(s, 4 * s, finished=True), Work(100.0)], 1) for s in (10.0, 1000.0))
    assert 100 < early < late < 400


def test_the_time_left_falls_while_the_first_cells_run_as_they_should_and_rises_when_they_do_not() -> None:
    def left(elapsed: float) -> float:
        return seconds_left([*2 * [Work(200.0, elapsed)], *14 * [Work(200.0)]], processes=2)

    assert [left(0.0), left(70.0), left(140.0)] == pytest.approx([1600, 1530, 1460])
    assert left(600.0) > 2 * left(140.0)


@pytest.mark.parametrize("elapsed", [100.0, 1000.0, 36_000.0])
def test_the_time_left_is_never_shorter_than_what_the_longest_cell_still_needs(elapsed: float) -> None:
    others = [*50 * [Work(1.0, 1.0, finished=True)], *3 * [Work(1.0)]]
    alone = seconds_left([Work(300.0, elapsed)], processes=8)
    assert seconds_left([Work(300.0, elapsed), *others], processes=8) >= 0.9 * alone
    assert alone >= max(200.0 if elapsed < 200 else 0.0, 0.4 * elapsed)
    assert seconds_left([*others, Work(500.0)], processes=8) >= 500.0  # one that waits, too


def test_the_time_left_is_never_shorter_than_a_running_cell_s_own_word(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, "urn/estimator=exact", "1")
    run.checkpoints.mkdir(parents=True)
    said = run.checkpoints / TRAINED_AT
    said.write_text(str(time.time() + 5000))
    begun = Watched("urn", QUICK, run)
    assert begun.needed == 0  # it waits: that is of an earlier try
    begun.started = time.time() + 10
    assert begun.needed == 0
    begun.started = time.time() - 10
    assert begun.needed == pytest.approx(5000, abs=5)
    assert seconds_left([Work(100.0, 10.0, needed=5000.0), *20 * [Work(1.0)]], 8) == 5000.0
    for content in ("soon", ""):
        said.write_text(content)
        assert begun.needed == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "10 seconds"), (44, "40 seconds"), (89, "90 seconds"), (540, "9 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"seconds,run_id\nx,y\n", b"\xff\xfe", b"seconds,changes\nmany,\n"])
def test_a_broken_table_costs_the_estimate_and_no_more(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "urn_metrics.csv").write_bytes(content)
    assert committed_seconds(tmp_path) == {}
