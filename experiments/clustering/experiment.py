"""One cell of Table 2: a recipe and a prior on a dataset version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor

from experiments.axes import Row
from experiments.clustering import evaluation
from experiments.clustering.blocks import shows_pictures
from experiments.clustering.data import ClusteringData, Splits
from experiments.clustering.pretraining.pretraining import Pretraining
from experiments.clustering.pretraining.starts import KnownStart
from experiments.clustering.priors import Prior
from experiments.clustering.scores import NUM_CLASSES, score
from experiments.clustering.training import TrainingSettings, VaDETraining
from experiments.context import RunContext
from experiments.settings import ExperimentError, PositiveInt, settings
from experiments.training import RateEstimate

log = logging.getLogger("experiments")
# Streams of the run's seed; the priors share all of them.
ORDER_STREAM, NOISE_STREAM, EVALUATION_STREAM, GENERATED_STREAM = range(4)


@settings
class ClusteringExperiment:
    """Pretrains (or takes the cache), trains the VaDE with one prior, and scores it.

    Attributes:
        data: the dataset version.
        pretraining: how autoencoder and mixture are made.
        prior: p(c; pi).
        training: of the VaDE.
        checkpoint_every: epochs between two checkpoints.
        keep_model: keep the trained weights beside the results, as ``model.pt``.
    """

    headline_metrics: ClassVar[dict[str, str]] = {"epoch/test_accuracy": "last", "epoch/elbo": "last"}
    one_seed_tables: ClassVar[tuple[str, ...]] = ("generated", "confusion")  # one is drawn, and they are large

    data: ClusteringData
    pretraining: Pretraining
    prior: Prior
    training: TrainingSettings
    checkpoint_every: PositiveInt
    keep_model: bool

    def __post_init__(self) -> None:
        start, given = self.pretraining.start, self.prior.num_clusters
        if isinstance(start, KnownStart):
            if self.data.source != "blobs":
                raise ValueError(
                    f"pretraining.start: {type(start).__name__} reads the labels, which {self.data.source} is scored "
                    "by; it is for experiment=clustering_control alone, take recipe=n2d or recipe=vade"
                )
            if given != NUM_CLASSES:
                raise ValueError(
                    f"prior.num_clusters must be {NUM_CLASSES}, one for each known class that training starts from, "
                    f"got {given}"
                )
        elif start.mixture_digits < given:
            raise ValueError(
                f"pretraining.start.mixture_digits must be at least the {given} clusters that are looked for, got "
                f"{start.mixture_digits}"
            )

    @property
    def idle_settings(self) -> frozenset[str]:
        """Those of the prior, and what the other settings leave without work."""
        idle = self.prior.idle_settings | {f"pretraining.{name}" for name in self.pretraining.idle_settings}
        idle |= {f"training.{name}" for name in self.training.idle_settings}
        if self.data.version == "full":
            idle |= {"data.subsampled_classes"}
        return idle

    def idle_changes(self, replaced: Mapping[str, Any]) -> set[str]:
        """Of the training's learning rates."""
        of_training = {key.partition(".")[2]: value for key, value in replaced.items() if key.startswith("training.")}
        return {f"training.{name}" for name in self.training.idle_changes(of_training)}

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``, ``weights``, ``confusion``, ``history`` and ``generated``."""
        num_clusters = self.prior.num_clusters
        splits = self.data.load(context.data_directory, num_clusters)
        self._check_sizes(len(splits.train_images), context)
        pretrained = self.pretraining.run(context, splits, num_clusters)
        vade = self.pretraining.vade(context, num_clusters)
        vade.load_state_dict(pretrained.state)
        at_start = evaluation.assignments(vade, splits, self.training.batch_size)  # with the uniform prior
        vade.prior = self.prior
        model = VaDETraining(
            vade=vade,
            splits=splits,
            found=pretrained.assignments,
            settings=self.training,
            noise_seed=context.generator(NOISE_STREAM).initial_seed(),
        )
        order_seed, every = context.generator(ORDER_STREAM).initial_seed(), self.checkpoint_every
        epochs, chunks = self.training.max_epochs, model.chunks(order_seed)
        context.fit(model, chunks, max_epochs=epochs, checkpoint_every=every, callbacks=[RateEstimate()])
        if self.keep_model:
            context.save_model(model.vade.state_dict())
        return self._tables(context, splits, model, pretrained.assignments, at_start)

    def _check_sizes(self, digits: int, context: RunContext) -> None:
        """Refuses more digits at once than there are; the profile's own ``mixture_digits`` is an upper limit."""
        pretraining = self.pretraining
        sizes = {"training.batch_size": self.training.batch_size, "pretraining.batch_size": pretraining.batch_size}
        sizes["pretraining.start.neighbours"] = 1 + getattr(pretraining.start, "neighbours", 0)  # and the digit itself
        sizes["pretraining.start.dimensions"] = 2 + getattr(pretraining.start, "dimensions", 0)  # UMAP's own limit
        if (name := "pretraining.start.mixture_digits") in context.changed:
            sizes[name] = pretraining.start.mixture_digits
        for name, size in sizes.items():
            if size > digits:
                raise ExperimentError(f"experiment.{name} is too large for {digits} training digits; lower it")

    @staticmethod
    def keep_lines(name: str, row: Row, lines: pd.DataFrame) -> pd.DataFrame | None:
        """What the collected results keep of a table: of runs with changed settings and of the control no pictures.

        Of a history what is drawn, and the terms: the rest is the schedule, and scores of every epoch.
        """
        own = row.experiment == "clustering" and not row.changes
        if name == "history":
            return lines.drop(columns=["temperature", "learning_rate", "test_nmi", "test_ari"], errors="ignore")
        if name == "generated":
            return lines if own and shows_pictures(row.axes) else None
        return lines if own or name in ("metrics", "weights") else None

    def _tables(
        self, context: RunContext, splits: Splits, model: VaDETraining, found: Tensor, at_start: dict[str, Tensor]
    ) -> dict[str, pd.DataFrame]:
        device, num_clusters, batch_size = model.generator.device, self.prior.num_clusters, self.training.batch_size
        vade = model.vade.to(device)
        clusters = evaluation.assignments(vade, splits, batch_size)
        trained = evaluation.split_metrics("vade", splits, clusters, num_clusters)
        for record in trained:
            generator, images = context.generator(EVALUATION_STREAM, device), splits.images[record["split"]]
            record |= evaluation.mean_terms(vade, images, batch_size, model.next_temperature(), generator)
        before = evaluation.split_metrics("found", splits, {"train": found}, num_clusters)
        before += evaluation.split_metrics("start", splits, at_start, num_clusters)
        metrics = pd.DataFrame([*before, *trained])
        metrics["epochs"] = self.training.max_epochs
        metrics["pretraining"] = self.pretraining.method
        scores = score(clusters["test"], splits.test_labels, num_clusters)
        if empty := int(trained[-1]["empty_clusters"]):
            log.warning("  %d of %d clusters hold no training digit", empty, num_clusters)
        context.log_summary({"test/accuracy": scores.accuracy, "test/nmi": scores.nmi, "test/ari": scores.ari})
        return {
            "metrics": metrics,
            "weights": evaluation.weight_table(vade, splits, clusters["train"], scores, batch_size),
            "confusion": evaluation.confusion_table(clusters["test"], splits.test_labels, num_clusters),
            "history": pd.DataFrame(model.history),
            "generated": evaluation.generated_table(vade, scores.matching, context.generator(GENERATED_STREAM, device)),
        }
