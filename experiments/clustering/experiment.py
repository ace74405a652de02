"""One cell of Table 2: a prior on a dataset version."""

from __future__ import annotations

import logging

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from experiments.clustering import results
from experiments.clustering.corruption import Corruption
from experiments.clustering.data import ClusteringData, Splits, check_enough, index_chunks
from experiments.clustering.pretraining import Pretrained, Pretraining
from experiments.clustering.priors import Prior
from experiments.clustering.scores import score
from experiments.clustering.training import TrainingSettings, VaDETraining, assign_all
from experiments.clustering.vade import VaDE
from experiments.common.checks import require_integer
from experiments.common.context import RunContext
from experiments.common.progress import RateEstimate

log = logging.getLogger("experiments")
# Streams of the run's seed; the priors share all of them.
ORDER_STREAM, NOISE_STREAM, EVALUATION_STREAM, GENERATED_STREAM = range(4)
STEPS_PER_CHUNK = 50


class ClusteringExperiment:
    """Pretrains (or takes the cache), trains the VaDE with one prior, and scores it.

    Args:
        data: the dataset version.
        pretraining: how autoencoder and mixture are made.
        prior: p(c; pi).
        prior_name: for the tables.
        training: of the VaDE.
        corruption: of what the VaDE's encoder sees in training.
        checkpoint_every: epochs between two checkpoints.
        keep_model: keep the trained weights beside the results, as ``model.pt``.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    headline_metrics = {"epoch/test_accuracy": "last", "epoch/elbo": "last"}  # noqa: RUF012

    def __init__(
        self,
        *,
        data: ClusteringData,
        pretraining: Pretraining,
        prior: Prior,
        prior_name: str,
        training: TrainingSettings,
        corruption: Corruption,
        checkpoint_every: int,
        keep_model: bool,
    ) -> None:
        require_integer("checkpoint_every", checkpoint_every, 1)
        if not isinstance(keep_model, bool):
            raise ValueError(f"keep_model must be true or false, got {keep_model!r}")
        self.data = data
        self.pretraining = pretraining
        self.prior = prior
        self.prior_name = prior_name
        self.training = training
        self.corruption = corruption
        self.checkpoint_every = checkpoint_every
        self.keep_model = keep_model

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``, ``weights``, ``confusion``, ``history``, ``generated`` and ``latent``."""
        splits = self.data.load(context.data_directory)
        check_enough(splits, self.prior.num_clusters)
        pretrained = self.pretraining.run(context, splits, self.prior.num_clusters)
        vade = self.start(context, pretrained)
        vade.prior = self.prior
        self.prior.initialise(pretrained.probabilities)
        model = VaDETraining(
            vade=vade,
            splits=splits,
            settings=self.training,
            corruption=self.corruption,
            noise_seed=context.generator(NOISE_STREAM).initial_seed(),
        )
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
        trainer = context.trainer(max_epochs=self.training.max_epochs, callbacks=callbacks)
        order = context.generator(ORDER_STREAM).initial_seed()
        chunks = index_chunks(len(splits.train_images), self.training.batch_size, STEPS_PER_CHUNK, order)
        trainer.fit(model, chunks, ckpt_path=context.checkpoint_path, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if self.keep_model:
            context.save_model(model.vade.state_dict())
        return self._tables(context, splits, model.cpu(), pretrained)

    def start(self, context: RunContext, pretrained: Pretrained) -> VaDE:
        """The model as pretraining leaves it, with the uniform prior."""
        vade = self.pretraining.vade(context, self.prior.num_clusters)
        vade.load_state_dict(pretrained.state)
        return vade

    def _tables(
        self, context: RunContext, splits: Splits, model: VaDETraining, pretrained: Pretrained
    ) -> dict[str, pd.DataFrame]:
        num_clusters, batch_size = self.prior.num_clusters, self.training.batch_size
        facts = {
            "prior": self.prior_name,
            "version": splits.version,
            "ratio": self.data.ratio,
            "data": splits.name,
        }
        start = self.start(context, pretrained)
        at_start = {
            "test": assign_all(start, splits.test_images, batch_size)[0],
            "train": assign_all(start, splits.train_images, batch_size)[0],
        }
        vade = model.vade
        test_clusters, test_means = assign_all(vade, splits.test_images, batch_size)
        train_clusters, _ = assign_all(vade, splits.train_images, batch_size)
        records = results.split_metrics(facts, "start", splits, at_start, num_clusters)
        trained = results.split_metrics(
            facts, "vade", splits, {"test": test_clusters, "train": train_clusters}, num_clusters
        )
        images = {
            "test": splits.test_images,
            "test_subsampled": splits.test_images[splits.test_subsampled],
            "train": splits.train_images,
        }
        temperature = model.annealing(model.steps_taken)
        for record in trained:
            generator = context.generator(EVALUATION_STREAM)
            record |= results.mean_terms(vade, images[record["split"]], batch_size, temperature, generator)
        metrics = pd.DataFrame([*records, *trained])
        metrics["epochs"] = self.training.max_epochs
        metrics["pretraining"] = self.pretraining.method
        scores = score(test_clusters, splits.test_labels, num_clusters)
        empty = int(trained[-1]["empty_clusters"])
        if empty:
            log.warning("  %d of %d clusters hold no training digit", empty, num_clusters)
        context.log_summary({"test/accuracy": scores.accuracy, "test/nmi": scores.nmi, "test/ari": scores.ari})
        return {
            "metrics": metrics,
            "weights": results.weight_table(facts, vade, splits, train_clusters, scores, batch_size),
            "confusion": results.confusion_table(test_clusters, splits.test_labels, num_clusters),
            "history": pd.DataFrame(model.history),
            "generated": results.generated_table(vade, scores.matching, context.generator(GENERATED_STREAM)),
            "latent": results.latent_table(test_means, test_clusters, splits.test_labels),
        }
