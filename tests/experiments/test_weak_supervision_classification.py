"""Accuracies on the shared and independent parts: encodings whose scores are known beforehand."""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from experiments.weak_supervision import classification
from experiments.weak_supervision.classification import (
    EncodedPairs,
    average_accuracies,
    downstream_accuracy,
    parts,
    subset_accuracies,
)
from experiments.weak_supervision.data.sources import FACTORS

SIZES = (3, 4, 2, 3, 3, 4, 4)
LATENTS = 10  # the first seven may carry a factor each
TRAIN, TEST = 3000, 1500


def make_factors(pairs: int, num_shared: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random factors of both views and which of them are shared, exactly ``num_shared`` a pair."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.stack([torch.randint(size, (pairs, 2), generator=generator) for size in SIZES], -1)
    shared = torch.rand(pairs, len(SIZES), generator=generator).argsort(1) < num_shared
    views[:, 1] = torch.where(shared, views[:, 0], views[:, 1])
    return views, shared


def one_latent_per_factor(factors: Tensor, seed: int) -> Tensor:
    """Latent i follows factor i, the last three are noise; 6 between neighbouring values, so that no two mix."""
    noise = 0.1 * torch.randn(*factors.shape[:-1], LATENTS, generator=torch.Generator().manual_seed(seed))
    noise[..., : len(SIZES)] += 6.0 * factors
    return noise


def encode(factors: Tensor, shared: Tensor, means: Tensor, independent: Tensor | None = None) -> EncodedPairs:
    """Pairs as a model encodes them; by default the latents of the independent factors are independent."""
    if independent is None:
        independent = torch.cat([~shared, torch.zeros(len(shared), LATENTS - len(SIZES), dtype=torch.bool)], 1)
    return EncodedPairs(FACTORS, *parts(means, means.mean(1), independent.float()), factors, shared)


def make_pairs(pairs: int, num_shared: int, seed: int, wrong: bool = False) -> EncodedPairs:
    factors, shared = make_factors(pairs, num_shared, seed)
    independent = None
    if wrong:  # exactly the latents of the shared factors are called independent
        independent = torch.cat([shared, torch.ones(pairs, LATENTS - len(SIZES), dtype=torch.bool)], 1)
    return encode(factors, shared, one_latent_per_factor(factors, seed + 1), independent)


def noise_pairs(pairs: int, num_shared: int, seed: int) -> EncodedPairs:
    factors, shared = make_factors(pairs, num_shared, seed)
    means = torch.randn(pairs, 2, LATENTS, generator=torch.Generator().manual_seed(seed + 1))
    independent = (torch.arange(LATENTS) < 4).expand(pairs, -1)
    return encode(factors, shared, means, independent)


@pytest.mark.parametrize("num_shared", [1, 3, 5])
def test_a_latent_for_every_factor_scores_one(num_shared: int) -> None:
    table = subset_accuracies(make_pairs(TRAIN, num_shared, 0), make_pairs(TEST, num_shared, 10))
    assert len(table) == 7 * 3
    assert (table["accuracy"] > 0.99).all()
    assert table["converged"].all()
    assert (table["iterations"] > 0).all()
    assert average_accuracies(table) == pytest.approx((1, 1), abs=0.005)


def test_noise_and_the_wrong_subset_score_zero() -> None:
    """An average has a standard error of about 0.011 here: chance passes 0.05 once in 10^5, less would not be seen."""
    noise = subset_accuracies(noise_pairs(TRAIN, 3, 0), noise_pairs(TEST, 3, 10))
    assert average_accuracies(noise) == pytest.approx((0, 0), abs=0.05)
    # What a factor needs stands in the part that it isn't scored on.
    wrong = subset_accuracies(make_pairs(TRAIN, 3, 0, wrong=True), make_pairs(TEST, 3, 10, wrong=True))
    assert average_accuracies(wrong) == pytest.approx((0, 0), abs=0.05)


@pytest.mark.parametrize(("num_shared", "parts"), [(0, {"independent": 14}), (7, {"shared": 7})])
def test_only_what_occurs_has_a_line(num_shared: int, parts: dict[str, int]) -> None:
    table = subset_accuracies(make_pairs(TRAIN, num_shared, 0), make_pairs(TEST, num_shared, 10))
    assert table["part"].value_counts().to_dict() == parts
    averages = dict(zip(("shared", "independent"), average_accuracies(table), strict=True))
    for part, average in averages.items():
        assert average == pytest.approx(1, abs=0.005) if part in parts else math.isnan(average)


def test_the_parts_are_means_over_the_set() -> None:
    """Enumerated: both sets of a latent, weighed by their probability."""
    source = torch.Generator().manual_seed(0)
    own, probability = torch.randn(5, 2, 3, generator=source), torch.rand(5, 3, generator=source)
    probability[0] = torch.tensor([0.0, 1.0, 0.5])
    average = torch.randn(5, 3, generator=source)
    shared, independent = parts(own, average, probability)
    for pair, latent in np.ndindex(5, 3):
        p = float(probability[pair, latent])
        assert shared[pair, latent] == pytest.approx(p * 0 + (1 - p) * float(average[pair, latent]), abs=1e-6)
        for view in range(2):
            expected = p * float(own[pair, view, latent]) + (1 - p) * 0
            assert independent[pair, view, latent] == pytest.approx(expected, abs=1e-6)


def test_a_view_is_scored_on_its_own_latents_and_factors() -> None:
    """View 1 carries the factors, view 0 noise."""

    def one_sided(pairs: int, seed: int) -> EncodedPairs:
        encoded = make_pairs(pairs, 0, seed)
        means = encoded.independent.clone()
        means[:, 0, :7] = torch.randn(pairs, 7, generator=torch.Generator().manual_seed(seed + 2))
        return dataclasses.replace(encoded, independent=means)

    table = subset_accuracies(one_sided(TRAIN, 0), one_sided(TEST, 10))
    by_view = table.groupby("view")["accuracy"].mean()
    assert by_view[0] == pytest.approx(0, abs=0.1)
    assert by_view[1] == pytest.approx(1, abs=0.01)
    assert average_accuracies(table)[1] == pytest.approx(0.5, abs=0.06)


def test_a_number_recomputed_from_the_confusion_matrix() -> None:
    """A blurred encoding, so that the answer is neither 0 nor 1."""

    def blurred(pairs: int, seed: int) -> EncodedPairs:
        factors, shared = make_factors(pairs, 4, seed)
        means = one_latent_per_factor(factors, seed + 1)
        noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(seed + 2))
        return encode(factors, shared, means / 6 + 0.5 * noise)

    train, test = blurred(TRAIN, 0), blurred(TEST, 10)
    table = subset_accuracies(train, test)
    position = FACTORS.index("horizontal_axis")
    chosen, scored = (pairs.shared_factors[:, position].numpy() for pairs in (train, test))
    features = [pairs.shared.double().numpy() for pairs in (train, test)]
    labels = [pairs.factors[:, 0, position].numpy() for pairs in (train, test)]
    model = LogisticRegression(max_iter=5000).fit(features[0][chosen], labels[0][chosen])
    logits = features[1][scored] @ model.coef_.T + model.intercept_
    predicted, truth = model.classes_[logits.argmax(1)], labels[1][scored]
    recalls = [(predicted[truth == value] == value).mean() for value in range(SIZES[position])]
    expected = (np.mean(recalls) - 1 / 4) / (1 - 1 / 4)
    (line,) = (line for line in table.itertuples() if (line.factor, line.part) == ("horizontal_axis", "shared"))
    assert 0.2 < expected < 0.9
    assert line.accuracy == pytest.approx(expected, abs=1e-9)
    assert (line.train_pairs, line.test_pairs) == (chosen.sum(), scored.sum())


# Splits that lack something.


def keep(pairs: EncodedPairs, rows: Tensor) -> EncodedPairs:
    values = (pairs.shared, pairs.independent, pairs.factors, pairs.shared_factors)
    return EncodedPairs(FACTORS, *(value[rows] for value in values))


def accuracy_of(table: pd.DataFrame, factor: str, part: str) -> float:
    return float(table.loc[(table["factor"] == factor) & (table["part"] == part), "accuracy"].iloc[0])


def test_a_value_without_a_training_pair_counts_as_missed() -> None:
    train, test = make_pairs(TRAIN, 7, 0), make_pairs(TEST, 7, 10)
    table = subset_accuracies(keep(train, train.factors[:, 0, 1] != 3), test)
    # Three of four shapes are found: recall 3/4, adjusted (3/4 - 1/4) / (1 - 1/4).
    assert accuracy_of(table, "shape", "shared") == pytest.approx(2 / 3, abs=0.01)


def test_a_value_without_a_test_pair_leaves_the_others() -> None:
    """Also where it is predicted, scikit-learn's warning about it does not get out."""
    train, test = noise_pairs(TRAIN, 7, 0), noise_pairs(TEST, 7, 10)
    table = subset_accuracies(train, keep(test, test.factors[:, 0, 1] != 3))
    assert -0.5 < accuracy_of(table, "shape", "shared") < 0.1  # the mean recall of three values is below 1/3


@pytest.mark.parametrize("short", ["train", "test"])
def test_one_value_alone_gives_no_accuracy_and_says_so(short: str, caplog: pytest.LogCaptureFixture) -> None:
    splits = {"train": make_pairs(TRAIN, 7, 0), "test": make_pairs(TEST, 7, 10)}
    splits[short] = keep(splits[short], splits[short].factors[:, 0, 2] == 1)
    with caplog.at_level(logging.WARNING, "experiments"):
        table = subset_accuracies(**splits)
    lacking = table["factor"] == "size"
    assert table.loc[lacking, "accuracy"].isna().all()
    assert not table.loc[lacking, "converged"].any()
    assert table.loc[~lacking, "accuracy"].notna().all()
    assert average_accuracies(table)[0] == pytest.approx(1, abs=0.01)  # of the six that have one
    train, test = (len(splits[name].factors) for name in ("train", "test"))
    assert [record.getMessage() for record in caplog.records] == [
        f"  size from the shared latents: no accuracy, {train} training and {test} test examples do not both show two "
        "values"
    ]


def test_constant_features_score_zero() -> None:
    """Everything shared: the independent part is empty, a classifier can but guess the most frequent value."""

    def all_shared(pairs: int, seed: int) -> EncodedPairs:
        factors, shared = make_factors(pairs, 3, seed)
        means = one_latent_per_factor(factors, seed + 1)
        return encode(factors, shared, means, torch.zeros(pairs, LATENTS, dtype=torch.bool))

    table = subset_accuracies(all_shared(TRAIN, 0), all_shared(TEST, 10))
    assert (table.loc[table["part"] == "independent", "accuracy"] == 0).all()
    assert average_accuracies(table)[1] == 0


def test_a_fit_that_did_not_converge_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classification, "MAX_ITERATIONS", 2)
    with caplog.at_level(logging.WARNING, "experiments"):
        table = subset_accuracies(make_pairs(TRAIN, 3, 0), make_pairs(TEST, 3, 10))
    assert not table["converged"].any()
    assert (table["iterations"] == 2).all()
    assert caplog.records[0].getMessage() == (
        "  colour from the shared latents: logistic regression did not converge in 2 iterations"
    )


def test_the_downstream_score_of_a_good_and_a_meaningless_representation() -> None:
    (train, _), (test, _) = make_factors(TRAIN, 0, 0), make_factors(TEST, 0, 10)
    good = one_latent_per_factor(train[:, 0], 1), one_latent_per_factor(test[:, 0], 11)
    assert downstream_accuracy(FACTORS, good[0], train[:, 0], good[1], test[:, 0]) == pytest.approx(1, abs=0.005)
    noise = torch.randn(TRAIN, LATENTS, generator=torch.Generator().manual_seed(2))
    assert downstream_accuracy(FACTORS, noise, train[:, 0], noise[:TEST], test[:, 0]) == pytest.approx(0, abs=0.1)
    # The first two of seven factors alone: their share of the mean.
    part = good[0].clone(), good[1].clone()
    for means in part:
        means[:, 2:] = 0
    assert downstream_accuracy(FACTORS, part[0], train[:, 0], part[1], test[:, 0]) == pytest.approx(2 / 7, abs=0.05)


def test_a_downstream_score_leaves_out_what_takes_one_value() -> None:
    (train, _), (test, _) = make_factors(TRAIN, 0, 0), make_factors(TEST, 0, 10)
    means = one_latent_per_factor(train[:, 0], 1), one_latent_per_factor(test[:, 0], 11)
    train[..., 0] = 0
    assert downstream_accuracy(FACTORS, means[0], train[:, 0], means[1], test[:, 0]) == pytest.approx(1, abs=0.005)
    same = torch.zeros_like(train[:, 0])
    assert math.isnan(downstream_accuracy(FACTORS, means[0], same, means[1], test[:, 0]))


# Bad input.


PAIRS = make_pairs(4, 3, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shared": PAIRS.shared * math.nan}, "means must be finite"),
        ({"independent": PAIRS.independent * math.nan}, "means must be finite"),
        ({"shared_factors": ~PAIRS.shared_factors}, "factors that are shared must be equal in both views"),
    ],
)
def test_inconsistent_pairs_are_refused(values: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PAIRS, **values)


def test_an_independent_factor_may_agree() -> None:
    """The published way of pairing leaves it so."""
    dataclasses.replace(PAIRS, shared_factors=torch.zeros_like(PAIRS.shared_factors))
