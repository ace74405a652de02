"""The tables that a run returns."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.clustering.data import Splits
from experiments.clustering.networks import grey
from experiments.clustering.scores import NUM_CLASSES, ClusterScores, confusion, score
from experiments.clustering.training import assign_all
from experiments.clustering.vade import Terms, VaDE

SAMPLES_PER_CLUSTER = 8


def assignments(vade: VaDE, splits: Splits, batch_size: int) -> dict[str, Tensor]:
    """Cluster of every digit of every split."""
    test, train = (assign_all(vade, images, batch_size) for images in (splits.test_images, splits.train_images))
    return {"test": test, "test_subsampled": test[splits.test_subsampled], "train": train}


def split_metrics(
    stage: str, splits: Splits, clusters: Mapping[str, Tensor], num_clusters: int
) -> list[dict[str, Any]]:
    """One record per split: scores and the sizes of the clusters.

    Args:
        stage: ``found`` (by the pretraining), ``start`` (of the VaDE) or ``vade`` (trained).
        splits: the labels.
        clusters: of :func:`assignments`, or of some of its splits.
        num_clusters: K.
    """
    records = []
    for split, assigned in clusters.items():
        scores = score(assigned, splits.labels[split], num_clusters)
        sizes = torch.bincount(assigned, minlength=num_clusters)
        records.append(
            {
                "stage": stage,
                "split": split,
                "digits": len(assigned),
                "accuracy": scores.accuracy,
                "nmi": scores.nmi,
                "ari": scores.ari,
                "empty_clusters": int((sizes == 0).sum()),
                "smallest_cluster": int(sizes.min()) / len(assigned),
            }
        )
    return records


@torch.no_grad()
def mean_terms(
    vade: VaDE, images: Tensor, batch_size: int, temperature: float, generator: torch.Generator
) -> dict[str, float]:
    """Mean of the bound and its terms over uint8 images [digits, pixels], in batches of training's size.

    The generator is on the model's device.
    """
    total = torch.zeros(len(Terms._fields), dtype=torch.float64)
    device = generator.device
    scalar = torch.full((), temperature, device=device)
    for part in images.split(batch_size):
        terms, _ = vade.terms(grey(part.to(device)), vade.draw_noise(len(part), generator), scalar)
        total += torch.stack(terms).double().cpu() * len(part)
    means = total / len(images)
    return {"elbo": float(means.sum()), **dict(zip(Terms._fields, means.tolist()))}


@torch.no_grad()
def weight_table(
    vade: VaDE, splits: Splits, train_clusters: Tensor, scores: ClusterScores, batch_size: int
) -> pd.DataFrame:
    """Learned and true frequencies per cluster (Figure 3)."""
    num_clusters = vade.prior.num_clusters
    classes = torch.bincount(splits.train_labels, minlength=NUM_CLASSES).double() / len(splits.train_labels)
    sizes = torch.bincount(train_clusters, minlength=num_clusters).double() / len(train_clusters)
    log_weights = vade.prior.log_weights()
    deviations = (0.5 * vade.mixture.log_variances).exp().amin(-1)
    return pd.DataFrame(
        {
            "cluster": range(num_clusters),
            "matched_class": scores.matching,
            "true_frequency": [float(classes[one]) if one >= 0 else float("nan") for one in scores.matching],
            "learned_frequency": vade.prior.law(batch_size).log_probabilities.exp().tolist(),
            "log_weight": [float("nan")] * num_clusters if log_weights is None else log_weights.tolist(),
            "train_fraction": sizes.tolist(),
            "smallest_standard_deviation": deviations.tolist(),
        }
    )


def confusion_table(clusters: Tensor, labels: Tensor, num_clusters: int) -> pd.DataFrame:
    """Test digits per cluster and class, a long table."""
    counts = confusion(clusters, labels, num_clusters)
    index = pd.MultiIndex.from_product([range(num_clusters), range(NUM_CLASSES)], names=["cluster", "class"])
    return pd.DataFrame({"digits": counts.flatten().tolist()}, index=index).reset_index()


def generated_table(vade: VaDE, matching: Sequence[int], generator: torch.Generator) -> pd.DataFrame:
    """Generated digits of every cluster, as base64 of bytes."""
    pixels = (vade.generate(SAMPLES_PER_CLUSTER, generator) * 255).round().to(torch.uint8).cpu()
    records = [
        {
            "cluster": cluster,
            "matched_class": matching[cluster],
            "sample": sample,
            "pixels": base64.b64encode(image.numpy().tobytes()).decode(),
        }
        for cluster, images in enumerate(pixels)
        for sample, image in enumerate(images)
    ]
    return pd.DataFrame(records)
