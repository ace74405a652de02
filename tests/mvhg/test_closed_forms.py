"""Closed forms on every route: with and without a look at values, tabulated or inverted; what the host is asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import nchypergeom_fisher
from torch.distributions import kl_divergence

from mvhg import _urn
from mvhg._tilt import solve_tilt
from mvhg._validation import FEW
from tests.mvhg.helpers import EXACT, assert_accurate, compiles_whole, generator, given
from tests.urns import ALL, Urn


@pytest.mark.parametrize("urn", [u for u in ALL if u.groups == 2 and max(u.group_sizes) < 1000], ids=str)
def test_two_groups_inverted_are_the_tabulated_ones(urn: Urn, monkeypatch: pytest.MonkeyPatch) -> None:
    def values() -> list[torch.Tensor]:
        law = given(urn)
        return [law.log_partition, law.mean, law.variance, law.covariance_matrix, law.entropy()]

    tabulated = values()
    monkeypatch.setattr(_urn, "_LONGEST_TABLE", 0)
    for inverted, expected in zip(values(), tabulated, strict=True):
        assert_accurate(inverted, expected)


def test_two_groups_are_scipys() -> None:
    random = np.random.default_rng(5)
    for _ in range(40):
        sizes = random.integers(1, 40, 2)
        total, weight = int(random.integers(0, sizes.sum() + 1)), float(np.exp(random.normal(0, 2)))
        law = nchypergeom_fisher(int(sizes.sum()), int(sizes[0]), total, weight)
        ours = EXACT(total, sizes.tolist(), weights=torch.tensor([weight, 1.0], dtype=torch.float64))
        assert_accurate(ours.mean[0], law.mean(), 1e-9)
        assert_accurate(ours.variance, [law.var()] * 2, 1e-8)
        x = torch.arange(max(0, total - sizes[1]), min(total, sizes[0]) + 1)
        assert_accurate(ours.log_prob(torch.stack([x, total - x], -1)), law.logpmf(x.numpy()), 1e-9)


def drawn(size: tuple[int, ...], log_weights: tuple[float, ...], theta: float) -> mpmath.mpf:
    """What independent binomials draw, at 60 digits."""
    with mpmath.workdps(60):
        return sum(m / (1 + mpmath.exp(-(mpmath.mpf(theta) + mpmath.mpf(w)))) for m, w in zip(size, log_weights))


def test_the_tilt_of_two_groups_is_the_root_at_60_digits() -> None:
    random = np.random.default_rng(6)
    for _ in range(300):
        size = tuple(int(10 ** random.uniform(0, 6)) for _ in range(2))
        logits = tuple(random.uniform(-50, 50, 2).tolist())
        total = int(random.integers(1, sum(size)))
        theta = float(solve_tilt(*(torch.tensor(a, dtype=torch.float64) for a in (size, logits, total))))
        step = 1e-12 * (1 + abs(theta))
        assert drawn(size, logits, theta - step) <= total <= drawn(size, logits, theta + step)


def test_the_tilt_of_many_groups_is_near_enough(sight: None) -> None:
    """Within a thousandth of the standard deviation, or of what is drawn or left where that hardly varies.

    Alone, where it is solved for in Python's floats, and among as many as are solved for by operations on tensors.
    """
    random = np.random.default_rng(7)
    for _ in range(300):
        groups = int(random.integers(3, 7))
        size = tuple(int(10 ** random.uniform(0, 5)) for _ in range(groups))
        logits = tuple((random.uniform(-1, 1, groups) * 10 ** random.uniform(-1, 1.7)).tolist())
        total = int(random.integers(1, sum(size)))
        urn = [torch.tensor(a, dtype=torch.float64) for a in (size, logits, total)]
        alone, among = solve_tilt(*urn), solve_tilt(*(a.expand(FEW, *a.shape) for a in urn))[0]
        for theta in (float(alone), float(among)):
            chance = 1 / (1 + np.exp(-(theta + np.array(logits))))
            deviation = math.sqrt(float((np.array(size) * chance * (1 - chance)).sum()))
            assert abs(float(drawn(size, logits, theta)) - total) <= 1e-3 * max(deviation, 1e-3)


def test_variance_of_a_large_group_beside_small_ones() -> None:
    """One element of a half-drawn urn is drawn with chance 1/2: variance 1/4, however large the rest is."""
    for large in (3_000_000, 10**10, 10**14):
        law = EXACT(large // 2, [large, 1], log_weights=torch.zeros(2, dtype=torch.float64))
        chance = (large // 2) / (large + 1)
        assert_accurate(law.variance, [chance * (1 - chance)] * 2, 1e-12)
        law = EXACT(large // 2, [large, 1, 2], log_weights=torch.zeros(3, dtype=torch.float64))
        n, total = large // 2, large + 3
        factor = n / total * (1 - n / total) * total / (total - 1)  # the multivariate hypergeometric law's
        sizes = np.array([large, 1.0, 2.0])
        expected = factor * (np.diag(sizes) - np.outer(sizes, sizes) / total)
        expected[0, 0] = factor * large * 3 / total
        assert_accurate(law.covariance_matrix, expected, 1e-9)
        assert_accurate(law.variance, np.diag(expected), 1e-9)


def test_what_has_a_sign_has_it() -> None:
    for total, logits in itertools.product(range(13), ([0.0, 0.0, 0.0], [0.0, 1.6, 0.7], [30.0, -20.0, 4.0])):
        law = EXACT(total, [3, 5, 4], log_weights=torch.tensor(logits, dtype=torch.float64))
        assert (law.covariance_matrix.diagonal() >= 0).all() and (law.variance >= 0).all()
        assert law.entropy() >= 0
    point = 3 * torch.randn(200, 3, dtype=torch.float64, generator=generator(8))
    near = point + 1e-9 * torch.randn(200, 3, dtype=torch.float64, generator=generator(9))
    p, q = (EXACT(50, [40, 30, 50], log_weights=w) for w in (point, near))
    divergence = kl_divergence(p, q)
    assert (divergence >= 0).all() and (divergence < 1e-11).all()


def test_log_partition_of_everything_is_the_sum_of_the_log_weights() -> None:
    for logits in ((30.0, -30.0, 0.0), (29.7, -30.3, 0.6), (50.0, -50.0, 1e-3)):
        urn = Urn("everything", 3_000_000, (1_000_000,) * 3, logits)
        with mpmath.workdps(40):
            expected = float(sum(1_000_000 * mpmath.mpf(w) for w in logits))
        assert_accurate(given(urn).log_partition, expected, 1e-9)


@pytest.mark.parametrize("limit", [1e4, 1e6, 1e8, 1e12])
def test_huge_log_weights_are_right_up_to_the_limit(limit: float) -> None:
    """Far apart, the groups are drawn one after another, heaviest first."""
    for sizes, total, expected in (([3, 5, 4], 6, [3, 3, 0]), ([3, 5, 4], 8, [3, 5, 0]), ([3, 5, 4], 1, [1, 0, 0])):
        law = EXACT(total, sizes, log_weights=torch.tensor([limit, 0.0, -limit], dtype=torch.float64))
        assert_accurate(law.mean, [float(x) for x in expected])
        assert_accurate(law.variance, [0.0, 0.0, 0.0])
        assert_accurate(law.log_prob(torch.tensor(expected)), 0.0)
        pair = EXACT(min(total, 7), sizes[:2], log_weights=torch.tensor([limit, -limit], dtype=torch.float64))
        assert_accurate(pair.mean, [float(min(3, total)), float(min(total, 7) - min(3, total))])
        assert_accurate(pair.log_prob(pair.mean), 0.0)
    for bad in (2e12, 1e15, 1e300):
        for validate in (True, False):
            with pytest.raises(ValueError, match=r"log_weights must be finite, between -1e\+12 and 1e\+12"):
                EXACT(5, [3, 5, 4], log_weights=torch.tensor([bad, 0, 0], dtype=torch.float64), validate_args=validate)


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.filterwarnings("default")  # the compiler's own warnings are not the library's
@compiles_whole
def test_compile_without_a_break(groups: int) -> None:
    torch._dynamo.reset()
    counts = torch.tensor([[1.0, 2.0, 2.0], [0.0, 5.0, 0.0]], dtype=torch.float64)
    counts = counts if groups == 3 else torch.tensor([[1.0, 4.0], [0.0, 5.0]], dtype=torch.float64)
    other = torch.linspace(-1, 1, groups, dtype=torch.float64)

    def function(w: torch.Tensor) -> list[torch.Tensor]:
        law, second = (EXACT(5, [3, 5, 4][:groups], log_weights=weights) for weights in (w, other))
        values = [law.log_prob(counts), law.mean, law.variance, law.entropy(), law.log_partition]
        return [*values, kl_divergence(law, second)]

    points = [torch.randn(2, groups, dtype=torch.float64, generator=generator(3)).requires_grad_() for _ in range(2)]
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)(points[0])
    for ours, plain in zip(compiled, function(points[1]), strict=True):
        assert_accurate(ours, plain)
        gradients = [
            torch.autograd.grad(value.square().sum(), point, retain_graph=True)[0]
            for value, point in zip((ours, plain), points)
        ]
        assert_accurate(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    for sizes, total in (([200] * 3, 180), ([2000, 1000], 1500), ([3, 5, 4], 5)):
        results = []
        for enabled in (True, False):
            point = torch.linspace(0, 1, len(sizes), dtype=dtype).requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                law = EXACT(total, sizes, log_weights=point)
                values = [law.mean, law.variance, law.covariance_matrix, law.log_partition, law.entropy()]
                values += [law.log_prob(law.mode), law.marginal_log_probs().exp()]
                sum(value.square().sum() for value in values).backward()
            results.append([*values, point.grad])
        for ours, plain in zip(*results):
            assert ours.dtype == dtype and torch.equal(ours, plain)


@pytest.fixture(autouse=True)
def validation_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    assert EXACT._validates_by_default is None


@pytest.mark.parametrize("exponent", [6, 8, 14])
def test_the_largest_urns_lose_no_digits(exponent: int) -> None:
    """The central law's closed forms, at 60 digits; the entropy, of a law near a normal one, to its next term."""
    sizes = [2 * 10**exponent, 10**exponent, 10**exponent // 2]
    population = sum(sizes)
    total = population // 3
    law = EXACT(total, sizes, log_weights=torch.zeros(3, dtype=torch.float64))
    mean = np.array([total * m / population for m in sizes])
    factor = total * (population - total) / (population**2 * (population - 1))
    np.testing.assert_allclose(law.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(law.variance, [factor * m * (population - m) for m in sizes], rtol=1e-12)
    with mpmath.workdps(60):

        def log_choose(n: int, k: int) -> mpmath.mpf:
            return mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)

        x = [int(m) for m in mean]
        x[0] += total - sum(x)
        partition = log_choose(population, total)
        expected = float(sum(log_choose(m, k) for m, k in zip(sizes, x)) - partition)
        assert abs(float(mpmath.mpf(float(law.log_partition)) / partition - 1)) < 1e-14
    assert_accurate(law.log_prob(torch.tensor(x)), expected, 1e-12)
    if exponent == 14:
        with pytest.raises(ValueError, match="entropy.*group_sizes"):
            law.entropy()
    else:
        determinant = float(torch.linalg.det(law.covariance_matrix[:2, :2]))
        assert_accurate(
            law.entropy(), 0.5 * math.log((2 * math.pi * math.e) ** 2 * determinant), 10.0 ** (1 - exponent)
        )


@pytest.mark.parametrize("sizes, n", [((300, 200, 300), 400), ((300, 200, 300), 410), ((900, 20, 900), 910)], ids=str)
def test_gradient_of_the_entropy_where_a_characteristic_function_underflows(sizes: tuple[int, ...], n: int) -> None:
    """It was NaN there."""
    point = torch.tensor([0.0, 1.5, -0.25], dtype=torch.float64)

    def entropy(log_weights: torch.Tensor) -> torch.Tensor:
        return EXACT(n, sizes, log_weights=log_weights).entropy()

    (gradient,) = torch.autograd.grad(entropy(leaf := point.clone().requires_grad_()), leaf)
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([(entropy(point + e) - entropy(point - e)) / 2e-4 for e in step])
    torch.testing.assert_close(gradient, differences, rtol=1e-6, atol=1e-7)
