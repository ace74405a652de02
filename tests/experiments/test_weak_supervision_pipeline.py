"""Rows of the weak-supervision experiment through the one entry point: interruptions, slices, losses, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.context import RunContext
from experiments.settings import ExperimentError
from experiments.store import RunDirectory
from experiments.weak_supervision import experiment as experiment_module
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.training import PairTraining
from tests.experiments.helpers import csv_bytes, launch

pytestmark = pytest.mark.usefixtures("one_thread")

# Four epochs of four steps; classifiers on few pairs.
TINY = (
    "experiment.training.steps=16",
    "experiment.training.epoch_steps=4",
    "experiment.training.chunk_steps=2",
    "experiment.training.batch_size=2",
    "experiment.evaluation_train_pairs=40",
    "experiment.evaluation_test_pairs=30",
    "experiment.profile_pairs=20",
)
ROW = "weak_supervision method=hgvae shared=3"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that nothing interrupts."""
    return launch(ROW, tmp_path_factory.mktemp("whole"), *TINY)


def interrupting(
    patch: pytest.MonkeyPatch, step: int, break_loss: Callable[[PairTraining, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    original = PairTraining.step_loss

    def broken(self: PairTraining, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, terms = original(self, *arguments)
        return break_loss(self, loss, terms) if self.steps_taken == step - 1 else (loss, terms)

    patch.setattr(PairTraining, "step_loss", broken)


def counted_steps(patch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of steps taken before every step from now on."""
    taken: list[int] = []
    original = PairTraining.step_loss

    def counted(self: PairTraining, *arguments: Any) -> tuple[Tensor, Tensor]:
        taken.append(self.steps_taken)
        return original(self, *arguments)

    patch.setattr(PairTraining, "step_loss", counted)
    return taken


def checkpoint_of(results: Path) -> dict[str, Any]:
    (path,) = results.rglob("last.ckpt")
    return dict(torch.load(path, weights_only=True))


def test_a_run_says_what_its_tables_need(whole: RunDirectory) -> None:
    history = whole.table("history")
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert {"bound", "expected_count", "drawn_count", "temperature", "weights_gradient"} < set(history)
    temperatures = [10 * math.exp(-min(step, 5) / 5 * math.log(1000)) for step in range(16)]
    expected = [sum(temperatures[start : start + 4]) / 4 for start in range(0, 16, 4)]
    assert history["temperature"].tolist() == pytest.approx(expected, rel=1e-5)
    (metrics,) = whole.table("metrics").to_dict("records")
    assert metrics["image_size"] == 32
    assert metrics["count_error"] == pytest.approx((metrics["expected_count"] - 4) ** 2)
    assert metrics["shared_error"] == pytest.approx((10 - metrics["expected_count"] - 3) ** 2)
    assert metrics["joint_bound"] > metrics["per_view_bound"]
    profile = whole.table("profile")
    assert profile["independent"].tolist() == list(range(11))
    for name in (
        "metrics",
        "history",
        "profile",
        "accuracies",
        "pictures",
    ):  # the aggregation puts the axes before them
        assert not {"method", "shared", "changes", "data"} & set(whole.table(name)), name
    pictures = whole.table("pictures")
    assert pictures[["kind", "rows", "columns"]].values.tolist() == [["reconstructions", 2, 8], ["traversals", 10, 7]]
    state = torch.load(whole.path / "model.pt", weights_only=True)
    assert state["weights.weight"].shape == (2, 10)
    assert not list(whole.path.rglob("*.ckpt")), "a finished run leaves no checkpoint behind"


def test_a_run_that_was_killed_in_its_evaluation_is_not_trained_again(
    whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> pd.DataFrame:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(experiment_module, "subset_accuracies", killed)
        with pytest.raises(RuntimeError, match="killed"):
            launch(ROW, tmp_path, *TINY)
    taken = counted_steps(monkeypatch)
    assert csv_bytes(launch(ROW, tmp_path, *TINY)) == csv_bytes(whole)
    assert taken == []


def test_a_loss_that_is_not_finite_stops_the_run_and_the_same_command_goes_on_when_it_is_mended(
    whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(training: PairTraining, loss: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        terms = terms.clone()
        terms[training.term_names.index("divergence")] = math.nan
        return loss * math.nan, terms

    with monkeypatch.context() as patch:
        interrupting(patch, 7, poisoned)
        message = r"step 7 \(epoch 2\): the term divergence is not finite; stopped, and the last checkpoint is kept"
        with pytest.raises(ExperimentError, match=message):
            launch(ROW, tmp_path, *TINY)
    state = checkpoint_of(tmp_path)
    assert state["epoch"] == 0 and state["chunked_training"]["steps_taken"] == 4
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    assert not list(tmp_path.rglob("*.csv"))
    assert csv_bytes(launch(ROW, tmp_path, *TINY)) == csv_bytes(whole)


def test_a_run_in_slices_of_time_gives_the_numbers_of_a_whole_one(whole: RunDirectory, tmp_path: Path) -> None:
    """With a checkpoint after every other epoch: a slice ends with one."""
    slices = (*TINY, "experiment.checkpoint_every=2", "experiment.max_minutes=1e-9")
    with pytest.raises(ExperimentError, match="stopped after max_minutes=1e-09, at step 8 of 16; the same command"):
        launch(ROW, tmp_path, *slices)
    assert checkpoint_of(tmp_path)["chunked_training"]["steps_taken"] == 8
    assert not list(tmp_path.rglob("*.csv"))
    finished = launch(ROW, tmp_path, *slices)
    assert csv_bytes(finished) == csv_bytes(whole)
    assert finished.path.name == whole.path.name, "slices are no other run"


def test_a_run_that_the_trainer_stops_is_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RunContext.trainer
    monkeypatch.setattr(RunContext, "trainer", lambda *context, **given: whole(*context, **given, max_steps=8))
    with pytest.raises(ExperimentError, match="stopped by the trainer, at step 8 of 16; the same command goes on"):
        launch(ROW, tmp_path, *TINY)
    assert not list(tmp_path.rglob("*.csv"))


def test_methods_of_a_seed_see_the_same_images_and_pairs_and_are_scored_on_images_of_no_training(
    whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samplers: dict[str, list[PairSampler]] = {}
    for name in ("evaluate", "bound_profile", "told_apart_columns"):
        original, seen = getattr(experiment_module, name), samplers.setdefault(name, [])
        watched = partial(lambda original, seen, *given: seen.append(given[2]) or original(*given), original, seen)
        monkeypatch.setattr(experiment_module, name, watched)
    trained: list[PairSampler] = []
    fit = PairTraining.__init__
    monkeypatch.setattr(
        PairTraining, "__init__", lambda self, **given: trained.append(given["sampler"]) or fit(self, **given)
    )
    other = launch("weak_supervision method=label_vae shared=3", tmp_path, *TINY)
    pairs = [run.table("accuracies")[["factor", "part", "view", "train_pairs", "test_pairs"]] for run in (whole, other)]
    assert len(pairs[0]) and pairs[0].equals(pairs[1])
    (metrics,) = other.table("metrics").to_dict("records")
    assert metrics["expected_count"] == metrics["drawn_count"] == 1
    assert metrics["count_error"] == metrics["draw_count_error"] == 9
    classifiers, test = samplers["evaluate"]
    assert torch.equal(classifiers.images, trained[0].images)
    for sampler in (test, *samplers["bound_profile"], *samplers["told_apart_columns"]):
        assert len(sampler.images) == 41_472 - 33_178
        assert not torch.isin(sampler.images, trained[0].images).any()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "shared=7",
            "experiment.data: shared, the number of shared factors s, must be random or an integer in 0..6, got 7",
        ),
        ("shared=-1", "experiment.data.shared: input should be greater than or equal to 0 or 'random', got -1"),
        (
            "experiment.data.pairing=random",
            "experiment.data.pairing: input should be 'exact', 'fixed_set' or 'published', got",
        ),
        (
            "shared=random experiment.data.pairing=fixed_set",
            "shared=random draws the shared factors too and needs pairing=exact, got pairing=fixed_set",
        ),
        ("experiment.data.source=mpi3d", "experiment.data: source must be one of mpi3d_toy, mpi3d_realistic"),
        ("experiment.data.image_size=48", "experiment.data.image_size: input should be 64 or 32, got 48"),
        ("experiment.data.levels=5", "experiment.data.levels: input should be 4, got 5"),
        ("experiment.data.positions=3", "experiment.data: positions must be one of 2, 4, 5, 8, 10, 20, 40, .*; got 3"),
        ("experiment.data.positions=1", "experiment.data: positions must be one of 2, 4, 5, 8, 10, 20, 40, .*; got 1"),
        ("experiment.data.test_share=0", "experiment.data.test_share: input should be greater than 0, got 0"),
        ("experiment.model.beta=-1", "experiment: model.beta: Input should be greater than or equal to 0, got -1"),
        ("experiment.model.num_latents=6", "model.num_latents is 6; LabelVAE needs one for each of the 7 factors"),
        ("experiment.training.steps=25", "experiment.training: steps must be a multiple of epoch_steps, got 25 and 10"),
        ("experiment.training.chunk_steps=3", "experiment.training: epoch_steps must be a multiple of chunk_steps"),
        ("experiment.profile_pairs=1.5", "experiment.profile_pairs: input should be a valid integer, got 1.5"),
        (
            "method=posterior_hgvae experiment.model.fit_every_steps=7",
            "model.fit_every_steps must be a multiple of training.chunk_steps, got 7 and 5",
        ),
        (
            "method=posterior_hgvae experiment.training.annealing_steps=30",
            "PosteriorHGVAE would never be fitted: .* training.annealing_steps 30, training.steps 20",
        ),
        (
            "experiment.training.initial_temperature=1e300",
            "training.initial_temperature: input should be less than or equal to 1000000, got 1e\\+300",
        ),
        ("experiment.data.split_seed=4294967296", "data.split_seed: input should be less than 4294967296"),
        # Known only with the images, which have 33,178 in the split for training.
        ("experiment.training.batch_size=33179", "is 33179 pairs, but mpi3d_sim has 33178 training images"),
        ("experiment.data.test_share=0.00005", "only . of .* pairs with 3 shared factors were found among 2 images"),
        ("experiment.data.test_share=1e-9", "mpi3d_sim: test_share 1e-09 of 41472 images leaves a split empty"),
    ],
)
def test_bad_settings_are_one_line_and_leave_no_result(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=message) as error:
        launch("weak_supervision method=label_vae shared=3", tmp_path, *override.split())
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.csv")) and not list(tmp_path.rglob("*.ckpt"))
