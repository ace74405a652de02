"""The references of the Kolmogorov-Smirnov experiment against enumeration with fractions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

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


@pytest.mark.parametrize(("total_count", "sizes", "weights"), URNS[1:3])
def test_merged_reference_follows_the_merged_law_and_not_the_exact_one(
    total_count: int, sizes: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    draws = 40_000
    sample = draw_merged(total_count, sizes, weights, draws, np.random.default_rng(0))
    assert (sample.sum(axis=1) == total_count).all()
    assert ((sample >= 0) & (sample <= sizes)).all()
    exact = exact_marginals(total_count, sizes, weights)
    against_exact = []
    law = merged_law(total_count, sizes, logs(weights), (0, 1, 2))
    for group, merged in enumerate(marginals_of(law, sizes)):
        counts = np.bincount(sample[:, group], minlength=sizes[group] + 1)
        # Failure rate 1e-5 each; a shift of 0.023 in one probability near 1/2 would be seen.
        assert against_law(counts, merged, 0.05)["chi_square_p_value"] > 1e-5
        against_exact.append(against_law(counts, exact[group], 0.05)["chi_square_p_value"])
    assert min(against_exact) < 1e-5


def test_merging_two_groups_changes_nothing() -> None:
    sample = draw_merged(4, (6, 6), (1, 4), 20_000, np.random.default_rng(0))
    law = stats.nchypergeom_fisher(12, 6, 4, 0.25)
    expected = np.array([law.pmf(k) for k in range(7)])
    assert against_law(np.bincount(sample[:, 0], minlength=7), expected, 0.05)["chi_square_p_value"] > 1e-5


def test_the_reference_is_seeded() -> None:
    one, two, other = (draw_merged(5, (3, 5, 4), (1, 5, 2), 50, np.random.default_rng(s)) for s in (0, 0, 1))
    assert (one == two).all()
    assert (one != other).any()
