"""What makes the start good: pretraining alone, scored; labels are used for the scores alone."""

from __future__ import annotations

import pandas as pd

from experiments.clustering import evaluation
from experiments.clustering.experiment import ClusteringExperiment
from experiments.clustering.scores import score
from experiments.context import RunContext
from experiments.settings import settings


@settings
class PretrainingStudy(ClusteringExperiment):
    """Pretrains and scores, and leaves the training that would follow out."""

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
