"""Clustering scores against brute force and formulas written out here."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from experiments.clustering.scores import confusion, score


def random_case(num_clusters: int, num_classes: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (samples,), generator=generator)
    noise = torch.randint(num_clusters, (samples,), generator=generator)
    keep = torch.rand(samples, generator=generator) < 0.5
    return torch.where(keep, labels % num_clusters, noise), labels


def best_accuracy(clusters: Tensor, labels: Tensor, num_clusters: int, num_classes: int) -> float:
    """Tries every one-to-one matching; classes beyond the last stand for 'none'."""
    names = range(max(num_clusters, num_classes))
    return max(
        sum(choice[cluster] == label for cluster, label in zip(clusters.tolist(), labels.tolist(), strict=True))
        for choice in permutations(names, num_clusters)
    ) / len(labels)


@pytest.mark.parametrize(("num_clusters", "num_classes"), [(4, 4), (3, 5), (5, 3), (1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_that_of_the_best_matching(num_clusters: int, num_classes: int, seed: int) -> None:
    clusters, labels = random_case(num_clusters, num_classes, 40, seed)
    result = score(clusters, labels, num_clusters, num_classes)
    assert result.accuracy == pytest.approx(best_accuracy(clusters, labels, num_clusters, num_classes))
    assert result.accuracy == pytest.approx((torch.tensor(result.matching)[clusters] == labels).double().mean().item())
    given = [one for one in result.matching if one != -1]
    assert len(given) == len(set(given)) == min(num_clusters, num_classes)


def test_hand_made_cases() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    perfect = score(torch.tensor([2, 2, 2, 0, 0, 1]), labels, 3, 3)
    assert perfect == (pytest.approx(1), pytest.approx(1), pytest.approx(1), (1, 2, 0))
    # Cluster 0 holds classes 0 and 1, so one of them is lost; the larger one counts.
    merged = score(torch.tensor([0, 0, 0, 0, 0, 1]), labels, 2, 3)
    assert merged.accuracy == pytest.approx(4 / 6)
    assert merged.matching == (0, 2)
    everything_in_one = score(torch.zeros(6, dtype=torch.long), labels, 3, 3)
    assert everything_in_one.accuracy == pytest.approx(3 / 6)
    assert everything_in_one.nmi == everything_in_one.ari == 0
    # The greedy choice (cluster 0 to class 0 with 3 samples) is worse than 2 + 3.
    greedy = score(torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 0, 0, 0]), 2, 2)
    assert greedy.accuracy == pytest.approx(5 / 8)
    assert greedy.matching == (1, 0)


def test_an_empty_cluster_is_counted_as_such() -> None:
    clusters, labels = torch.tensor([0, 0, 2, 2, 2], dtype=torch.uint8), torch.tensor([1, 1, 0, 0, 2])
    assert confusion(clusters, labels, 3, 3).tolist() == [[0, 2, 0], [0, 0, 0], [2, 0, 1]]
    assert score(clusters, labels, 3, 3).matching == (1, 2, 0)


@pytest.mark.parametrize(
    ("clusters", "labels", "message"),
    [
        ([0, 1], [0, 10], r"labels must be in 0..9, got 0 to 10"),  # the next cluster's first class otherwise
        ([0, 2], [0, 1], r"clusters must be in 0..1, got 0 to 2"),
        ([-1, 0], [3, 3], r"clusters must be in 0..1, got -1 to 0"),
    ],
)
def test_what_lies_outside_is_refused(clusters: list[int], labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(torch.tensor(clusters), torch.tensor(labels), 2)


def test_what_is_no_number_of_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clusters must be integers, got torch.float32"):
        score(torch.tensor([0.5, 1.0]), torch.tensor([0, 1]), 2)
