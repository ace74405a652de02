"""Learns the weights of urns by stochastic gradient descent on the squared loss (Appendix B.5.1, Eq. 36-49)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from experiments.context import RunContext
from experiments.row_training import RowTraining
from experiments.settings import Positive, PositiveInt, Temperature, settings
from experiments.urn.problem import DATA_STREAM, UrnProblem
from mvhg import MultivariateHypergeometricStraightThrough

NOISE_STREAM, VALIDATION_NOISE_STREAM, ORDER_STREAM, LOSS_STREAM = range(DATA_STREAM + 1, DATA_STREAM + 5)
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
    temperature: Temperature
    learning_rate: Positive
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)]
    batch_size: PositiveInt
    max_epochs: PositiveInt
    record_every: PositiveInt

    def __post_init__(self) -> None:
        groups = list(range(len(self.problem.group_sizes)))
        if isinstance(self.group_order, list) and sorted(self.group_order) != groups:
            raise ValueError(f"group_order must be a permutation of {groups}, random or null, got {self.group_order}")
        if self.group_order is None and self.conditionals == "merged":
            raise ValueError(f"group_order is null, which leaves merged conditionals at {groups}; write that")

    @property
    def idle_settings(self) -> frozenset[str]:
        """The decay where there is no second epoch."""
        return frozenset({"learning_rate_decay"} if self.max_epochs == 1 else ())

    @property
    def names(self) -> list[str]:
        """A name for each dataset, for logging."""
        return [f"second_weight={weight:g}" for weight in self.problem.datasets]

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
        model = UrnModel(self, train, validation, noise_seed, validation_noise_seed)
        standard_errors = self.problem.fit(splits.train)[1]  # before a training whose result would be lost
        context.fit(model, model.chunks(order_seed), max_epochs=self.max_epochs)

        tables = self.problem.recovery(model.log_weights, standard_errors)
        loss_generator = context.generator(LOSS_STREAM, model.device)
        tables["metrics"]["model_squared_loss"] = model_squared_loss(self.problem, model, loss_generator).tolist()
        tables["history"] = history_table(self.problem, model)
        ends = tables["history"].tail(self.problem.num_datasets)
        tables["metrics"][["train_loss", "validation_loss"]] = ends[["train_loss", "validation_loss"]].to_numpy()
        context.log_summary({"rmse": float(tables["metrics"]["rmse"].mean())})
        return tables


class UrnModel(RowTraining):
    """One vector of log weights per dataset, all trained at once.

    Each step takes a batch from every dataset and sums the losses of the datasets. The loss of a dataset depends on its
    own log weights only and Adam works element by element, so the run equals one separate run per dataset, at the cost
    of one.

    The curves are recorded into a buffer of fixed size, which a checkpoint holds.

    Args:
        training: The settings.
        train: Counts that are trained on, float32 [samples, datasets, groups].
        validation: Counts that are not trained on, likewise.
        noise_seed: Seed of the sampling noise in training.
        validation_noise_seed: Seed of the sampling noise in validation, the same every time.
    """

    group_sizes: Tensor  # [groups]
    validation: Tensor  # [samples, datasets, groups]
    curves: Tensor  # [records, datasets, columns]
    loss_sum: Tensor  # [datasets], over the steps since the last record

    def __init__(
        self, training: UrnTraining, train: Tensor, validation: Tensor, noise_seed: int, validation_noise_seed: int
    ) -> None:
        super().__init__(rows=train, batch_size=training.batch_size, noise_seed=noise_seed, term_names=["loss"])
        self.settings = training
        num_steps = training.max_epochs * self.steps_per_epoch
        self.record_every = min(training.record_every, num_steps)
        self.validation_noise_seed = validation_noise_seed
        sizes, num_datasets = training.problem.group_sizes, training.problem.num_datasets
        self.columns = [*(f"log_weight_{group + 1}" for group in range(len(sizes))), "train_loss", "validation_loss"]
        self.log_weights = nn.Parameter(torch.zeros(num_datasets, len(sizes)))
        self.register_buffer("validation", validation, persistent=False)
        self.register_buffer("group_sizes", torch.tensor(sizes), persistent=False)
        records = num_steps // self.record_every + 1
        self.register_buffer("curves", torch.full((records, num_datasets, len(self.columns)), torch.nan))
        self.register_buffer("loss_sum", torch.zeros(num_datasets))

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Straight-through samples of every urn, [num_samples, datasets, groups], differentiable in the log weights."""
        order = self.settings.group_order
        if order == "random":
            num_groups = self.log_weights.shape[-1]
            order = torch.randperm(num_groups, generator=generator, device=generator.device).tolist()
        law = MultivariateHypergeometricStraightThrough(
            self.settings.temperature,
            self.settings.problem.total_count,
            self.group_sizes,
            log_weights=self.log_weights,
            conditionals=self.settings.conditionals,
            group_order=order,
            validate_args=False,
        )
        return law.rsample((num_samples,), generator=generator)

    def squared_loss(self, observed: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over the batch of sum_c (X_D,c - X_c)^2 (Eq. 43), [datasets], for counts [batch, datasets, groups]."""
        drawn = self.draw(observed.shape[0], generator)
        return (observed - drawn).square().sum(-1).mean(0)

    def steps(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in super().steps(chunk):
            if self.steps_taken == 0:
                self._record(torch.full_like(self.loss_sum, torch.nan))
            yield step
            if self.steps_taken % self.record_every == 0:
                self._record(self.loss_sum / self.record_every)
                self.loss_sum.zero_()

    def step_loss(self, observed: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        losses = self.squared_loss(observed, self.generator)
        self.loss_sum += losses.detach()
        return losses.sum(), losses.sum().unsqueeze(0)

    @torch.no_grad()
    def _record(self, train_loss: Tensor) -> None:
        """Records log weights, the training loss [datasets] and the loss on samples that are not trained on."""
        # The same noise every time, so that the curve shows the weights and not the noise; a stream of its own, so that
        # training does not depend on how often it is looked at.
        generator = torch.Generator(device=self.device).manual_seed(self.validation_noise_seed)
        losses = torch.stack([train_loss, self.squared_loss(self.validation, generator)], -1)
        record = torch.cat([self.log_weights, losses], -1)
        self.curves[self.steps_taken // self.record_every] = record
        if self.steps_taken:
            names = product(self.columns, self.settings.names)
            values = zip(names, record.T.flatten().tolist(), strict=True)
            self._log({f"{column}/{name}": value for (column, name), value in values})

    def step_optimizer(self) -> tuple[int, float]:
        return 0, self.settings.learning_rate * self.settings.learning_rate_decay**self.current_epoch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


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
    num_records, num_datasets, _ = model.curves.shape
    table = pd.DataFrame(model.curves.flatten(0, 1).cpu().double().numpy(), columns=model.columns)
    table.insert(0, "step", [record * model.record_every for record in range(num_records) for _ in range(num_datasets)])
    table.insert(1, "second_weight", problem.datasets * num_records)
    return table
