"""The tables that a run returns, against NumPy and scikit-learn."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from experiments.axes import Row
from experiments.clustering import evaluation
from experiments.clustering.data import Splits
from experiments.clustering.experiment import ClusteringExperiment
from experiments.clustering.scores import UNMATCHED, ClusterScores, score
from tests.experiments.clustering_fits import generator
from tests.experiments.clustering_reference import (
    PRIORS,
    ReferenceBound,
    make_vade,
    parameters_of,
    prior_probabilities,
)

PIXELS = 12


def byte_images(digits: int, seed: int = 1) -> Tensor:
    return torch.randint(256, (digits, PIXELS), generator=generator(seed), dtype=torch.uint8)


def make_splits(train_labels: list[int], test_labels: list[int], kept: list[int]) -> Splits:
    train, test = torch.tensor(train_labels), torch.tensor(test_labels)
    return Splits(
        train_images=byte_images(len(train)),
        train_labels=train,
        test_images=byte_images(len(test), 2),
        test_labels=test,
        test_subsampled=torch.tensor(kept),
    )


def test_each_split_is_scored_on_its_own_digits() -> None:
    """The kept test digits are neither the first ones nor as well clustered as the rest."""
    splits = make_splits([0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 2, 2], [1, 3, 4])
    clusters = {"test": torch.tensor([3, 0, 1, 0, 3, 2]), "test_subsampled": torch.tensor([0, 0, 3])}
    clusters["train"] = torch.tensor([2, 2, 0, 0, 1, 1, 1, 0])
    records = pd.DataFrame(evaluation.split_metrics("vade", splits, clusters, 4)).set_index("split")
    assert list(records.index) == ["test", "test_subsampled", "train"]
    assert records["digits"].tolist() == [6, 3, 8]
    # By hand: the best matching of clusters to classes gets so many digits right.
    np.testing.assert_allclose(records["accuracy"], [3 / 6, 2 / 3, 7 / 8])
    truth = {"test": splits.test_labels, "train": splits.train_labels, "test_subsampled": torch.tensor([0, 1, 2])}
    for split, labels in truth.items():
        assigned = clusters[split]
        assert records.loc[split, "nmi"] == pytest.approx(normalized_mutual_info_score(labels, assigned))
        assert records.loc[split, "ari"] == pytest.approx(adjusted_rand_score(labels, assigned))
    assert records["empty_clusters"].tolist() == [0, 2, 1]
    np.testing.assert_allclose(records["smallest_cluster"], [1 / 6, 0, 0])
    filled = evaluation.split_metrics("vade", splits, clusters, 3 + 1)[0]
    assert filled["smallest_cluster"] == pytest.approx(1 / 6)
    assert (records["stage"] == "vade").all()


@pytest.mark.parametrize("prior", ["uniform", "categorical", "hypergeometric"])
def test_mean_terms_weigh_every_digit_the_same_in_a_short_last_batch_too(prior: str) -> None:
    vade, images = make_vade(PRIORS[prior](3), (PIXELS, 7, 5, 3)), byte_images(10)
    found = evaluation.mean_terms(vade, images, 4, 0.7, generator(3))
    p, source, expected = parameters_of(vade), generator(3), dict.fromkeys(list(found)[1:], 0.0)
    for part in images.split(4):  # 4, 4 and 2
        noise = vade.draw_noise(len(part), source)
        terms = ReferenceBound(vade.prior, p, part.double() / 255, noise, 0.7).terms(p)
        for name, value in terms.items():
            expected[name] += value * len(part) / 10
    assert {"elbo", *expected} == set(found)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["elbo"] == pytest.approx(math.fsum(expected.values()), rel=1e-4)


def weight_table(prior: str, clusters: int, scores: ClusterScores, splits: Splits, train: Tensor) -> Any:
    vade = make_vade(PRIORS[prior](clusters), (PIXELS, 7, 5, 3))
    with torch.no_grad():
        vade.mixture.raw_log_variances[0, 1] = -30.0  # below the least variance, 1e-4
    return vade, evaluation.weight_table(vade, splits, train, scores, 5)


def test_true_frequencies_are_those_of_the_matched_classes_in_training() -> None:
    """Training and test have the classes 0, 1, 2 in other proportions."""
    train_labels = [0] * 6 + [1] * 3 + [2] * 1
    splits = make_splits(train_labels, [0] * 2 + [1] * 3 + [2] * 5, [0])
    train = torch.tensor([2] * 6 + [0] * 2 + [1] * 2)
    scores = score(torch.tensor([2] * 2 + [0] * 3 + [1] * 5), splits.test_labels, 3)
    vade, table = weight_table("hypergeometric", 3, scores, splits, train)
    assert table["cluster"].tolist() == [0, 1, 2]
    assert table["matched_class"].tolist() == [1, 2, 0]
    np.testing.assert_allclose(table["true_frequency"], [0.3, 0.1, 0.6], rtol=1e-12)
    np.testing.assert_allclose(table["train_fraction"], [0.2, 0.2, 0.6], rtol=1e-6)
    p = parameters_of(vade)
    np.testing.assert_allclose(table["learned_frequency"], prior_probabilities(vade.prior, p, 5), rtol=1e-4)
    raw = p["prior.raw_log_weights"]
    np.testing.assert_allclose(table["log_weight"], raw - raw.mean(), atol=1e-6)
    assert np.ptp(raw) > 0.3
    deviations = np.sqrt(np.maximum(np.exp(p["mixture.raw_log_variances"]), 1e-4)).min(1)
    np.testing.assert_allclose(table["smallest_standard_deviation"], deviations, rtol=1e-5)
    assert deviations[0] == 0.01


def test_a_cluster_without_a_class_has_no_true_frequency_and_the_uniform_prior_no_weights() -> None:
    splits = make_splits([0] * 6 + [1] * 4, [0, 1], [0])
    scores = ClusterScores(1.0, 1.0, 1.0, (UNMATCHED, 1, 0))
    _, table = weight_table("uniform", 3, scores, splits, torch.tensor([1] * 10))
    np.testing.assert_array_equal(table["true_frequency"].isna(), [True, False, False])
    np.testing.assert_allclose(table["true_frequency"][1:], [0.4, 0.6])
    np.testing.assert_allclose(table["train_fraction"], [0, 1, 0])
    np.testing.assert_allclose(table["learned_frequency"], 1 / 3, rtol=1e-6)
    assert table["log_weight"].isna().all()


def test_generated_digits_decode_to_the_models_pixels() -> None:
    vade = make_vade(PRIORS["uniform"](3), (PIXELS, 7, 5, 3))
    table = evaluation.generated_table(vade, [5, UNMATCHED, 2], generator(4))
    assert table[["cluster", "sample"]].to_numpy().tolist() == [[k, s] for k in range(3) for s in range(8)]
    assert table["matched_class"].tolist() == [5] * 8 + [UNMATCHED] * 8 + [2] * 8
    pixels = np.stack([np.frombuffer(base64.b64decode(text), dtype=np.uint8) for text in table["pixels"]])
    p, noise = parameters_of(vade), torch.empty(3, 8, 3).normal_(generator=generator(4)).double().numpy()
    latents = p["mixture.means"][:, None] + np.exp(p["mixture.raw_log_variances"] / 2)[:, None] * noise
    expected = 255 * ReferenceBound.decode(p, latents.reshape(-1, 3))
    assert pixels.shape == expected.shape and np.ptp(expected) > 50
    assert np.abs(pixels - expected).max() < 0.501


@pytest.mark.parametrize(
    ("experiment", "axes", "changes", "kept"),
    [
        ("clustering", {"prior": "uniform", "version": 60}, "", False),
        ("clustering", {"prior": "hypergeometric", "version": 80, "reading": "counts"}, "", True),
        ("clustering", {"prior": "hypergeometric", "version": 10, "reading": "counts"}, "", False),
        ("clustering", {"prior": "hypergeometric", "version": 60, "reading": "assignments"}, "", True),
        ("clustering", {"prior": "hypergeometric", "version": 60}, "training.max_epochs=3", False),
        ("clustering_control", {"prior": "hypergeometric", "version": 60}, "", False),
    ],
)
def test_pictures_are_collected_where_a_figure_shows_them(
    experiment: str, axes: dict[str, Any], changes: str, kept: bool
) -> None:
    row, lines = Row(experiment, axes, changes), pd.DataFrame({"x": [1]})
    assert (ClusteringExperiment.keep_lines("generated", row, lines) is lines) == kept
    assert ClusteringExperiment.keep_lines("metrics", row, lines) is lines
    own = experiment == "clustering" and not changes
    assert (ClusteringExperiment.keep_lines("confusion", row, lines) is lines) == own
