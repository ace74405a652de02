"""Maximum likelihood of the weights against SciPy's optimiser on the oracle's likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

import mvhg
from tests import oracle
from tests.mvhg.helpers import assert_accurate, generator, make
from tests.urns import BY_NAME, Urn


def draws(urn: Urn, rows: int, seed: int, logits: tuple[float, ...] | None = None) -> torch.Tensor:
    weights = torch.tensor(logits or urn.log_weights, dtype=torch.float64)
    return make(urn, log_weights=weights).sample((rows,), generator=generator(seed))


def reference_fit(counts: np.ndarray, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Log weights of mean 0 and their covariance (pseudo-inverse of the observed information), by enumeration."""
    totals, rows = np.unique(counts.sum(axis=1).astype(int), return_counts=True)

    def objective(free: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.append(free, -free.sum())
        laws = [oracle.enumerate_law.__wrapped__(int(n), sizes, tuple(logits)) for n in totals]
        value = sum(r * law.log_partition for r, law in zip(rows, laws)) - counts.sum(axis=0) @ logits
        slope = sum(r * law.mean for r, law in zip(rows, laws)) - counts.sum(axis=0)
        return value, slope[:-1] - slope[-1]

    result = optimize.minimize(objective, np.zeros(len(sizes) - 1), jac=True, method="BFGS", options={"gtol": 1e-10})
    logits = np.append(result.x, -result.x.sum())
    laws = [oracle.enumerate_law.__wrapped__(int(n), sizes, tuple(logits)) for n in totals]
    return logits, np.linalg.pinv(sum(r * law.covariance for r, law in zip(rows, laws)), rcond=1e-10, hermitian=True)


@pytest.mark.parametrize("name", ["equal", "middle-heavy", "rising", "two-groups", "five-groups"])
def test_fit_is_the_maximum_with_the_observed_information(name: str) -> None:
    urn = BY_NAME[name]
    counts = draws(urn, 40, seed=61)
    fit = mvhg.fit_weights(counts, torch.tensor(urn.group_sizes))
    assert fit._fields == ("log_weights", "standard_errors", "covariance")
    log_weights, covariance = reference_fit(counts.numpy(), urn.group_sizes)
    assert_accurate(fit.log_weights, log_weights, 1e-7)
    assert_accurate(fit.log_weights.mean(), 0.0, 1e-12)
    assert_accurate(fit.covariance, covariance, 1e-7)
    assert_accurate(fit.standard_errors, np.sqrt(np.diag(covariance)), 1e-7)


def test_fit_takes_the_total_count_per_row() -> None:
    sizes = (3, 5, 4)
    rows = torch.cat([draws(Urn("row", n, sizes, (0.5, -0.5, 0.3)), 15, seed=62 + n) for n in (1, 4, 6, 9)])
    fit = mvhg.fit_weights(rows, torch.tensor(sizes))
    log_weights, covariance = reference_fit(rows.numpy(), sizes)
    assert_accurate(fit.log_weights, log_weights, 1e-7)
    assert_accurate(fit.covariance, covariance, 1e-7)


@pytest.mark.parametrize("name", ["paper", "paper-last-heavy", "ten-thousand"])
def test_fit_recovers_the_weights_within_its_standard_errors(name: str) -> None:
    urn = BY_NAME[name]
    fit = mvhg.fit_weights(draws(urn, 2000, seed=63), torch.tensor(urn.group_sizes))
    truth = np.array(urn.log_weights) - np.mean(urn.log_weights)
    z = (fit.log_weights.numpy() - truth) / fit.standard_errors.numpy()
    assert (fit.standard_errors < 0.02).all()
    assert np.abs(z).max() < 4.75  # two-sided 2e-6 per group


def test_fit_at_the_solution_matches_observed_and_expected_counts() -> None:
    urn = BY_NAME["many-groups"]
    keep = [i for i, m in enumerate(urn.group_sizes) if m > 0]
    urn = Urn("many", 120, tuple(urn.group_sizes[i] for i in keep), tuple(urn.log_weights[i] for i in keep))
    counts = draws(urn, 200, seed=65)
    fit = mvhg.fit_weights(counts, torch.tensor(urn.group_sizes))
    expected = oracle.TiltedLaw(urn.total_count, urn.group_sizes, fit.log_weights.tolist()).mean
    assert_accurate(counts.mean(0), expected, 1e-8)


def test_fit_of_extreme_weights() -> None:
    urn = Urn("extreme", 100, (1000, 5, 100), (0.0, 4.0, -4.0))
    fit = mvhg.fit_weights(draws(urn, 5000, seed=66), torch.tensor(urn.group_sizes))
    z = (fit.log_weights.numpy() - np.array(urn.log_weights)) / fit.standard_errors.numpy()
    assert np.abs(z).max() < 4.75


def test_fit_of_one_row_and_of_integer_counts() -> None:
    fit = mvhg.fit_weights(torch.tensor([[1, 2, 2]]), torch.tensor([3, 5, 4]))
    log_weights, covariance = reference_fit(np.array([[1, 2, 2]]), (3, 5, 4))
    assert_accurate(fit.log_weights, log_weights, 1e-5)
    assert_accurate(fit.covariance, covariance, 1e-4)


@pytest.mark.parametrize(
    "counts, message",
    [
        ([[1, 0, 2], [2, 0, 1]], r"(?s)group 1\b.*never drawn"),
        ([[1, 5, 2], [2, 5, 1]], r"(?s)group 1\b.*(exhausted|always drawn)"),
        ([[3, 1, 0], [3, 2, 0]], r"(?s)group (0|2)\b"),
    ],
    ids=["never-drawn", "always-exhausted", "both"],
)
def test_no_finite_maximum_names_the_group(counts: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mvhg.fit_weights(torch.tensor(counts), torch.tensor([3, 5, 4]))


def test_a_pair_of_groups_without_a_finite_maximum_is_found() -> None:
    """Groups 0 and 1 fill up before group 2 or 3 gives anything: none is extreme alone, their ratio has no bound."""
    counts = torch.tensor([[1, 2, 0, 0], [2, 1, 0, 0], [2, 2, 1, 0], [2, 2, 0, 1]])
    with pytest.raises(ValueError, match=r"(?i)finite"):
        mvhg.fit_weights(counts, torch.tensor([2, 2, 2, 2]))


def test_groups_that_no_row_compares_have_no_weights() -> None:
    with pytest.raises(ValueError, match="stays as it is"):
        mvhg.fit_weights([[1, 1, 0, 0], [0, 0, 1, 1]], [[2, 2, 0, 0], [0, 0, 2, 2]])


@pytest.mark.parametrize(
    "counts, sizes, name",
    [
        ([[1, 6, 2]], [3, 5, 4], "counts"),
        ([[1, -1, 2]], [3, 5, 4], "counts"),
        ([[1.5, 2.5, 2]], [3, 5, 4], "counts"),
        ([[float("nan"), 2.5, 2]], [3, 5, 4], "counts"),
        ([[1, 2]], [3, 5, 4], "counts"),
        ([], [3, 5, 4], "counts"),
        ([[1, 2, 2]], [3.0, 5.5, 4.0], "group_sizes"),
        ([[1, 2, 2]], [3, -5, 4], "group_sizes"),
    ],
)
def test_bad_input(counts: list, sizes: list, name: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        mvhg.fit_weights(torch.tensor(counts), torch.tensor(sizes))
