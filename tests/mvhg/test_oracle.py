"""The oracle against SciPy and its three routes against one another, so that the tests stand on the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests import oracle
from tests.mvhg.helpers import assert_accurate
from tests.urns import BY_NAME, MEDIUM, SMALL, Urn

TIGHT = 1e-12


@pytest.mark.parametrize("urn", SMALL, ids=str)
def test_enumeration_convolution_and_tilting_agree(urn: Urn) -> None:
    exact, tilted = oracle.enumerate_law(*urn.arguments), oracle.tilted_law(*urn.arguments)
    assert_accurate(tilted.log_partition, exact.log_partition, TIGHT)
    assert_accurate(tilted.mean, exact.mean, TIGHT)
    assert_accurate(tilted.covariance, exact.covariance, TIGHT)
    assert_accurate(tilted.entropy, exact.entropy, TIGHT)
    assert_accurate([tilted.log_prob(x) for x in exact.support[:30]], exact.log_pmf[:30], TIGHT)
    assert_accurate(oracle.log_marginals(*urn.arguments), exact.log_marginals, TIGHT)


@pytest.mark.parametrize("urn", MEDIUM, ids=str)
def test_convolution_and_tilting_agree(urn: Urn) -> None:
    tilted, log_marginals = oracle.tilted_law(*urn.arguments), oracle.log_marginals(*urn.arguments)
    k = np.arange(log_marginals.shape[1])
    mean = np.exp(log_marginals) @ k
    assert_accurate(mean, tilted.mean, 1e-11)
    variance = (np.exp(log_marginals) * (k - mean[:, None]) ** 2).sum(axis=1)
    assert_accurate(variance, np.diag(tilted.covariance), 1e-11)
    for group in range(min(urn.groups, 5)):
        points = np.linspace(0, urn.group_sizes[group], 9).astype(int)
        expected = [tilted.marginal_log_prob(group, int(point)) for point in points]
        assert_accurate(log_marginals[group, points], expected, 1e-11)


@pytest.mark.parametrize("name", ["two-groups", "two-groups-extreme"])
def test_two_groups_are_scipys_fisher_law(name: str) -> None:
    urn = BY_NAME[name]
    law = oracle.enumerate_law(*urn.arguments)
    odds = np.exp(urn.log_weights[0] - urn.log_weights[1])
    reference = stats.nchypergeom_fisher(sum(urn.group_sizes), urn.group_sizes[0], urn.total_count, odds)
    assert_accurate(law.pmf, reference.pmf(law.support[:, 0]), 1e-10)
    assert_accurate(law.mean[0], reference.mean(), 1e-10)
    assert_accurate(law.covariance[0, 0], reference.var(), 1e-10)


@pytest.mark.parametrize("name", ["equal", "equal-scaled", "paper-equal"])
def test_equal_weights_are_scipys_multivariate_hypergeometric(name: str) -> None:
    urn = BY_NAME[name]
    reference = stats.multivariate_hypergeom(urn.group_sizes, urn.total_count)
    tilted = oracle.tilted_law(*urn.arguments)
    assert_accurate(tilted.mean, reference.mean(), 1e-11)
    assert_accurate(tilted.covariance, reference.cov(), 1e-11)
    if urn in SMALL:
        law = oracle.enumerate_law(*urn.arguments)
        assert_accurate(law.log_pmf, reference.logpmf(law.support), 1e-11)


def test_merging_is_exact_for_equal_weights_and_for_two_groups_only() -> None:
    for name, order in [("equal", (2, 0, 1)), ("equal-scaled", (1, 2, 0)), ("two-groups", (1, 0)), ("one-group", (0,))]:
        urn = BY_NAME[name]
        merged, exact = oracle.merged_law(*urn.arguments, order), oracle.enumerate_law(*urn.arguments)
        assert_accurate(merged.log_pmf, exact.log_pmf, TIGHT)
    urn = BY_NAME["middle-heavy"]
    merged, exact = oracle.merged_law(*urn.arguments, (0, 1, 2)), oracle.enumerate_law(*urn.arguments)
    assert 0.5 * np.abs(merged.pmf - exact.pmf).sum() > 0.05


def test_merged_first_group_is_scipys_fisher_law_of_equation_3() -> None:
    urn = BY_NAME[
        "rising"
    ]  # weights 1, 2, 3 of sizes 3, 5, 4: on the right of group 1 stand 7 elements of weight 15 / 7
    merged = oracle.merged_law(*urn.arguments, (1, 0, 2))
    reference = stats.nchypergeom_fisher(12, 5, urn.total_count, 2.0 / (15.0 / 7.0))
    assert_accurate(np.exp(merged.log_marginals[1]), reference.pmf(np.arange(6)), 1e-10)
