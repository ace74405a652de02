"""The references of the Kolmogorov-Smirnov experiment against enumeration with fractions."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.kolmogorov_smirnov.goodness_of_fit import against_law
from experiments.kolmogorov_smirnov.reference import draw_merged, exact_marginals
from tests.oracle import EnumeratedLaw, enumerate_law, merged_law

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
