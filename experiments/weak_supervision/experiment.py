"""One cell of Table 1 and Figure 2: a method on pairs that share s factors."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from experiments.common.checks import require_integer, require_number
from experiments.common.context import RunContext
from experiments.common.errors import ExperimentError
from experiments.common.progress import RateEstimate
from experiments.weak_supervision.classification import average_accuracies, subset_accuracies
from experiments.weak_supervision.data import PairData, PairSplits
from experiments.weak_supervision.evaluation import (
    Evaluated,
    active_latents,
    bound_columns,
    bound_profile,
    count_errors,
    evaluate,
)
from experiments.weak_supervision.group_vae import GroupVAE
from experiments.weak_supervision.images import FactorImages
from experiments.weak_supervision.training import PairTraining, TrainingSettings
from experiments.weak_supervision.traversals import reconstruction_table, traversal_table

log = logging.getLogger("experiments")
# Streams of the run's seed; the methods share all of them.
MODEL_STREAM, NOISE_STREAM, TRAIN_STREAM, TEST_STREAM, PROFILE_STREAM = range(5)
TRAVERSED = tuple(-2 + 4 * step / 6 for step in range(7))  # values of a latent, prior standard deviations
PICTURED_PAIRS = 4


class WeakSupervision:
    """Trains one method and scores it.

    Args:
        method: name of the method, for the tables.
        variant: what an ablation changes about it, for the tables; empty for the method itself.
        data: pairs.
        model: makes the untrained model.
        training: see there.
        evaluation_train_pairs: pairs that the classifiers are fitted on.
        evaluation_test_pairs: pairs for all scores.
        profile_pairs: pairs for the bound at every fixed k.
        checkpoint_every: epochs between two checkpoints.
        keep_model: keep the trained weights beside the results, as ``model.pt``.
        max_minutes: stop at the first checkpoint after so much time; the same command goes on. None: no limit.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    headline_metrics = {"epoch/bound": "last", "epoch/expected_count": "last"}  # noqa: RUF012

    def __init__(
        self,
        *,
        method: str,
        variant: str,
        data: PairData,
        model: Callable[[], GroupVAE],
        training: TrainingSettings,
        evaluation_train_pairs: int,
        evaluation_test_pairs: int,
        profile_pairs: int,
        checkpoint_every: int,
        keep_model: bool,
        max_minutes: float | None,
    ) -> None:
        for name, value in (
            ("evaluation_train_pairs", evaluation_train_pairs),
            ("evaluation_test_pairs", evaluation_test_pairs),
            ("profile_pairs", profile_pairs),
            ("checkpoint_every", checkpoint_every),
        ):
            require_integer(name, value, 1)
        if not isinstance(keep_model, bool):
            raise ValueError(f"keep_model must be true or false, got {keep_model!r}")
        if max_minutes is not None:
            require_number("max_minutes", max_minutes, above=True)
        self.method = method
        self.variant = variant
        self.data = data
        self.model = model
        self.training = training
        self.evaluation_train_pairs = evaluation_train_pairs
        self.evaluation_test_pairs = evaluation_test_pairs
        self.profile_pairs = profile_pairs
        self.checkpoint_every = checkpoint_every
        self.keep_model = keep_model
        self.max_minutes = max_minutes
        self.model()  # so that a setting that it refuses is known before anything starts

    def load_images(self, context: RunContext) -> FactorImages:
        """The images of the run's data."""
        return self.data.load_images(context.data_directory)

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``, ``accuracies``, ``profile``, ``history``, ``traversals`` and ``reconstructions``."""
        splits = self.data.load(context.data_directory)
        images, batch = len(splits.train.images), self.training.batch_size
        if batch > images:
            raise ExperimentError(
                f"training.batch_size is {batch} pairs, but {splits.images.name} has {images} training images; take a "
                "smaller batch or more positions"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.generator(MODEL_STREAM).initial_seed())
            model = self.model()
        training = PairTraining(
            model=model,
            images=splits.images,
            sampler=splits.train,
            settings=self.training,
            noise_seed=context.generator(NOISE_STREAM).initial_seed(),
        )
        self._fit(context, training)
        model = training.model.cpu().eval()
        if self.keep_model:
            context.save_model(model.state_dict())
        return self._tables(context, splits, model, training)

    def _fit(self, context: RunContext, training: PairTraining) -> None:
        callbacks: list[pl.Callback] = [
            ModelCheckpoint(
                context.directory,
                filename="last",
                save_on_train_epoch_end=True,
                enable_version_counter=False,
                every_n_epochs=self.checkpoint_every,
            ),
            RateEstimate(),
        ]
        if self.max_minutes is not None:
            callbacks.append(_StopAfter(self.max_minutes, self.checkpoint_every))
        trainer = context.trainer(max_epochs=self.training.epochs, callbacks=callbacks, use_distributed_sampler=False)
        trainer.fit(training, training.loader(trainer.world_size), ckpt_path=context.checkpoint_path, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if training.steps_taken < self.training.steps:
            limit = "by the trainer" if self.max_minutes is None else f"after max_minutes={self.max_minutes:g}"
            raise ExperimentError(
                f"stopped {limit}, at step {training.steps_taken} of {self.training.steps}; the same command goes on"
            )

    def _tables(
        self, context: RunContext, splits: PairSplits, model: GroupVAE, training: PairTraining
    ) -> dict[str, pd.DataFrame]:
        facts = {
            "method": self.method,
            "variant": self.variant,
            "shared": self.data.shared,
            "data": splits.images.name,
            "image_size": self.data.image_size,
        }
        temperature = training.annealing(training.steps_taken)
        train, test = (
            evaluate(model, splits.images, sampler, pairs, temperature, context.generator(stream))
            for sampler, pairs, stream in (
                (splits.train, self.evaluation_train_pairs, TRAIN_STREAM),
                (splits.test, self.evaluation_test_pairs, TEST_STREAM),
            )
        )
        started = time.perf_counter()
        accuracies = subset_accuracies(train.encoded, test.encoded)
        shared_accuracy, independent_accuracy = average_accuracies(accuracies)
        log.info("  classifiers: %.0f s", time.perf_counter() - started)
        counts = count_errors(test, self.data.shared)
        metrics = {
            **facts,
            "latents": model.num_latents,
            "steps": self.training.steps,
            "batch_size": self.training.batch_size,
            "learning_rate": self.training.learning_rate,
            "final_temperature": self.training.final_temperature,
            **counts,
            "shared_accuracy": shared_accuracy,
            "independent_accuracy": independent_accuracy,
            **bound_columns(test),
            "active_latents": active_latents(test),
        }
        summary = {f"test/{name}": metrics[name] for name in ("expected_count", "count_error", "independent_accuracy")}
        if not math.isnan(shared_accuracy):
            summary["test/shared_accuracy"] = shared_accuracy
        context.log_summary(summary)
        profile = bound_profile(
            model, splits.images, splits.test, self.profile_pairs, context.generator(PROFILE_STREAM)
        )
        return {
            "metrics": pd.DataFrame([metrics]),
            "accuracies": accuracies.assign(**facts),
            "profile": profile.assign(**facts),
            "history": pd.DataFrame(training.history).assign(**facts),
            **self._pictures(splits, model, test),
        }

    def _pictures(self, splits: PairSplits, model: GroupVAE, test: Evaluated) -> dict[str, pd.DataFrame]:
        def decode(latents: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(model.decode(latents))

        encoded = test.encoded
        index = splits.images.grid.index_of(encoded.factors[:PICTURED_PAIRS])  # [pairs, 2]
        originals = splits.images.gather(index.flatten()).unflatten(0, index.shape)
        return {
            "traversals": traversal_table(decode, test.means[0, 0], TRAVERSED, test.divergence),
            "reconstructions": reconstruction_table(decode, encoded.means[:PICTURED_PAIRS], originals),
        }


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
