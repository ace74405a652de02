"""The tables of the two studies, and the cache that their pretrainings come from."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from experiments.clustering.pretraining.cache import cached, key_of
from experiments.clustering.studies import pretraining_tables, recipe_tables
from experiments.settings import ExperimentError
from experiments.tables import Table
from tests.experiments.clustering_metrics import RUN, tables_of


def write_study(folder: Path, name: str, lines: Iterable[dict[str, Any]]) -> None:
    table = pd.DataFrame(lines)
    table["run_id"] = table["recipe"] + table["changes"] + table["seed"].astype(str)
    table.assign(**RUN, seconds=5.0).to_csv(folder / f"{name}_metrics.csv", index=False)


def origin(recipe: str, profile: str, data: str, seed: int) -> dict[str, Any]:
    name, _, changes = recipe.partition(" ")
    return {"recipe": name, "changes": changes, "profile": profile, "data": data, "seed": seed}


def cells(table: Table) -> dict[str, list[str]]:
    return {row[0]: list(row[1:]) for row in table.rows}


def pretraining_lines(
    recipe: str, profile: str, data: str, seeds: Iterable[int], accuracy: float
) -> list[dict[str, Any]]:
    lines = []
    for seed in seeds:
        facts = origin(recipe, profile, data, seed)
        facts |= {"reconstruction_loss": 80 + (seed - 100), "log_likelihood": -7.25}
        value = accuracy + 0.01 * (seed - 100)
        scores = {("found", "train"): value, ("start", "test"): value - 0.1, ("start", "train"): 0.99}
        scores |= {("start", "test_subsampled"): 0.98}
        for (stage, split), one in scores.items():
            lines.append({**facts, "stage": stage, "split": split, "accuracy": one, "nmi": one - 0.05})
    return lines


def test_the_study_of_the_pretraining_shows_every_row_and_seed_by_profile_and_data(tmp_path: Path) -> None:
    lines = pretraining_lines("bare pretraining.batch_size=64", "quick", "digits_5000", [101, 100], 0.5)
    lines += pretraining_lines("whole", "quick", "digits_5000", [100, 101], 0.8)
    lines += pretraining_lines("moved", "medium", "mnist", [100], 0.9)
    lines += pretraining_lines("paper", "quick", "mnist", [100], 0.7)
    write_study(tmp_path, "clustering_pretraining", lines)
    tables = pretraining_tables(tmp_path)
    assert [table.title for table in tables] == [
        "Pretraining, profile medium, MNIST, seed 100",
        "Pretraining, profile quick, MNIST, seed 100",
        "Pretraining, profile quick, 5,000-digit subset, seeds 100, 101",
    ]
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)
    assert list(cells(tables[2])) == ["whole", "bare pretraining.batch_size=64"], "the whole first, then by name"
    # Mean and standard deviation of two values one point apart; scores of the right stage and split.
    assert cells(tables[2])["bare pretraining.batch_size=64"] == [
        "50.5 ± 0.7 (50.0 51.0)",
        "45.5 ± 0.7",
        "40.5 ± 0.7 (40.0 41.0)",
        "80.5 ± 0.7",
        "-7.25 ± 0.00",
    ]
    assert cells(tables[2])["whole"][0] == "80.5 ± 0.7 (80.0 81.0)"
    assert cells(tables[0]) == {"moved": ["90.0 (90.0)", "85.0", "80.0 (80.0)", "80.0", "-7.25"]}


def recipe_lines(recipe: str, profile: str, data: str, seeds: Iterable[int], accuracy: float) -> list[dict[str, Any]]:
    lines = []
    for seed in seeds:
        accuracies = {"start": accuracy - 0.2, "vade": accuracy + 0.01 * (seed - 100)}
        table = tables_of("uniform", "full", seed, accuracies, 20)["metrics"]
        lines += table.assign(**origin(recipe, profile, data, seed)).to_dict("records")
    return lines


def test_the_study_of_the_recipe_shows_the_test_split_before_and_after(tmp_path: Path) -> None:
    lines = recipe_lines("no_guidance", "quick", "digits_5000", [100, 101], 0.7)
    lines += recipe_lines("whole", "quick", "digits_5000", [101, 100], 0.9)
    lines += recipe_lines("paper", "medium", "mnist", [100], 0.6)
    write_study(tmp_path, "clustering_recipe", lines)
    tables = recipe_tables(tmp_path)
    assert [table.title for table in tables] == [
        "Recipe, uniform prior, profile medium, MNIST, test split, seed 100",
        "Recipe, uniform prior, profile quick, 5,000-digit subset, test split, seeds 100, 101",
    ]
    assert list(cells(tables[1])) == ["whole", "no_guidance"]
    assert cells(tables[1])["whole"] == [
        "70.0 ± 0.0 (70.0 70.0)",
        "90.5 ± 0.7 (90.0 91.0)",
        "85.5 ± 0.7",
        "-90.0 ± 0.0",
    ]
    assert cells(tables[0]) == {"paper": ["40.0 (40.0)", "60.0 (60.0)", "55.0", "-90.0"]}


def test_without_studies_there_are_no_tables(tmp_path: Path) -> None:
    assert pretraining_tables(tmp_path) == recipe_tables(tmp_path) == []


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
    assert sum("another process makes this pretraining" in message for message in caplog.messages) == 1
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
