"""Training of the urn: all datasets at once, resuming, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from experiments.urn.model import UrnModel
from experiments.urn.problem import UrnProblem, UrnSplits
from experiments.urn.training import UrnTraining, data_loaders

PROBLEM: dict[str, Any] = {
    "group_sizes": [6, 8, 7],
    "total_count": 9,
    "second_weights": [1.0, 3.0, 7.0],
    "num_datasets": 3,
    "num_samples": 20,
    "train_fraction": 0.8,
}
TRAINING: dict[str, Any] = {
    "conditionals": "exact",
    "group_order": None,
    "temperature": 0.5,
    "learning_rate": 0.01,
    "learning_rate_decay": 0.9,
    "batch_size": 1,
    "max_epochs": 3,
    "record_every": 10,
}
STEPS_PER_EPOCH, STEPS = 16, 48


def make_settings(num_datasets: int = 3, **changes: Any) -> UrnTraining:
    problem = UrnProblem(**PROBLEM | {"num_datasets": num_datasets})
    return UrnTraining(problem=problem, **TRAINING | changes)


def make_model(kind: type[UrnModel] = UrnModel, num_datasets: int = 3, **changes: Any) -> UrnModel:
    return kind(make_settings(num_datasets, **changes), noise_seed=5, validation_noise_seed=6)


def make_splits() -> UrnSplits:
    return UrnProblem(**PROBLEM).draw(torch.Generator().manual_seed(3))


def make_trainer(directory: Path, *callbacks: pl.Callback) -> pl.Trainer:
    checkpoint = ModelCheckpoint(directory, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    return pl.Trainer(
        accelerator="cpu",
        callbacks=[checkpoint, *callbacks],
        max_epochs=TRAINING["max_epochs"],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=TRAINING["record_every"],
        check_val_every_n_epoch=None,
        num_sanity_val_steps=-1,
    )


def fit(
    model: UrnModel, splits: UrnSplits, directory: Path, *callbacks: pl.Callback, resume: Path | None = None
) -> None:
    train, validation = data_loaders(splits, batch_size=1, order_seed=7)
    make_trainer(directory, *callbacks).fit(model, train, validation, ckpt_path=resume)


class NoiselessModel(UrnModel):
    """Draws the mean of the exact law instead of a sample: the same gradient whatever else is trained beside it."""

    def draw(self, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        return self.settings.problem.law(self.log_weights).mean.expand(num_samples, -1, -1)


def test_training_at_once_equals_separate_runs(tmp_path: Path) -> None:
    splits = make_splits()
    together = make_model(NoiselessModel)
    fit(together, splits, tmp_path / "together")
    assert together.log_weights.abs().max() > 0.1
    for dataset in range(3):
        alone = make_model(NoiselessModel, num_datasets=1)
        fit(alone, UrnSplits(*(part[dataset : dataset + 1] for part in splits)), tmp_path / f"alone_{dataset}")
        torch.testing.assert_close(alone.log_weights[0], together.log_weights[dataset], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            alone.history_train_loss[:, 0],
            together.history_train_loss[:, dataset],
            rtol=1e-5,
            atol=1e-5,
            equal_nan=True,
        )


class Interrupt(pl.Callback):
    """Ends the process' training in the middle of an epoch, as a kill would."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == STEPS_PER_EPOCH * 2 + 7:
            raise RuntimeError("interrupted")


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, conditionals: str) -> None:
    group_order = "random" if conditionals == "merged" else None
    models = [make_model(conditionals=conditionals, group_order=group_order) for _ in range(3)]
    whole, interrupted, resumed = models
    splits = make_splits()
    fit(whole, splits, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(interrupted, splits, tmp_path / "resumed", Interrupt())
    fit(resumed, splits, tmp_path / "resumed", resume=tmp_path / "resumed" / "last.ckpt")
    assert not torch.equal(interrupted.log_weights, whole.log_weights)
    assert torch.equal(resumed.log_weights, whole.log_weights)
    for name in ("history_log_weights", "history_train_loss", "history_validation_loss"):
        torch.testing.assert_close(getattr(resumed, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True)


def test_the_curves_are_complete(tmp_path: Path) -> None:
    model = make_model()
    fit(model, make_splits(), tmp_path)
    assert model.history_log_weights.shape == (STEPS // TRAINING["record_every"] + 1, 3, 3)
    assert torch.isfinite(model.history_log_weights).all()
    assert torch.isfinite(model.history_validation_loss).all()
    assert torch.isnan(model.history_train_loss[0]).all()
    assert torch.isfinite(model.history_train_loss[1:]).all()
    assert (model.history_log_weights[0] == 0).all()


def test_the_loss_is_the_sum_over_groups_and_the_mean_over_the_batch() -> None:
    model = make_model()
    observed = torch.tensor([[[3.0, 3.0, 3.0]] * 3, [[1.0, 5.0, 3.0]] * 3])
    drawn = torch.tensor([[[2.0, 4.0, 3.0]] * 3, [[1.0, 2.0, 6.0]] * 3])
    model.draw = lambda num_samples, generator: drawn  # type: ignore[method-assign]
    assert model.squared_loss(observed, torch.Generator()).tolist() == [(2 + 18) / 2] * 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", -0.5),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("learning_rate", 0.0),
        ("learning_rate_decay", 1.5),
        ("conditionals", "approximate"),
        ("group_order", [0, 1, 1]),
        ("group_order", "sorted"),
        ("batch_size", 0),
        ("max_epochs", 0),
    ],
)
def test_bad_settings_are_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=setting):
        make_settings(**{setting: value})
