"""Learns the weights of urns by stochastic gradient descent on relaxed samples (Figures 7 and 8)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from experiments.context import RunContext
from experiments.settings import Positive, PositiveInt, settings
from experiments.urn.model import UrnModel
from experiments.urn.problem import UrnProblem
from experiments.urn.recovery import DATA_STREAM, recovery_tables

NOISE_STREAM, VALIDATION_NOISE_STREAM, ORDER_STREAM, LOSS_STREAM = range(DATA_STREAM + 1, DATA_STREAM + 5)
Loader = DataLoader[tuple[Tensor, ...]]
LOSS_CALLS = 20  # of the sampler, for the loss of the trained model; each with its own group order where that is random


@settings
class UrnTraining:
    """Trains the weights of every dataset at once.

    Attributes:
        problem: The urn and its datasets.
        conditionals: ``merged`` (the paper's, Eq. 3) or ``exact``.
        group_order: Order in which groups are sampled; ``random`` draws one per training step; None leaves it to
            ``mvhg`` (0..c-1 for merged, random per sample for exact).
        temperature: Of the Gumbel-softmax, tau.
        learning_rate: Of Adam.
        learning_rate_decay: Factor on the learning rate after each epoch.
        batch_size: Samples of each dataset per step.
        max_epochs: Passes over the training samples.
        record_every: Steps between two points of the curves; a run of fewer steps has one at its end.
    """

    problem: UrnProblem
    conditionals: Literal["exact", "merged"]
    group_order: list[int] | Literal["random"] | None
    temperature: Positive
    learning_rate: Positive
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)]
    batch_size: PositiveInt
    max_epochs: PositiveInt
    record_every: PositiveInt

    def __post_init__(self) -> None:
        groups = list(range(len(self.problem.group_sizes)))
        if isinstance(self.group_order, list) and sorted(self.group_order) != groups:
            raise ValueError(f"group_order must be a permutation of {groups}, random or null, got {self.group_order}")

    @property
    def names(self) -> list[str]:
        """A name for each dataset, for logging."""
        return [f"second_weight={weight:g}" for weight in self.problem.datasets]

    @property
    def num_steps(self) -> int:
        """Training steps."""
        return self.max_epochs * math.ceil(self.problem.num_train / self.batch_size)

    @property
    def headline_metrics(self) -> dict[str, str]:
        """The losses where training ends."""
        return {f"{loss}/{name}": "last" for loss in ("train_loss", "validation_loss") for name in self.names}

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Trains, or goes on from the last checkpoint; returns ``metrics``, ``weights`` and ``history``."""
        splits = self.problem.draw(context.generator(DATA_STREAM))
        noise_seed, validation_noise_seed, order_seed = (
            context.generator(stream).initial_seed() for stream in (NOISE_STREAM, VALIDATION_NOISE_STREAM, ORDER_STREAM)
        )
        train, validation = (part.transpose(0, 1).contiguous().to(torch.float32) for part in splits)
        model = UrnModel(self, validation, noise_seed, validation_noise_seed)
        context.fit(model, data_loader(train, self.batch_size, order_seed), max_epochs=self.max_epochs)

        tables = recovery_tables(self.problem, splits, model.log_weights)
        loss_generator = context.generator(LOSS_STREAM, model.device)
        tables["metrics"]["model_squared_loss"] = model_squared_loss(self.problem, model, loss_generator).tolist()
        tables["history"] = history_table(self.problem, model)
        ends = tables["history"].tail(self.problem.num_datasets)
        tables["metrics"][["train_loss", "validation_loss"]] = ends[["train_loss", "validation_loss"]].to_numpy()
        context.log_summary({"rmse": float(tables["metrics"]["rmse"].mean())})
        return tables


def data_loader(train: Tensor, batch_size: int, order_seed: int) -> Loader:
    """Returns batches [batch, datasets, groups] of counts [samples, datasets, groups], in a new order each epoch."""
    samples = TensorDataset(train)
    # Used with a single replica: its order is a function of (seed, epoch) alone, so that a resumed run sees the same
    # order as an uninterrupted one. Lightning tells it the epoch.
    order: DistributedSampler[Any] = DistributedSampler(samples, num_replicas=1, rank=0, shuffle=True, seed=order_seed)
    return DataLoader(samples, batch_size=batch_size, sampler=order, generator=torch.Generator())


@torch.no_grad()
def model_squared_loss(problem: UrnProblem, model: UrnModel, generator: torch.Generator) -> Tensor:
    """E|X_D - X|^2 for X from the law that the model draws from, merged or exact, and X_D from the true law.

    Returns:
        [datasets], an average over four draws of X for every sample of a dataset; X_D enters by its exact moments.
    """
    mean, variance = problem.true_moments()
    draws_per_call = math.ceil(4 * problem.num_samples / LOSS_CALLS)
    draws = torch.cat([model.draw(draws_per_call, generator) for _ in range(LOSS_CALLS)])  # [draws, datasets, groups]
    return variance + (draws.cpu() - mean).square().sum(-1).mean(0)


def history_table(problem: UrnProblem, model: UrnModel) -> pd.DataFrame:
    """The recorded curves: one line per record and dataset, columns ``log_weight_1..c`` and the two losses.

    The training loss is the mean over the steps since the record before; at step 0 there is none.
    """
    num_records, num_datasets, _ = model.history.shape
    table = pd.DataFrame(model.history.flatten(0, 1).cpu().double().numpy(), columns=model.columns)
    table.insert(0, "step", [record * model.record_every for record in range(num_records) for _ in range(num_datasets)])
    table.insert(1, "second_weight", problem.datasets * num_records)
    return table
