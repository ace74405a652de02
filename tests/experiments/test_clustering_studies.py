"""What stands around a training: tables of the studies, run ids, the time said beforehand, kept models, the cache."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.clustering.blocks import read_blocks
from experiments.clustering.corruption import Corruption
from experiments.clustering.data import ClusteringData, Splits
from experiments.clustering.embedding_mixture import EmbeddingMixture
from experiments.clustering.guided_training import GuidedTraining
from experiments.clustering.pretraining import Pretrained, Pretraining
from experiments.clustering.priors import HypergeometricPrior, UniformPrior
from experiments.clustering.scores import confusion, score
from experiments.clustering.study_tables import pretraining_tables, recipe_tables
from experiments.clustering.tables import table_2
from experiments.clustering.training import assign_all
from experiments.clustering.vade import VaDE
from experiments.common import progress
from experiments.common.configuration import check_overrides, resolve, run_id
from experiments.common.context import RunContext
from experiments.common.paper import read_paper
from experiments.common.progress import RateEstimate
from experiments.common.store import RunDirectory
from experiments.common.tables import Table
from experiments.common.tracking import Tracker
from scripts import aggregate, tables_clustering
from tests.experiments.clustering_metrics import RUN, tables_of
from tests.experiments.clustering_reference import make_vade
from tests.experiments.helpers import compose, launch

FAST = ("experiment.pretraining.manifold=null",)
ROW = "clustering/uniform_60"

# Tables of the studies.


def write_study(folder: Path, room: str, lines: Iterable[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(lines)
    table["run_id"] = table["row"] + table["seed"].astype(str)
    table.assign(**RUN, seconds=5.0).to_csv(folder / f"{room}_metrics.csv", index=False)


def pretraining_lines(row: str, profile: str, data: str, seeds: Iterable[int], accuracy: float) -> list[dict[str, Any]]:
    lines = []
    for seed in seeds:
        facts = {"row": f"clustering_pretraining/{row}", "profile": profile, "data": data, "seed": seed}
        facts |= {"version": "full", "reconstruction_loss": 80 + (seed - 100), "log_likelihood": -7.25}
        value = accuracy + 0.01 * (seed - 100)
        scores = {("found", "train"): value, ("start", "test"): value - 0.1, ("start", "train"): 0.99}
        scores |= {("start", "test_subsampled"): 0.98}
        for (stage, split), one in scores.items():
            lines.append({**facts, "stage": stage, "split": split, "accuracy": one, "nmi": one - 0.05})
    return lines


def cells(table: Table) -> dict[str, list[str]]:
    return {row[0]: list(row[1:]) for row in table.rows}


def test_the_study_of_the_pretraining_shows_every_row_and_seed_by_profile_and_data(tmp_path: Path) -> None:
    lines = pretraining_lines("bare", "quick", "digits_5000", [101, 100], 0.5)  # the seeds come in order
    lines += pretraining_lines("default", "quick", "digits_5000", [100, 101], 0.8)
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
    assert list(cells(tables[2])) == ["default", "bare"], "the default first, then by name"
    # Mean and standard deviation of two values one point apart; scores of the right stage and split.
    assert cells(tables[2])["bare"] == [
        "50.5 ± 0.7 (50.0 51.0)",
        "45.5 ± 0.7",
        "40.5 ± 0.7 (40.0 41.0)",
        "80.5 ± 0.7",
        "-7.25 ± 0.00",
    ]
    assert cells(tables[2])["default"][0] == "80.5 ± 0.7 (80.0 81.0)"
    assert cells(tables[0]) == {"moved": ["90.0 (90.0)", "85.0", "80.0 (80.0)", "80.0", "-7.25"]}


def recipe_lines(row: str, profile: str, data: str, seeds: Iterable[int], accuracy: float) -> list[dict[str, Any]]:
    lines = []
    for seed in seeds:
        accuracies = {"start": accuracy - 0.2, "vade": accuracy + 0.01 * (seed - 100)}
        table = tables_of("uniform", "full", seed, data, accuracies, 20)["metrics"]
        origin = {"row": f"clustering_recipe/{row}", "profile": profile, "seed": seed}
        lines += table.assign(**origin).to_dict("records")
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


def finish(results: Path, row: str, seed: int, tables: dict[str, pd.DataFrame]) -> None:
    """A finished run as the entry point leaves it."""
    facts: dict[str, Any] = {"commit": "a" * 40, "dirty": False, "device": "b", "seconds": 5.0, "resumed": False}
    facts |= {"overrides": [], "packages": {"torch": "2"}}
    config = f"profile: {{name: quick}}\nseed: {seed}\nexperiment: {{data: {{source: digits_5000}}}}\n"
    run = RunDirectory(results, row, f"{row.replace('/', '-')}-{seed}")
    run.path.mkdir(parents=True)
    run.finish(tables, facts, config)


def test_seeds_of_the_studies_do_not_enter_table_2_nor_those_of_table_2_the_studies(tmp_path: Path) -> None:
    def collected() -> tuple[Path, str]:
        output = tmp_path / "metrics"
        aggregate.main(["--results", str(tmp_path), "--output", str(output), "--keep"])
        tables_clustering.main(["--metrics", str(output), "--output", str(tmp_path / "tables")])
        return output, (tmp_path / "tables" / "table_2.md").read_text()

    made = tables_of("uniform", "full", 0, "digits_5000", {"start": 0.7, "vade": 0.85}, 20)
    finish(tmp_path, "clustering/uniform_full", 0, made)
    metrics, before = collected()
    assert not (tmp_path / "tables" / "clustering_recipe.md").exists()
    for seed in (100, 101):
        study = tables_of("uniform", "full", seed, "digits_5000", {"start": 0.1, "vade": 0.2}, 20)
        finish(tmp_path, "clustering_recipe/whole", seed, study)
        lines = pretraining_lines("default", "quick", "digits_5000", [seed], 0.3)
        columns = ["version", "data", "stage", "split", "accuracy", "nmi", "reconstruction_loss", "log_likelihood"]
        finish(tmp_path, "clustering_pretraining/default", seed, {"metrics": pd.DataFrame(lines)[columns]})
    metrics, after = collected()
    assert after == before
    (block,) = read_blocks(metrics)
    assert set(block.metrics["seed"]) == {0}
    assert cells(table_2(block, "test", read_paper("table_2")))["uniform"][:4] == ["85.0", "80.0", "75.0", "1"]
    assert cells(recipe_tables(metrics)[0]) == {
        "whole": ["10.0 ± 0.0 (10.0 10.0)", "20.0 ± 0.0 (20.0 20.0)", "15.0 ± 0.0", "-90.0 ± 0.0"]
    }
    text = (tmp_path / "tables" / "clustering_recipe.md").read_text()
    assert "30.5 ± 0.7 (30.0 31.0)" in text and "85.0" not in text


def test_a_study_row_is_scored_and_shown(tmp_path: Path) -> None:
    row = "clustering_pretraining/paper"
    run = launch(row, tmp_path, "seed=100")
    metrics = run.table("metrics").set_index(["stage", "split"])
    assert list(metrics.index) == [("found", "train"), *(("start", s) for s in ("test", "test_subsampled", "train"))]
    cached = [torch.load(path, weights_only=True) for path in (tmp_path / "cache").rglob("*.pt")]
    found = next(content for content in cached if "assignments" in content)
    splits = smoke_splits(1.0)
    assert metrics["accuracy"]["found", "train"] == pytest.approx(
        score(found["assignments"], splits.train_labels, 10).accuracy
    )
    np.testing.assert_allclose(metrics["log_likelihood"], found["log_likelihood"])
    aggregate.main(["--results", str(tmp_path), "--output", str(tmp_path / "metrics"), "--profile", "smoke"])
    (table,) = pretraining_tables(tmp_path / "metrics")
    assert table.title == "Pretraining, profile smoke, 5,000-digit subset, seed 100"
    assert list(cells(table)) == ["paper"]


# Run ids.


def identify(*overrides: str) -> str:
    return run_id(resolve(compose(ROW, *overrides)), ROW)


@pytest.mark.parametrize(
    "override",
    [
        "data_directory=elsewhere",
        "threads=2",
        "experiment.checkpoint_every=7",
        "profile.clustering.checkpoint_every=7",
        "experiment.keep_model=true",
        "profile.clustering.keep_model=true",
    ],
)
def test_places_threads_and_what_is_kept_do_not_enter_a_cells_id(override: str) -> None:
    assert identify(override) == identify()


@pytest.mark.parametrize(
    "override",
    [
        "profile.clustering.data=mnist",
        "profile.clustering.epochs=11",
        "experiment.data.ratio=0.7",
        "experiment.pretraining.manifold=null",
        "experiment.training.compile=true",
    ],
)
def test_data_and_settings_enter_a_cells_id(override: str) -> None:
    assert identify(override) != identify()


def test_the_choice_of_the_data_is_no_change_of_a_row_but_every_other_setting_is() -> None:
    neutral = ["profile.clustering.data=mnist", "data_directory=elsewhere", "threads=2", "profile=medium"]
    changing = ["profile.clustering.epochs=3", "experiment.data.source=mnist", "profile.clustering.max_digits=10"]
    assert check_overrides([*neutral, *changing]) == changing


# A model that is kept.


def smoke_splits(ratio: float) -> Splits:
    data = ClusteringData(
        source="digits_5000", max_digits=300, subsampled_classes=range(5), ratio=ratio, subsampling_seed=0
    )
    return data.load(Path("nowhere"))


def test_a_kept_model_gives_the_runs_own_assignments(tmp_path: Path) -> None:
    choices = ("experiment.keep_model=true", "profile.clustering.data=digits_5000")
    run = launch("clustering/hypergeometric_60", tmp_path, *FAST, *choices)
    vade = VaDE(
        widths=[784, 500, 500, 2000, 10],
        prior=HypergeometricPrior(num_clusters=10),
        minimum_variance=1e-4,
        initial_variance=0.1,
        generator=torch.Generator().manual_seed(99),
    )
    splits = smoke_splits(0.6)
    before, _ = assign_all(vade, splits.test_images, 128)
    vade.load_state_dict(torch.load(run.path / "model.pt", weights_only=True))
    clusters, _ = assign_all(vade, splits.test_images, 128)
    expected = run.table("confusion").pivot(index="cluster", columns="class", values="digits").to_numpy()
    np.testing.assert_array_equal(confusion(clusters, splits.test_labels, 10), expected)
    assert not torch.equal(before, clusters)
    facts = json.loads((run.path / "environment.json").read_text())
    assert "profile.clustering.data=digits_5000" not in facts["overrides"] and FAST[0] in facts["overrides"]


def test_no_model_is_kept_unasked(tmp_path: Path) -> None:
    run = launch("clustering/uniform_60", tmp_path, *FAST)
    assert run.finished() is not None and not (run.path / "model.pt").exists()


# The time said beforehand.


def tiny_training(digits: int, batch_size: int) -> GuidedTraining:
    return GuidedTraining(
        vade=make_vade(UniformPrior(num_clusters=3)),
        images=torch.zeros(digits, 12, dtype=torch.uint8),
        assignments=torch.zeros(digits, dtype=torch.long),
        epochs=1,
        batch_size=batch_size,
        learning_rate=0.1,
        weight=0.0,
        noise_seed=0,
    )


@pytest.mark.parametrize("resumed_at", [0, 1000])
def test_the_time_left_is_said_once_from_the_rate_after_the_first_chunk(
    resumed_at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first chunk takes a minute, the others 50 steps in 2 s each: 25 steps/s."""
    clock = iter([60.0, 66.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    caplog.set_level(logging.INFO, "experiments")
    training, trainer, estimate = tiny_training(1000, 10), SimpleNamespace(max_epochs=62), RateEstimate()
    training.steps_taken = resumed_at
    said: list[int] = []
    for _ in range(10):
        training.steps_taken += 50
        estimate.on_train_batch_end(trainer, training, None, None, 0)  # type: ignore[arg-type]
        said.append(len(caplog.messages))
    assert said == [0, 0, 0] + [1] * 7
    left = 62 * 100 - 200 - resumed_at
    assert caplog.messages == [f"  25.0 steps/s: {left / 25 / 60:.1f} minutes for the {left} steps left"]
    if not resumed_at:
        assert caplog.messages == ["  25.0 steps/s: 4.0 minutes for the 6000 steps left"]


# The cache.


def tiny_pretraining() -> Pretraining:
    return Pretraining(
        method="stacked_denoising",
        widths=[784, 3, 2],
        layer_epochs=0,
        finetune_epochs=1,
        learning_rate=0.01,
        batch_size=10,
        layer_dropout=0.0,
        corruption=Corruption(),
        manifold=None,
        mixture=EmbeddingMixture(covariance="diag", starts=1, max_digits=10),
        guided_epochs=0,
        guidance_weight=0.0,
        minimum_variance=1e-4,
        initial_variance=0.1,
    )


def test_who_wants_a_pretraining_in_the_making_waits_and_does_not_make_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two threads with a lock of their own each; the first one is held within its work until the second one waits."""
    caplog.set_level(logging.INFO, "experiments")
    made: list[str] = []
    working, released = threading.Event(), threading.Event()

    def autoencoder(*_: Any) -> dict[str, object]:
        made.append("autoencoder")
        working.set()
        assert released.wait(30)
        return {"weights": {"one": torch.ones(2)}, "reconstruction_loss": 1.5}

    def start(*_: Any) -> dict[str, object]:
        made.append("start")
        names = ("probabilities", "assignments")
        return {"state": {"two": torch.ones(3)}, **dict.fromkeys(names, torch.ones(1)), "log_likelihood": 2.5}

    monkeypatch.setattr(Pretraining, "_autoencoder", autoencoder)
    monkeypatch.setattr(Pretraining, "_start", start)
    splits, found = smoke_splits(1.0), dict[str, Pretrained]()

    def want(name: str) -> None:
        run = RunDirectory(tmp_path, ROW, name)
        context = RunContext(0, run, Tracker(None), {"accelerator": "cpu"})
        found[name] = tiny_pretraining().run(context, splits, 10)

    threads = [threading.Thread(target=want, args=[name], daemon=True) for name in ("first", "second")]
    threads[0].start()
    assert working.wait(30)
    threads[1].start()
    deadline = time.monotonic() + 30
    while not any("waiting for it" in message for message in caplog.messages) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum("another process makes this pretraining" in message for message in caplog.messages) == 1
    assert not found and made == ["autoencoder"]
    released.set()
    for thread in threads:
        thread.join(30)
    assert made == ["autoencoder", "start"]
    assert found["first"].log_likelihood == found["second"].log_likelihood == 2.5
    assert found["first"].reconstruction_loss == found["second"].reconstruction_loss == 1.5
    assert torch.equal(found["first"].state["two"], found["second"].state["two"])
