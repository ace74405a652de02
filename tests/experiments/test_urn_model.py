"""Training of the urn: all datasets at once, resuming, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from experiments.urn.data import UrnDataModule
from experiments.urn.model import UrnModel
from experiments.urn.problem import UrnProblem, UrnSplits
from mvhg import MultivariateHypergeometric

PROBLEM: dict[str, Any] = {
    "group_sizes": [6, 8, 7],
    "total_count": 9,
    "second_weights": [1.0, 3.0, 7.0],
    "num_datasets": 3,
    "num_samples": 20,
    "train_fraction": 0.8,
}
MODEL: dict[str, Any] = {
    "conditionals": "exact",
    "group_order": None,
    "relaxation": "straight_through",
    "temperature": 0.5,
    "learning_rate": 0.01,
    "learning_rate_decay": 0.9,
}
EPOCHS, STEPS_PER_EPOCH, RECORD_EVERY = 3, 16, 10


def make_model(kind: type[UrnModel] = UrnModel, num_datasets: int = 3, **changes: Any) -> UrnModel:
    return kind(
        group_sizes=PROBLEM["group_sizes"],
        total_count=PROBLEM["total_count"],
        names=[f"dataset={index}" for index in range(num_datasets)],
        num_steps=STEPS_PER_EPOCH * EPOCHS,
        record_every=RECORD_EVERY,
        noise_seed=5,
        validation_noise_seed=6,
        **{**MODEL, **changes},
    )


def make_splits() -> UrnSplits:
    return UrnProblem(**PROBLEM).draw(torch.Generator().manual_seed(3))


def make_trainer(directory: Path, *callbacks: pl.Callback) -> pl.Trainer:
    checkpoint = ModelCheckpoint(directory, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    return pl.Trainer(
        accelerator="cpu",
        callbacks=[checkpoint, *callbacks],
        max_epochs=EPOCHS,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=RECORD_EVERY,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=-1,
    )


def fit(
    model: UrnModel, splits: UrnSplits, directory: Path, *callbacks: pl.Callback, resume: Path | None = None
) -> None:
    data = UrnDataModule(splits, batch_size=1, shuffle_seed=7)
    make_trainer(directory, *callbacks).fit(model, datamodule=data, ckpt_path=resume)


class NoiselessModel(UrnModel):
    """Draws the mean of the exact law instead of a sample: the same gradient whatever else is trained beside it."""

    def draw(self, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        law = MultivariateHypergeometric(self.total_count, self.group_sizes, log_weights=self.log_weights)
        return law.mean.expand(num_samples, -1, -1)


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
    assert model.history_log_weights.shape == (STEPS_PER_EPOCH * EPOCHS // RECORD_EVERY + 1, 3, 3)
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
        ("relaxation", "hard"),
        ("group_order", [0, 1, 1]),
        ("group_order", "sorted"),
    ],
)
def test_bad_settings_are_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{setting} must"):
        make_model(**{setting: value})


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        UrnDataModule(make_splits(), batch_size=0, shuffle_seed=None)
