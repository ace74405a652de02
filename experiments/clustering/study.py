"""What makes the start good: pretraining alone, scored. Rows differ in one setting each."""

from __future__ import annotations

import pandas as pd

from experiments.clustering import results
from experiments.clustering.data import ClusteringData, check_enough
from experiments.clustering.pretraining import Pretraining
from experiments.clustering.scores import score
from experiments.clustering.training import assign_all
from experiments.common.context import RunContext


class PretrainingStudy:
    """Pretrains and scores; labels are used for the scores alone.

    Args:
        data: the dataset version.
        pretraining: what is studied.
        num_clusters: K.
        batch_size: of the training that would follow.
    """

    def __init__(self, *, data: ClusteringData, pretraining: Pretraining, num_clusters: int, batch_size: int) -> None:
        self.data = data
        self.pretraining = pretraining
        self.num_clusters = num_clusters
        self.batch_size = batch_size

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``: one line per stage (``found``: by the mixture; ``start``: by the VaDE) and split."""
        splits = self.data.load(context.data_directory)
        check_enough(splits, self.num_clusters)
        pretrained = self.pretraining.run(context, splits, self.num_clusters)
        vade = self.pretraining.vade(context, self.num_clusters)
        vade.load_state_dict(pretrained.state)
        facts = {"version": splits.version, "data": splits.name}
        found = score(pretrained.assignments, splits.train_labels, self.num_clusters)
        first = {
            **facts,
            "stage": "found",
            "split": "train",
            "digits": len(splits.train_labels),
            "accuracy": found.accuracy,
            "nmi": found.nmi,
            "ari": found.ari,
        }
        clusters = {
            "test": assign_all(vade, splits.test_images, self.batch_size)[0],
            "train": assign_all(vade, splits.train_images, self.batch_size)[0],
        }
        start = results.split_metrics(facts, "start", splits, clusters, self.num_clusters)
        metrics = pd.DataFrame([first, *start])
        metrics["reconstruction_loss"] = pretrained.reconstruction_loss
        metrics["log_likelihood"] = pretrained.log_likelihood
        context.log_summary({"found/accuracy": found.accuracy})
        return {"metrics": metrics}
