"""One cell of Table 1 and Figure 2: a method on pairs that share s factors."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import ClassVar

import pandas as pd
import pytorch_lightning as pl
import torch
from pydantic import ValidationError

from experiments.axes import Row
from experiments.cell_process import run_beside
from experiments.context import RunContext
from experiments.settings import ExperimentError, Positive, PositiveInt, settings
from experiments.training import RateEstimate, default_generator_lock
from experiments.weak_supervision.classification import average_accuracies, subset_accuracies
from experiments.weak_supervision.data.images import FactorImages
from experiments.weak_supervision.data.pair_data import PairData, PairSplits
from experiments.weak_supervision.evaluation import (
    Evaluated,
    bound_columns,
    bound_profile,
    count_columns,
    evaluate,
)
from experiments.weak_supervision.group_vae import GroupVAE
from experiments.weak_supervision.pair_by_pair import confusion, pair_columns
from experiments.weak_supervision.pictures import PICTURED_SHARED, TABLE, VALUES, picture_table
from experiments.weak_supervision.told_apart import told_apart_columns
from experiments.weak_supervision.training import PairTraining, TrainingSettings

log = logging.getLogger("experiments")
PICTURED_PAIRS = 4
# Streams of the run's seed; the methods share all of them.
MODEL_STREAM, NOISE_STREAM, TRAIN_STREAM, TEST_STREAM, PROFILE_STREAM, APART_STREAM = range(6)


@settings
class WeakSupervision:
    """Trains one method and scores it.

    Attributes:
        data: pairs.
        model: makes the untrained model.
        training: see there.
        evaluation_train_pairs: pairs that the classifiers are fitted on.
        evaluation_test_pairs: pairs for all scores.
        profile_pairs: pairs for the bound at every fixed k.
        checkpoint_every: epochs between two checkpoints.
        keep_model: keep the trained weights beside the results, as ``model.pt``.
        max_minutes: stop at the first checkpoint after so much time; the same command goes on. None: no limit.
    """

    one_seed_tables: ClassVar[tuple[str, ...]] = (TABLE,)
    headline_metrics: ClassVar[dict[str, str]] = {"epoch/bound": "last", "epoch/expected_count": "last"}

    data: PairData
    model: Callable[[], GroupVAE]
    training: TrainingSettings
    evaluation_train_pairs: PositiveInt
    evaluation_test_pairs: PositiveInt
    profile_pairs: PositiveInt
    checkpoint_every: PositiveInt
    keep_model: bool
    max_minutes: Positive | None

    def __post_init__(self) -> None:
        """Tries the model, so that a setting that it refuses is known before anything starts."""
        try:
            model = self._untrained(0)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"model.{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
        if model.fit_pairs:
            every, training = model.fit_every_steps, self.training
            if every % training.chunk_steps:
                raise ValueError(
                    f"model.fit_every_steps must be a multiple of training.chunk_steps, got {every} and "
                    f"{training.chunk_steps}"
                )
            if training.steps // every * every < max(training.annealing_steps, 1):
                raise ValueError(
                    f"{type(model).__name__} would never be fitted: model.fit_every_steps is {every}, "
                    f"training.annealing_steps {training.annealing_steps}, training.steps {training.steps}"
                )
        factors = len(self.data.factors)
        if model.needs_every_factor and model.num_latents < factors:
            name = type(model).__name__
            raise ValueError(
                f"model.num_latents is {model.num_latents}; {name} needs one for each of the {factors} factors"
            )

    @property
    def idle_settings(self) -> frozenset[str]:
        """Those of the method, and what the other settings leave without work."""
        model, training = self._untrained(0), self.training
        idle = set(model.idle_settings)
        if self.data.shared == 0 and self.data.pairing == "fixed_set":
            idle.add("data.pairing")
        if training.initial_temperature == training.final_temperature and not model.fit_pairs:
            idle.add("training.annealing_steps")
        return frozenset(idle)

    def _untrained(self, seed: int) -> GroupVAE:
        """A model whose weights torch's own generator gives."""
        with default_generator_lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.model()

    @staticmethod
    def keep_lines(table: str, row: Row, lines: pd.DataFrame) -> pd.DataFrame | None:
        """What the collected results take of a run's table."""
        pictured = not row.changes and str(row.axes["shared"]) == str(PICTURED_SHARED)
        return lines if table != TABLE or pictured else None

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``, ``accuracies``, ``profile``, ``history``, ``pictures``; of random pairs ``counts``."""
        splits = self.data.load(context.data_directory)
        images, batch = len(splits.train.images), self.training.batch_size
        if batch > images:
            raise ExperimentError(
                f"training.batch_size is {batch} pairs, but {splits.images.name} has {images} training images; take a "
                "smaller batch or more positions"
            )
        # What would fail after the training fails before it.
        splits.test.sample(self.evaluation_test_pairs, context.generator(TEST_STREAM))
        training = PairTraining(
            model=self._untrained(context.generator(MODEL_STREAM).initial_seed()),
            images=splits.images,
            sampler=splits.train,
            settings=self.training,
            noise_seed=context.generator(NOISE_STREAM).initial_seed(),
        )
        self._fit(context, training)
        model = training.model.to(training.generator.device).eval()
        if self.keep_model:
            context.save_model(model.state_dict())
        return self._tables(context, splits, model, training)

    def _fit(self, context: RunContext, training: PairTraining) -> None:
        callbacks: list[pl.Callback] = [RateEstimate()]
        if self.max_minutes is not None:
            callbacks.append(_StopAfter(self.max_minutes, self.checkpoint_every))
        epochs, every = self.training.epochs, self.checkpoint_every
        context.fit(training, training.loader(), max_epochs=epochs, checkpoint_every=every, callbacks=callbacks)
        if training.steps_taken < self.training.steps:
            limit = "by the trainer" if self.max_minutes is None else f"after max_minutes={self.max_minutes:g}"
            raise ExperimentError(
                f"stopped {limit}, at step {training.steps_taken} of {self.training.steps}; the same command goes on"
            )

    def _tables(
        self, context: RunContext, splits: PairSplits, model: GroupVAE, training: PairTraining
    ) -> dict[str, pd.DataFrame]:
        temperature, images, device = (
            training.annealing(training.steps_taken),
            training.images,
            training.generator.device,
        )
        train, test = (
            evaluate(model, images, sampler.to(device), pairs, temperature, context.generator(stream, device))
            for sampler, pairs, stream in (
                (splits.train, self.evaluation_train_pairs, TRAIN_STREAM),
                (splits.test, self.evaluation_test_pairs, TEST_STREAM),
            )
        )
        profile = bound_profile(
            model, images, splits.test.to(device), self.profile_pairs, context.generator(PROFILE_STREAM, device)
        )
        told_apart = told_apart_columns(
            model, images, splits.test.to(device), self.evaluation_test_pairs, context.generator(APART_STREAM, device)
        )
        started = time.perf_counter()
        accuracies: pd.DataFrame = run_beside(subset_accuracies, train.encoded, test.encoded)
        shared_accuracy, independent_accuracy = average_accuracies(accuracies)
        log.info("  classifiers: %.0f s", time.perf_counter() - started)
        random = self.data.shared == "random"
        metrics = {
            "image_size": self.data.image_size,
            "latents": model.num_latents,
            "steps": self.training.steps,
            "batch_size": self.training.batch_size,
            "learning_rate": self.training.learning_rate,
            "final_temperature": self.training.final_temperature,
            **count_columns(test),
            **told_apart,
            **pair_columns(train, test, random),
            "shared_accuracy": shared_accuracy,
            "independent_accuracy": independent_accuracy,
            **bound_columns(test),
        }
        summary = {f"test/{name}": metrics[name] for name in ("expected_count", "count_error", "independent_accuracy")}
        if not math.isnan(shared_accuracy):
            summary["test/shared_accuracy"] = shared_accuracy
        context.log_summary(summary)
        counts = {"counts": confusion(test)} if random else {}
        return {
            **counts,
            "metrics": pd.DataFrame([metrics]),
            "accuracies": accuracies,
            "profile": profile,
            "history": pd.DataFrame(training.history),
            TABLE: _pictures(splits.images, model.cpu(), test),
        }


@torch.no_grad()
def _pictures(images: FactorImages, model: GroupVAE, test: Evaluated) -> pd.DataFrame:
    """Reconstructions of the first test pairs, and traversals of the first view's latents, the most active first."""

    def decoded(latents: torch.Tensor) -> torch.Tensor:
        values = (255 * torch.sigmoid(model.decode(latents.flatten(0, 1)))).round().to(torch.uint8)
        return values.movedim(1, -1).unflatten(0, latents.shape[:2])

    index = images.grid.index_of(test.encoded.factors[:PICTURED_PAIRS]).flatten()
    views = test.aggregated[:PICTURED_PAIRS].flatten(0, 1)
    order = test.divergence.argsort(descending=True, stable=True)
    moved = test.means[0, 0].repeat(len(order), len(VALUES), 1)
    for place, latent in enumerate(order.tolist()):
        moved[place, :, latent] = moved.new_tensor(VALUES)
    both = torch.stack([images.gather(index).cpu(), decoded(views.unsqueeze(0))[0]])
    return picture_table({"reconstructions": both.numpy(), "traversals": decoded(moved).numpy()})


class _StopAfter(pl.Callback):
    """Stops at the first checkpoint after a time has passed: between two nothing would be kept."""

    def __init__(self, minutes: float, checkpoint_every: int) -> None:
        self.seconds = 60 * minutes
        self.checkpoint_every = checkpoint_every
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        kept = (trainer.current_epoch + 1) % self.checkpoint_every == 0
        if kept and time.perf_counter() - self.started > self.seconds:
            trainer.should_stop = True
