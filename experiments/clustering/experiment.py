"""One cell of Table 2, a prior on a dataset version, and the study of what it starts from."""

from __future__ import annotations

import logging
from typing import ClassVar

import pandas as pd
from torch import Tensor

from experiments.axes import Row
from experiments.clustering import evaluation
from experiments.clustering.blocks import is_shown
from experiments.clustering.data import ClusteringData, Splits
from experiments.clustering.digit_training import fit
from experiments.clustering.pretraining.pretraining import Pretrained, Pretraining
from experiments.clustering.priors import Prior
from experiments.clustering.scores import score
from experiments.clustering.training import TrainingSettings, VaDETraining, assign_all
from experiments.clustering.vade import VaDE
from experiments.context import RunContext
from experiments.settings import PositiveInt, settings
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
    one_seed_tables: ClassVar[tuple[str, ...]] = ("generated", "latent")  # pictures, large

    data: ClusteringData
    pretraining: Pretraining
    prior: Prior
    training: TrainingSettings
    checkpoint_every: PositiveInt
    keep_model: bool

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``, ``weights``, ``confusion``, ``history``, ``generated`` and ``latent``."""
        splits, pretrained, vade = self.start(context)
        at_start = evaluation.assignments(vade, splits, self.training.batch_size)  # with the uniform prior
        vade.prior = self.prior
        self.prior.initialise(pretrained.probabilities)
        model = VaDETraining(
            vade=vade,
            splits=splits,
            settings=self.training,
            noise_seed=context.generator(NOISE_STREAM).initial_seed(),
        )
        order_seed, every = context.generator(ORDER_STREAM).initial_seed(), self.checkpoint_every
        fit(context, model, self.training.max_epochs, context.directory, order_seed, every, [RateEstimate()])
        if self.keep_model:
            context.save_model(model.vade.state_dict())
        return self._tables(context, splits, model.cpu(), at_start)

    @staticmethod
    def keep_lines(name: str, row: Row, lines: pd.DataFrame) -> pd.DataFrame | None:
        """What the collected results keep of a table: of a study the scores, and pictures where they are shown."""
        if row.experiment != "clustering":
            return lines if name == "metrics" else None
        is_picture = name in ClusteringExperiment.one_seed_tables
        return lines if not is_picture or (is_shown(name, row.axes) and not row.changes) else None

    def start(self, context: RunContext) -> tuple[Splits, Pretrained, VaDE]:
        """The digits, what the pretraining found, and the VaDE as it leaves it, with the uniform prior."""
        splits = self.data.load(context.data_directory, self.prior.num_clusters)
        pretrained = self.pretraining.run(context, splits, self.prior.num_clusters)
        vade = self.pretraining.vade(context, self.prior.num_clusters)
        vade.load_state_dict(pretrained.state)
        return splits, pretrained, vade

    def _tables(
        self, context: RunContext, splits: Splits, model: VaDETraining, at_start: dict[str, Tensor]
    ) -> dict[str, pd.DataFrame]:
        vade, num_clusters, batch_size = model.vade, self.prior.num_clusters, self.training.batch_size
        test_clusters, test_means = assign_all(vade, splits.test_images, batch_size)
        train_clusters, _ = assign_all(vade, splits.train_images, batch_size)
        trained = evaluation.split_metrics(
            "vade", splits, {"test": test_clusters, "train": train_clusters}, num_clusters
        )
        images = {
            "test": splits.test_images,
            "test_subsampled": splits.test_images[splits.test_subsampled],
            "train": splits.train_images,
        }
        for record in trained:
            generator = context.generator(EVALUATION_STREAM)
            record |= evaluation.mean_terms(
                vade, images[record["split"]], batch_size, model.next_temperature(), generator
            )
        metrics = pd.DataFrame([*evaluation.split_metrics("start", splits, at_start, num_clusters), *trained])
        metrics["epochs"] = self.training.max_epochs
        metrics["pretraining"] = self.pretraining.method
        scores = score(test_clusters, splits.test_labels, num_clusters)
        if empty := int(trained[-1]["empty_clusters"]):
            log.warning("  %d of %d clusters hold no training digit", empty, num_clusters)
        context.log_summary({"test/accuracy": scores.accuracy, "test/nmi": scores.nmi, "test/ari": scores.ari})
        return {
            "metrics": metrics,
            "weights": evaluation.weight_table(vade, splits, train_clusters, scores, batch_size),
            "confusion": evaluation.confusion_table(test_clusters, splits.test_labels, num_clusters),
            "history": pd.DataFrame(model.history),
            "generated": evaluation.generated_table(vade, scores.matching, context.generator(GENERATED_STREAM)),
            "latent": evaluation.latent_table(test_means, test_clusters, splits.test_labels),
        }


@settings
class PretrainingStudy(ClusteringExperiment):
    """Pretrains and scores, and leaves out the training that would follow: what makes the start good?"""

    headline_metrics: ClassVar[dict[str, str]] = {}

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``: one line per stage (``found``: by the mixture; ``start``: by the VaDE) and split."""
        num_clusters = self.prior.num_clusters
        splits, pretrained, vade = self.start(context)
        found = score(pretrained.assignments, splits.train_labels, num_clusters)
        scores = {"accuracy": found.accuracy, "nmi": found.nmi, "ari": found.ari}
        first = {"stage": "found", "split": "train", "digits": len(splits.train_labels), **scores}
        clusters = evaluation.assignments(vade, splits, self.training.batch_size)
        metrics = pd.DataFrame([first, *evaluation.split_metrics("start", splits, clusters, num_clusters)])
        metrics["reconstruction_loss"] = pretrained.reconstruction_loss
        metrics["log_likelihood"] = pretrained.log_likelihood
        context.log_summary({"found/accuracy": found.accuracy})
        return {"metrics": metrics}
