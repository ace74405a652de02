"""Tests from histograms against SciPy's on raw draws, and the two references against enumeration with fractions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.kolmogorov_smirnov.goodness_of_fit import against_law, against_sample, pool
from experiments.kolmogorov_smirnov.reference import draw_merged, exact_marginals
from tests.oracle import EnumeratedLaw, enumerate_law, merged_law


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("first", "second"), [(20_000, 20_000), (15_000, 30_000)])
@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_two_samples_as_scipy_on_raw_draws(first: int, second: int, shift: float, numbers: np.random.Generator) -> None:
    one, two = numbers.binomial(50, 0.4, first), numbers.binomial(50, 0.4 + shift, second)
    result = against_sample(np.bincount(one, minlength=51), np.bincount(two, minlength=51), 0.05)
    expected = stats.ks_2samp(one, two, method="asymp")
    assert result["ks_distance"] == pytest.approx(expected.statistic, rel=1e-12)
    assert result["ks_p_value"] == pytest.approx(expected.pvalue, rel=1e-9)


def test_one_sample_distance_is_the_largest_over_all_values(numbers: np.random.Generator) -> None:
    law = stats.binom(50, 0.4)
    draws = numbers.binomial(50, 0.4, 5000)
    result = against_law(np.bincount(draws, minlength=51), law.pmf(np.arange(51)), 0.05)
    expected = max(abs((draws <= x).mean() - law.cdf(x)) for x in range(51))
    assert result["ks_distance"] == pytest.approx(expected, rel=1e-9)
    assert result["ks_p_value"] == pytest.approx(stats.kstwo.sf(expected, 5000), rel=1e-9)


def test_chi_square_as_scipy_without_pooling() -> None:
    observed, probabilities = np.array([18, 22, 29, 31]), np.array([0.2, 0.2, 0.3, 0.3])
    result = against_law(observed, probabilities, 0.05)
    expected = stats.chisquare(observed, 100 * probabilities)
    assert result["chi_square"] == pytest.approx(expected.statistic)
    assert result["chi_square_p_value"] == pytest.approx(expected.pvalue)
    assert result["chi_square_dof"] == 3

    other = np.array([25, 15, 30, 30])
    result = against_sample(observed, other, 0.05)
    table = stats.chi2_contingency(np.stack([observed, other]), correction=False)
    assert result["chi_square"] == pytest.approx(table.statistic)
    assert result["chi_square_p_value"] == pytest.approx(table.pvalue)


def test_the_detectable_distance_is_where_the_p_value_crosses_the_level(numbers: np.random.Generator) -> None:
    counts = np.bincount(numbers.binomial(50, 0.4, 50_000), minlength=51)
    result = against_sample(counts, counts, 0.05)
    assert result["ks_detectable"] == pytest.approx(0.0086, abs=5e-5)
    assert stats.kstwo.sf(result["ks_detectable"], 25_000) == pytest.approx(0.05)
    assert result["ks_distance"] == 0
    assert result["ks_p_value"] == 1


@pytest.mark.parametrize("expected", [[0.1] * 100, [100.0, 0.2, 0.2, 100.0, 0.1], [1.0], [6.0, 6.0, 6.0], [0, 0, 9.0]])
def test_every_pooled_bin_expects_enough(expected: list[float]) -> None:
    weights = np.array(expected)
    bins = pool(weights)
    assert (np.diff(bins) >= 0).all()
    assert set(bins) == set(range(bins.max() + 1))
    masses = np.bincount(bins, weights)
    assert (masses >= 5).all() or len(masses) == 1


def test_chi_square_is_calibrated(numbers: np.random.Generator) -> None:
    """400 samples of the law itself: the p-values are uniform (KS at 1e-4), so neither test cries wolf."""
    probabilities = stats.binom.pmf(np.arange(51), 50, 0.4)
    results = [against_law(numbers.multinomial(5000, probabilities), probabilities, 0.05) for _ in range(400)]
    assert stats.kstest([result["chi_square_p_value"] for result in results], "uniform").pvalue > 1e-4
    # Conservative on discrete data: at most the 99.9 % quantile of what continuous data would give.
    assert sum(result["ks_p_value"] <= 0.05 for result in results) <= stats.binom.ppf(0.999, 400, 0.05)


def test_a_law_with_one_value_has_nothing_to_test() -> None:
    result = against_law(np.array([0, 0, 50]), np.array([0.0, 0.0, 1.0]), 0.05)
    assert (result["ks_distance"], result["ks_p_value"], result["chi_square_dof"]) == (0, 1, 0)
    assert np.isnan(result["chi_square_p_value"])
    assert against_sample(np.array([0, 50]), np.array([0, 50]), 0.05)["chi_square_dof"] == 0


URNS = [
    (5, (3, 5, 4), (1, 1, 1)),
    (5, (3, 5, 4), (1, 5, 2)),
    (11, (3, 5, 4), (7, 1, 3)),
    (0, (3, 5, 4), (1, 2, 3)),
    (12, (3, 5, 4), (1, 2, 3)),
    (4, (6, 6), (1, 4)),
    (6, (2, 3, 4, 2), (3, 1, 2, 5)),
]


def marginals_of(law: EnumeratedLaw, sizes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.exp(law.log_marginals[group, : size + 1]) for group, size in enumerate(sizes)]


def logs(weights: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(np.log(weights).tolist())


@pytest.mark.parametrize(("total_count", "sizes", "weights"), URNS)
def test_exact_marginals_equal_enumeration(total_count: int, sizes: tuple[int, ...], weights: tuple[int, ...]) -> None:
    expected = marginals_of(enumerate_law(total_count, sizes, logs(weights)), sizes)
    for marginal, law in zip(exact_marginals(total_count, sizes, weights), expected, strict=True):
        np.testing.assert_allclose(marginal, law, rtol=1e-12, atol=0)


def test_exact_marginals_of_the_papers_urn_have_the_known_means() -> None:
    means = [law @ np.arange(len(law)) for law in exact_marginals(180, (200, 200, 200), (1, 5, 1))]
    np.testing.assert_allclose(means, [36.87, 106.26, 36.87], atol=0.005)


@pytest.mark.parametrize(("total_count", "sizes", "weights"), [*URNS[1:3], URNS[5]])
def test_merged_reference_follows_the_merged_law_and_that_of_three_groups_not_the_exact_one(
    total_count: int, sizes: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    """Failure rate 1e-5 each; a shift of 0.023 in one probability near 1/2 would be seen."""
    one, sample = (draw_merged(total_count, sizes, weights, 40_000, np.random.default_rng(0)) for _ in range(2))
    assert (one == sample).all()
    assert (sample.sum(axis=1) == total_count).all()
    assert ((sample >= 0) & (sample <= sizes)).all()
    merged = marginals_of(merged_law(total_count, sizes, logs(weights), tuple(range(len(sizes)))), sizes)
    p_values = []
    for laws in (merged, exact_marginals(total_count, sizes, weights)):
        counts = [np.bincount(column, minlength=size + 1) for column, size in zip(sample.T, sizes)]
        p_values.append([against_law(*pair, 0.05)["chi_square_p_value"] for pair in zip(counts, laws)])
    assert min(p_values[0]) > 1e-5
    assert (min(p_values[1]) < 1e-5) == (len(sizes) > 2)
