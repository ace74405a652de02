"""The rows of the urn experiment: trained by gradient descent, maximum likelihood, minimum of the squared loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from experiments.common.context import RunContext
from experiments.urn.data import UrnDataModule
from experiments.urn.model import UrnModel
from experiments.urn.problem import UrnProblem, UrnSplits
from experiments.urn.recovery import fit_each, recovery_tables
from experiments.urn.squared_loss import squared_loss_optimum

# Streams of the run's seed. Every row draws the same datasets under the same seed.
DATA_STREAM, NOISE_STREAM, VALIDATION_NOISE_STREAM, ORDER_STREAM, LOSS_STREAM = range(5)
LOSS_CALLS = 20  # of the sampler, for the loss of the trained model; each with its own group order where that is random
TARGETS = ("law", "data")


class UrnTraining:
    """Trains the weights of every dataset by stochastic gradient descent on relaxed samples (Figures 7 and 8).

    Args:
        problem: the urn and its datasets.
        conditionals: ``"merged"`` (the paper's) or ``"exact"``.
        group_order: a permutation of the groups, ``"random"`` (one per step) or None (see :class:`UrnModel`).
        relaxation: ``"straight_through"`` or ``"soft"``.
        temperature: of the Gumbel-softmax, tau.
        learning_rate: of Adam.
        learning_rate_decay: factor on the learning rate after each epoch.
        batch_size: samples of each dataset per step.
        shuffle: new order of the training samples in every epoch.
        max_epochs: passes over the training samples.
        record_every: steps between two points of the curves; a run of fewer steps has one at its end.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        problem: UrnProblem,
        conditionals: str,
        group_order: Sequence[int] | str | None,
        relaxation: str,
        temperature: float,
        learning_rate: float,
        learning_rate_decay: float,
        batch_size: int,
        shuffle: bool,
        max_epochs: int,
        record_every: int,
    ) -> None:
        if max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1, got {max_epochs}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.problem = problem
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.max_epochs = max_epochs
        self.num_steps = max_epochs * math.ceil(problem.num_train / batch_size)
        self.record_every = min(record_every, self.num_steps)
        losses = ("train_loss", "validation_loss")
        self.headline_metrics = {f"{loss}/{name}": "last" for loss in losses for name in _names(problem)}
        self.model_settings: dict[str, Any] = {
            "conditionals": conditionals,
            "group_order": group_order,
            "relaxation": relaxation,
            "temperature": temperature,
            "learning_rate": learning_rate,
            "learning_rate_decay": learning_rate_decay,
        }
        self.model(
            noise_seed=0, validation_noise_seed=0
        )  # bad settings are reported before anything is drawn or written

    def model(self, noise_seed: int, validation_noise_seed: int) -> UrnModel:
        """A model with these settings, at equal weights."""
        return UrnModel(
            group_sizes=self.problem.group_sizes,
            total_count=self.problem.total_count,
            names=_names(self.problem),
            num_steps=self.num_steps,
            record_every=self.record_every,
            noise_seed=noise_seed,
            validation_noise_seed=validation_noise_seed,
            **self.model_settings,
        )

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Trains, or goes on from the last checkpoint; returns ``metrics``, ``weights`` and ``history``."""
        splits = self.problem.draw(context.generator(DATA_STREAM))
        noise_seed, validation_noise_seed, order_seed = (
            context.generator(stream).initial_seed() for stream in (NOISE_STREAM, VALIDATION_NOISE_STREAM, ORDER_STREAM)
        )
        model = self.model(noise_seed, validation_noise_seed)
        trainer = context.trainer(
            max_epochs=self.max_epochs,
            # Validation counts steps across epochs, in the rhythm of the records; the sanity check before training
            # gives the loss at step 0.
            val_check_interval=self.record_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=-1,
        )
        data = UrnDataModule(splits, batch_size=self.batch_size, shuffle_seed=order_seed if self.shuffle else None)
        trainer.fit(model, datamodule=data, ckpt_path=context.checkpoint_path)

        tables = recovery_tables(self.problem, splits, model.log_weights)
        loss_generator = context.generator(LOSS_STREAM, model.device)
        tables["metrics"]["model_squared_loss"] = model_squared_loss(self.problem, model, loss_generator).tolist()
        tables["metrics"]["train_loss"] = model.history_train_loss[-1].tolist()
        tables["metrics"]["validation_loss"] = model.history_validation_loss[-1].tolist()
        tables["history"] = history_table(self.problem, model)
        context.log_summary({"rmse": float(tables["metrics"]["rmse"].mean())})
        return tables


def _names(problem: UrnProblem) -> list[str]:
    return [f"second_weight={weight:g}" for weight in problem.second_weights]


class UrnMaximumLikelihood:
    """Fits the weights of every dataset by exact maximum likelihood on the training samples.

    Args:
        problem: the urn and its datasets.
    """

    def __init__(self, *, problem: UrnProblem) -> None:
        self.problem = problem

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics`` and ``weights``."""
        splits = self.problem.draw(context.generator(DATA_STREAM))
        return _closed_form(self.problem, splits, fit_each(self.problem, splits.train)[0], context)


class UrnSquaredLossOptimum:
    """The weights that minimise the exact expected squared loss: where perfect gradient descent would end.

    Args:
        problem: the urn and its datasets.
        target: ``"law"`` minimises the loss against the true law, ``"data"`` against the training samples.

    Raises:
        ValueError: ``target`` is neither.
    """

    def __init__(self, *, problem: UrnProblem, target: str) -> None:
        if target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
        self.problem = problem
        self.target = target

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics`` and ``weights``."""
        problem = self.problem
        splits = problem.draw(context.generator(DATA_STREAM))
        if self.target == "law":
            mean, variance = problem.true_moments()
        else:
            mean, variance = splits.train.mean(1), splits.train.var(1, correction=0).sum(-1)
        return _closed_form(problem, splits, squared_loss_optimum(problem, mean, variance), context)


@torch.no_grad()
def model_squared_loss(problem: UrnProblem, model: UrnModel, generator: torch.Generator) -> torch.Tensor:
    """E|X_D - X|^2 for X from the law that the model draws from, merged or exact, and X_D from the true law.

    Returns:
        [datasets], an average over four draws of X for every sample of a dataset; X_D enters by its exact moments.
    """
    mean, variance = problem.true_moments()
    draws_per_call = math.ceil(4 * problem.num_samples / LOSS_CALLS)
    draws = torch.cat([model.draw(draws_per_call, generator) for _ in range(LOSS_CALLS)])  # [draws, datasets, groups]
    return variance + (draws.cpu() - mean).square().sum(-1).mean(0)


def history_table(problem: UrnProblem, model: UrnModel) -> pd.DataFrame:
    """The recorded curves: one row per record and dataset, columns ``log_weight_1..c`` and the two losses.

    The training loss is the mean over the steps since the record before; at step 0 there is none.
    """
    num_records, num_datasets, num_groups = model.history_log_weights.shape
    table = pd.DataFrame(
        {
            "step": [record * model.record_every for record in range(num_records) for _ in range(num_datasets)],
            "second_weight": list(problem.second_weights) * num_records,
        }
    )
    for group in range(num_groups):
        table[f"log_weight_{group + 1}"] = model.history_log_weights[..., group].flatten().tolist()
    table["train_loss"] = model.history_train_loss.flatten().tolist()
    table["validation_loss"] = model.history_validation_loss.flatten().tolist()
    return table


def _closed_form(
    problem: UrnProblem, splits: UrnSplits, log_weights: torch.Tensor, context: RunContext
) -> dict[str, pd.DataFrame]:
    tables = recovery_tables(problem, splits, log_weights)
    tables["metrics"]["model_squared_loss"] = tables["metrics"]["expected_squared_loss"]
    context.log_summary({"rmse": float(tables["metrics"]["rmse"].mean())})
    return tables
