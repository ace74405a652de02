"""The tables of the two studies, and the cache that their pretrainings come from."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from experiments.clustering.blobs import bayes_accuracies
from experiments.clustering.pretraining.cache import cached, key_of
from experiments.clustering.studies import control_tables, study_tables
from experiments.settings import ExperimentError
from experiments.tables import Table
from tests.experiments.clustering_metrics import write_block


def cells(table: Table) -> list[list[str]]:
    return [list(row) for row in table.rows]


def test_changed_settings_stand_beside_the_own_ones_of_the_same_seeds(tmp_path: Path) -> None:
    write_block(tmp_path, seeds=[0, 1, 2], priors=["uniform", "categorical"], versions=["60"])
    path = tmp_path / "clustering_metrics.csv"
    table = pd.read_csv(path, dtype={"version": str})
    changed = table[(table["prior"] == "uniform") & (table["seed"] < 2)]
    trained = changed["stage"] == "vade"
    changed = changed.assign(changes="training.kl_weight=5", run_id=changed["run_id"] + "-changed")
    changed["accuracy"] -= 0.1 * trained
    pd.concat([table, changed]).to_csv(path, index=False)
    (made,) = study_tables(tmp_path)
    assert made.title == "Settings changed, profile quick, 5,000-digit subset, test split"
    start, terms = "75.5 ± 0.7 (75.0 76.0)", ["-90.0 ± 0.0", "-80.0 ± 0.0", "-12.0 ± 0.0", "0.500 ± 0.000"]
    assert cells(made) == [
        ["vade, uniform, 60", "nothing", "0, 1", start, "85.5 ± 0.7 (85.0 86.0)", *terms],
        ["vade, uniform, 60", "training.kl_weight=5", "0, 1", start, "75.5 ± 0.7 (75.0 76.0)", *terms],
    ]


def test_the_control_shows_what_sizes_are_worth_and_what_was_gained(tmp_path: Path) -> None:
    """A changed run is compared with the uniform prior's of the same changes, or else with its own; never with both."""
    write_block(tmp_path, data="blobs", seeds=[0, 1, 2], priors=["uniform", "hypergeometric"], versions=["60"])
    for name in ("metrics", "weights"):
        table = pd.read_csv(tmp_path / f"clustering_{name}.csv", dtype={"version": str})
        table = table.rename(columns={"recipe": "overlap"}).assign(overlap=2)
        first = table[table["seed"] == 0]
        longer = first.assign(changes="data.subsampled_classes=[0]", run_id=first["run_id"] + "-l")
        longer.loc[longer["prior"] == "uniform", "seed"] = 1
        faster = first[first["prior"] != "uniform"].assign(changes="faster", run_id=first["run_id"] + "-f")
        if name == "metrics":
            table.loc[(table["split"] == "test") & (table["prior"] == "uniform"), "accuracy"] -= 0.01
            faster["accuracy"] -= 0.05
        pd.concat([table, longer, faster]).to_csv(tmp_path / f"clustering_control_{name}.csv", index=False)
    (made,) = control_tables(tmp_path)
    found = {row[2]: list(row) for row in made.rows}
    hypergeometric, uniform = found["hypergeometric"], found["uniform"]
    assert hypergeometric[0] == uniform[0] == "2 %, 60"
    assert 0.05 < float(uniform[1].split(", +")[1]) < 0.5
    assert hypergeometric[3:7] == ["88.0 ± 1.0", "+3.00 ± 0.00", "89.0 ± 1.0", "+4.00 ± 0.00"]
    assert hypergeometric[8] == "3"
    assert uniform[3:] == ["85.0 ± 1.0", "-", "85.0 ± 1.0", "-", "-", "3"]
    one_cut = found["hypergeometric; data.subsampled_classes=[0]"]
    assert one_cut[4] == "-"  # the uniform prior with these changes has another seed
    knowing, equal = (100 * one for one in bayes_accuracies(0.02, [0.6] + [1.0] * 9))
    assert one_cut[1] == f"{knowing:.1f}, {knowing - equal:+.1f}" != uniform[1]
    assert found["hypergeometric; faster"][4] == "-2.00"


def test_there_is_no_table_without_a_run(tmp_path: Path) -> None:
    assert study_tables(tmp_path) == control_tables(tmp_path) == []


def test_who_wants_what_is_in_the_making_waits_and_does_not_make_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two threads with a lock of their own each; the first one is held within its work until the second one waits."""
    caplog.set_level(logging.INFO, "experiments")
    made: list[str] = []
    found: dict[str, Any] = {}
    working, released = threading.Event(), threading.Event()

    def make() -> dict[str, Any]:
        made.append("made")
        working.set()
        assert released.wait(30)
        return {"weights": torch.ones(2), "loss": 1.5}

    def want(name: str) -> None:
        found[name] = cached(tmp_path / "cache", key_of({"seed": 0}), make)

    threads = [threading.Thread(target=want, args=[name], daemon=True) for name in ("first", "second")]
    threads[0].start()
    assert working.wait(30)
    threads[1].start()
    deadline = time.monotonic() + 30
    while not any("waiting for it" in message for message in caplog.messages) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum("another process is making this pretraining" in message for message in caplog.messages) == 1
    assert not found
    released.set()
    for thread in threads:
        thread.join(30)
    assert made == ["made"]
    assert found["first"]["loss"] == found["second"]["loss"] == 1.5
    assert torch.equal(found["first"]["weights"], found["second"]["weights"])


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ExperimentError, match=r"the cache .*cache can't be used: "):
        cached(tmp_path / "cache", "key", dict)
