"""How well clusters agree with classes: accuracy by the best matching, mutual information, adjusted Rand index.

Labels enter here and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

NUM_CLASSES = 10
UNMATCHED = -1  # class of a cluster that is left over when there are more clusters than classes


class ClusterScores(NamedTuple):
    """Agreement of clusters with classes; 1 is the best, and a renumbering of the clusters changes none of them.

    Attributes:
        accuracy: fraction of samples whose cluster is matched to their class, clusters and classes matched one to one
            so that it is largest (Hungarian method).
        nmi: normalised mutual information, divided by the arithmetic mean of the two entropies.
        ari: adjusted Rand index; 0 is chance, negative below.
        matching: class matched to each cluster, -1 for a cluster left over. An empty cluster gets a class that is left.
    """

    accuracy: float
    nmi: float
    ari: float
    matching: tuple[int, ...]


def confusion(clusters: Tensor, labels: Tensor, num_clusters: int, num_classes: int = NUM_CLASSES) -> Tensor:
    """Counts the samples of every cluster and class, [num_clusters, num_classes] int64.

    Args:
        clusters: cluster of each sample, [samples], integers in 0..num_clusters-1; clusters may be empty.
        labels: class of each sample, [samples], integers in 0..num_classes-1.
        num_clusters: number of clusters, which may differ from that of classes.
        num_classes: number of classes.

    Raises:
        ValueError: a cluster or a label lies outside, or is no integer.
    """
    for name, values, number in (("clusters", clusters, num_clusters), ("labels", labels, num_classes)):
        if values.is_floating_point():
            raise ValueError(f"{name} must be integers, got {values.dtype}")
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < number:
            raise ValueError(f"{name} must be in 0..{number - 1}, got {int(values.min())} to {int(values.max())}")
    cells = clusters.long() * num_classes + labels.to(clusters.device).long()
    return torch.bincount(cells, minlength=num_clusters * num_classes).reshape(num_clusters, num_classes)


def score(clusters: Tensor, labels: Tensor, num_clusters: int, num_classes: int = NUM_CLASSES) -> ClusterScores:
    """Scores clusters against classes; the arguments are those of :func:`confusion`."""
    counts = confusion(clusters, labels, num_clusters, num_classes).cpu().numpy()
    matched, classes = linear_sum_assignment(counts, maximize=True)
    matching = [UNMATCHED] * num_clusters
    for cluster, of_class in zip(matched.tolist(), classes.tolist(), strict=True):
        matching[cluster] = of_class
    true, found = labels.cpu().numpy(), clusters.cpu().numpy()
    return ClusterScores(
        accuracy=float(counts[matched, classes].sum() / counts.sum()),
        nmi=float(normalized_mutual_info_score(true, found, average_method="arithmetic")),
        ari=float(adjusted_rand_score(true, found)),
        matching=tuple(matching),
    )
