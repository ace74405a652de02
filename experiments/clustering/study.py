"""What makes the start good: pretraining alone, scored; labels are used for the scores alone."""

from __future__ import annotations

import pandas as pd

from experiments.clustering import evaluation
from experiments.clustering.data import ClusteringData
from experiments.clustering.pretraining.pretraining import Pretraining
from experiments.clustering.scores import score
from experiments.context import RunContext
from experiments.settings import PositiveInt, settings


@settings
class PretrainingStudy:
    """Pretrains and scores.

    Attributes:
        data: the dataset version.
        pretraining: what is studied.
        num_clusters: K.
        batch_size: of the training that would follow.
    """

    data: ClusteringData
    pretraining: Pretraining
    num_clusters: PositiveInt
    batch_size: PositiveInt

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``: one line per stage (``found``: by the mixture; ``start``: by the VaDE) and split."""
        splits = self.data.load(context.data_directory, self.num_clusters)
        pretrained = self.pretraining.run(context, splits, self.num_clusters)
        vade = self.pretraining.vade(context, self.num_clusters)
        vade.load_state_dict(pretrained.state)
        found = score(pretrained.assignments, splits.train_labels, self.num_clusters)
        scores = {"accuracy": found.accuracy, "nmi": found.nmi, "ari": found.ari}
        first = {"stage": "found", "split": "train", "digits": len(splits.train_labels), **scores}
        clusters = evaluation.assignments(vade, splits, self.batch_size)
        metrics = pd.DataFrame([first, *evaluation.split_metrics("start", splits, clusters, self.num_clusters)])
        metrics["reconstruction_loss"] = pretrained.reconstruction_loss
        metrics["log_likelihood"] = pretrained.log_likelihood
        context.log_summary({"found/accuracy": found.accuracy})
        return {"metrics": metrics}
