"""Training of the urn: all datasets at once, settings."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from experiments.urn.model import UrnModel
from experiments.urn.problem import UrnProblem
from experiments.urn.training import UrnTraining, data_loader

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
STEPS = 48


def make_settings(num_datasets: int = 3, **changes: Any) -> UrnTraining:
    problem = UrnProblem(**PROBLEM | {"num_datasets": num_datasets})
    return UrnTraining(problem=problem, **TRAINING | changes)


def make_model(
    kind: type[UrnModel] = UrnModel, counts: torch.Tensor | None = None, num_datasets: int = 3, **changes: Any
) -> UrnModel:
    validation = make_counts(UrnProblem(**PROBLEM))[1] if counts is None else counts
    return kind(make_settings(num_datasets, **changes), validation, noise_seed=5, validation_noise_seed=6)


def make_counts(problem: UrnProblem) -> list[torch.Tensor]:
    """For training and validation, [samples, datasets, groups]."""
    return [part.transpose(0, 1).float() for part in problem.draw(torch.Generator().manual_seed(3))]


def fit(model: UrnModel, train: torch.Tensor) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=TRAINING["max_epochs"],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data_loader(train, batch_size=1, order_seed=7))


class NoiselessModel(UrnModel):
    """Draws the mean of the exact law instead of a sample: the same gradient whatever else is trained beside it."""

    def draw(self, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        return self.settings.problem.law(self.log_weights).mean.expand(num_samples, -1, -1)


def test_training_at_once_equals_separate_runs_and_the_curves_are_complete() -> None:
    train, validation = make_counts(UrnProblem(**PROBLEM))
    together = make_model(NoiselessModel, validation)
    fit(together, train)
    assert together.log_weights.abs().max() > 0.1
    assert together.history.shape == (STEPS // TRAINING["record_every"] + 1, 3, 5)
    assert torch.isnan(together.history[0, :, 3]).all()  # there was no training yet
    assert (together.history[0, :, :3] == 0).all()
    assert torch.isfinite(together.history[1:]).all() and torch.isfinite(together.history[0, :, 4]).all()
    for dataset in range(3):
        alone = make_model(NoiselessModel, validation[:, dataset : dataset + 1], num_datasets=1)
        fit(alone, train[:, dataset : dataset + 1])
        torch.testing.assert_close(alone.log_weights[0], together.log_weights[dataset], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            alone.history[:, 0], together.history[:, dataset], rtol=1e-5, atol=1e-5, equal_nan=True
        )


def test_the_loss_is_the_sum_over_groups_and_the_mean_over_the_batch() -> None:
    model = make_model()
    observed = torch.tensor([[[3.0, 3.0, 3.0]] * 3, [[1.0, 5.0, 3.0]] * 3])
    drawn = torch.tensor([[[2.0, 4.0, 3.0]] * 3, [[1.0, 2.0, 6.0]] * 3])
    model.draw = lambda num_samples, generator: drawn  # type: ignore[method-assign]
    assert model.squared_loss(observed, torch.Generator()).tolist() == [(2 + 18) / 2] * 3


@pytest.mark.parametrize("order", [[0, 1, 1], [0, 1], "sorted"])
def test_an_order_that_is_none_is_refused(order: Any) -> None:
    with pytest.raises(ValueError, match="group_order"):
        make_settings(group_order=order)
