"""Densities, moments, marginals and the support against the oracle, property by property."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from tests import oracle
from tests.mvhg.helpers import EXACT, HARD, assert_accurate, given, log_weights, make
from tests.urns import ALL, BY_NAME, EXTREME, LARGE, MEDIUM, SMALL, Urn

small_urns = pytest.mark.parametrize("urn", SMALL, ids=str)
large_urns = pytest.mark.parametrize("urn", LARGE, ids=str)
all_urns = pytest.mark.parametrize("urn", ALL, ids=str)
float32_urns = pytest.mark.parametrize("urn", SMALL + MEDIUM, ids=str)


def probes(urn: Urn) -> np.ndarray:
    """Counts of an urn too large to enumerate: near the mean, and filled greedily from either end of the groups."""
    law, sizes = oracle.tilted_law(*urn.arguments), np.array(urn.group_sizes)
    result = []
    near = np.minimum(np.floor(law.mean + 1e-6).astype(np.int64), sizes)
    for order in itertools.islice(itertools.permutations(range(min(urn.groups, 4))), 8):
        order = (*order, *range(4, urn.groups))
        for start in (near, np.zeros_like(near)):
            x = start.copy()
            for group in order:
                x[group] += min(sizes[group] - x[group], urn.total_count - x.sum())
            result.append(x)
    return np.unique(np.array(result), axis=0)


def assert_closed_forms(distribution: EXACT, *laws: oracle.TiltedLaw, tolerance: float = 1e-9) -> None:
    """Of one law, or of a batch of laws."""
    for name, expected in {
        "log_partition": [law.log_partition for law in laws],
        "mean": [law.mean for law in laws],
        "variance": [np.diag(law.covariance) for law in laws],
        "covariance_matrix": [law.covariance for law in laws],
        "entropy": [law.entropy for law in laws],
    }.items():
        actual = distribution.entropy() if name == "entropy" else getattr(distribution, name)
        assert actual.dtype == distribution.log_weights.dtype
        assert_accurate(actual, expected if distribution.batch_shape else expected[0], tolerance)


@small_urns
def test_log_prob_on_the_whole_support(urn: Urn) -> None:
    law = oracle.enumerate_law(*urn.arguments)
    distribution = make(urn)
    log_prob = distribution.log_prob(torch.tensor(law.support, dtype=torch.float64))
    assert log_prob.dtype == torch.float64
    assert_accurate(log_prob, law.log_pmf)
    assert_accurate(log_prob.exp().sum(), 1.0, 1e-12)
    hard = make(urn, kind=HARD, temperature=0.5)
    assert_accurate(hard.log_prob(torch.tensor(law.support)), law.log_pmf)  # integer counts
    assert_accurate(hard.mean, law.mean)
    assert_accurate(hard.entropy(), law.entropy)


@pytest.mark.parametrize("urn", MEDIUM + LARGE, ids=str)
def test_log_prob_of_large_urns(urn: Urn) -> None:
    law, x = oracle.tilted_law(*urn.arguments), probes(urn)
    assert_accurate(make(urn).log_prob(torch.tensor(x)), [law.log_prob(row) for row in x])


@pytest.mark.parametrize("urn", ALL + EXTREME, ids=str)
def test_moments(urn: Urn, sight: None) -> None:
    """Of rare groups relative to their size."""
    law, distribution = oracle.tilted_law(*urn.arguments), given(urn, validate_args=False)
    variance = np.diag(law.covariance)
    assert_closed_forms(distribution, law)
    assert (distribution.variance >= 0).all()
    assert_accurate(distribution.stddev, np.sqrt(variance), 1e-9**0.5)
    assert_accurate(distribution.mean.sum(), float(urn.total_count), 1e-12)
    rare = (law.mean < 1.0) & (law.mean > 1e-150) & (variance > 1e-150)
    np.testing.assert_allclose(distribution.mean.numpy()[rare], law.mean[rare], rtol=1e-8)
    np.testing.assert_allclose(distribution.variance.numpy()[rare], variance[rare], rtol=1e-8)


@pytest.mark.parametrize("urn", SMALL + MEDIUM, ids=str)
def test_marginals_over_the_whole_support(urn: Urn, sight: None) -> None:
    marginals = given(urn, validate_args=False).marginal_log_probs()
    assert marginals.shape == (urn.groups, max(urn.group_sizes) + 1)
    assert_accurate(marginals, oracle.log_marginals(*urn.arguments))
    assert_accurate(marginals.logsumexp(-1), np.zeros(urn.groups), 1e-11)


@large_urns
def test_marginals_of_large_urns_at_points_across_the_support(urn: Urn) -> None:
    law, marginals = oracle.tilted_law(*urn.arguments), make(urn).marginal_log_probs()
    for group, (size, mean) in enumerate(zip(urn.group_sizes, law.mean)):
        top = min(size, urn.total_count)
        points = {0, 1, top // 3, top // 2, top - 1, top, int(mean), min(int(mean) + 700, top), size}
        expected = [law.marginal_log_prob(group, point) for point in sorted(points)]
        assert_accurate(marginals[group, sorted(points)], expected)
    assert_accurate(marginals.logsumexp(-1), np.zeros(urn.groups), 1e-9)


@small_urns
def test_mode(urn: Urn, sight: None) -> None:
    law, mode = oracle.enumerate_law(*urn.arguments), given(urn, validate_args=False).mode
    at = (law.support == mode.numpy()).all(axis=1)
    assert at.sum() == 1, f"mode {mode} is not in the support"
    assert law.log_pmf[at][0] >= law.log_pmf.max() - 1e-12


@pytest.mark.parametrize("urn", MEDIUM + LARGE, ids=str)
def test_mode_of_large_urns_beats_every_single_exchange(urn: Urn, sight: None) -> None:
    # the log pmf is M-natural concave (a sum of concave functions on a base), so a local maximum is the global one
    mode = given(urn, validate_args=False).mode.numpy()
    sizes = np.array(urn.group_sizes)
    assert mode.sum() == urn.total_count and (mode >= 0).all() and (mode <= sizes).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(mode < sizes, np.log((sizes - mode) / (mode + 1)) + urn.log_weights, -np.inf)
        loss = np.where(mode > 0, np.log((sizes - mode + 1) / mode) + urn.log_weights, np.inf)
    assert gain.max() <= loss.min() + 1e-9


@small_urns
def test_enumerate_support(urn: Urn) -> None:
    law, distribution = oracle.enumerate_law(*urn.arguments), make(urn)
    assert distribution.has_enumerate_support
    support = distribution.enumerate_support()
    assert support.shape == law.support.shape and support.dtype == torch.float64
    assert {tuple(x) for x in support.long().tolist()} == {tuple(x) for x in law.support.tolist()}
    assert distribution.support.check(support).all()


def test_enumerate_support_of_a_batch() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, -1.0]])
    distribution = EXACT(4, torch.tensor([3, 4, 2]), log_weights=logits)
    points = len(list(oracle.enumerate_counts(4, (3, 4, 2))))
    assert distribution.enumerate_support(expand=True).shape == (points, 2, 3)
    assert distribution.enumerate_support(expand=False).shape == (points, 1, 3)
    assert_accurate(distribution.log_prob(distribution.enumerate_support()).exp().sum(0), [1.0, 1.0], 1e-5)


@float32_urns
def test_float32(urn: Urn) -> None:
    rounded = tuple(float(value) for value in log_weights(urn, torch.float32))
    law, distribution = oracle.tilted_law(urn.total_count, urn.group_sizes, rounded), make(urn, torch.float32)
    x = oracle.enumerate_law(*urn.arguments).support if urn in SMALL else probes(urn)
    assert_closed_forms(distribution, law, tolerance=1e-4)
    log_prob, marginals = distribution.log_prob(torch.tensor(x)), distribution.marginal_log_probs()
    assert_accurate(log_prob, [law.log_prob(row) for row in x], 1e-4)
    assert_accurate(marginals, oracle.log_marginals(urn.total_count, urn.group_sizes, rounded), 1e-4)
    assert log_prob.dtype == marginals.dtype == torch.float32


@small_urns
def test_weights_and_log_weights_are_the_same_law(urn: Urn) -> None:
    weights = log_weights(urn).exp()
    distribution = make(urn, log_weights=None, weights=weights)
    law = oracle.enumerate_law(*urn.arguments)
    assert_accurate(distribution.weights, weights, 1e-12)
    assert_accurate(distribution.log_weights, log_weights(urn), 1e-12)
    assert_accurate(distribution.log_prob(torch.tensor(law.support)), law.log_pmf)
    assert_accurate(make(urn).weights / weights, np.ones(urn.groups), 1e-12)


def test_the_law_does_not_change_with_the_scale_of_the_weights() -> None:
    for name in ("middle-heavy", "paper", "many-groups"):
        urn = BY_NAME[name]
        plain, scaled = make(urn), make(urn, log_weights=log_weights(urn) + 7.0)
        assert_accurate(scaled.log_partition, plain.log_partition + 7.0 * urn.total_count)
        assert_accurate(scaled.mean, plain.mean)
        assert_accurate(scaled.marginal_log_probs(), plain.marginal_log_probs())


def test_equal_weights_are_the_default() -> None:
    urn = BY_NAME["paper-equal"]
    distribution = EXACT(urn.total_count, torch.tensor(urn.group_sizes))
    assert distribution.mean.dtype == torch.float32
    assert_accurate(distribution.mean, [60.0, 60.0, 60.0], 1e-6)


def batch(names: list[str]) -> tuple[list[Urn], EXACT]:
    urns = [BY_NAME[name] for name in names]
    distribution = EXACT(
        total_count=torch.tensor([urn.total_count for urn in urns]),
        group_sizes=torch.tensor([urn.group_sizes for urn in urns]),
        log_weights=torch.tensor([urn.log_weights for urn in urns], dtype=torch.float64),
    )
    return urns, distribution


BATCH = [
    "equal",
    "nothing-drawn",
    "all-drawn",
    "one-left",
    "plateau",
    "rare-group",
    "twenty-each",
    "paper",
    "deep-tails",
    "more-than-half",
]


def test_a_batch_of_different_urns_is_its_elements() -> None:
    urns, distribution = batch(BATCH)
    laws = [oracle.tilted_law(*urn.arguments) for urn in urns]
    assert distribution.batch_shape == (len(urns),) and distribution.event_shape == (3,)
    assert_closed_forms(distribution, *laws)
    assert_accurate(
        distribution.log_prob(distribution.mode), [law.log_prob(x) for law, x in zip(laws, distribution.mode)]
    )
    marginals = distribution.marginal_log_probs()
    assert marginals.shape == (len(urns), 3, 1001)
    for row, urn in zip(marginals, urns):
        width = max(urn.group_sizes) + 1
        assert_accurate(row[:, :width], oracle.log_marginals(*urn.arguments))
        assert (row[:, width:] == -math.inf).all()


def test_parameters_broadcast() -> None:
    sizes = torch.tensor([[3, 5, 4], [6, 2, 9]])  # [2, 3]
    counts = torch.tensor([[0], [4], [7], [11]])  # [4, 1]
    logits = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
    distribution = EXACT(counts, sizes, log_weights=logits)
    assert distribution.batch_shape == (4, 2)
    for i, j in itertools.product(range(4), range(2)):
        law = oracle.tilted_law(int(counts[i, 0]), tuple(sizes[j].tolist()), tuple(logits.tolist()))
        assert_accurate(distribution.mean[i, j], law.mean)
        assert_accurate(distribution.log_partition[i, j], law.log_partition)
    x = torch.zeros(4, 2, 3)
    x[1, :] = torch.tensor([1.0, 1.0, 2.0])
    log_prob = EXACT(counts, sizes, log_weights=logits, validate_args=False).log_prob(x)
    assert log_prob.shape == (4, 2)
    assert torch.isfinite(log_prob[:2]).all() and (log_prob[2:] == -math.inf).all()


def test_log_prob_outside_the_support_is_minus_infinity_without_validation() -> None:
    distribution = make(BY_NAME["middle-heavy"], validate_args=False)
    outside = torch.tensor([[5, 0, 0], [-1, 2, 4], [1, 1, 1], [3, 5, 4], [0, 0, 5], [0, 0, 0]], dtype=torch.float64)
    assert (distribution.log_prob(outside) == -math.inf).all()
    assert torch.isfinite(distribution.log_prob(torch.tensor([1.0, 3.0, 1.0])))


def test_merged_log_prob_is_the_product_of_merged_conditionals() -> None:
    for name in (
        "equal",
        "middle-heavy",
        "rising",
        "two-groups",
        "one-group",
        "empty-groups",
        "five-groups",
        "one-left",
    ):
        urn = BY_NAME[name]
        identity = tuple(range(urn.groups))
        for order in (None, identity[::-1], identity[1:] + identity[:1]):
            law = oracle.merged_law(*urn.arguments, order or identity)
            distribution = make(urn, conditionals="merged", group_order=order)
            assert_accurate(distribution.log_prob(torch.tensor(law.support)), law.log_pmf)


def test_merged_properties_that_the_approximation_lacks_say_so() -> None:
    distribution = make(BY_NAME["middle-heavy"], conditionals="merged")
    for name in ("mean", "variance", "covariance_matrix", "mode", "log_partition"):
        with pytest.raises(NotImplementedError, match="merged"):
            getattr(distribution, name)
    with pytest.raises(NotImplementedError, match="merged"):
        torch.distributions.kl_divergence(distribution, make(BY_NAME["middle-heavy"]))
