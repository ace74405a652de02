"""Groups of up to 10^15 elements, and log weights of up to 10^12.

Of those drawn nearly whole the truth is by enumeration of the few elements that are not.

The size of such a group and what is drawn of it must not cancel: a variance was 0.5 percent off at 10^15.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch.distributions import kl_divergence

import mvhg
from mvhg import _reference
from mvhg.pt_fmvhg import MVHG
from tests.mvhg.helpers import EXACT, HARD, SOFT, assert_accurate, generator

DOUBLE = torch.float64

# Sizes, the total, log weights. Of the first group some are left, of the second some are drawn.
CASES = [
    ((10**15, 7), 10**15, (0.0, 0.0)),
    ((10**9, 7, 0), 10**9, (0.0, 0.0, 0.0)),
    ((10**15, 2 * 10**15, 10), 10**15 + 5, (34.0, -35.0, 0.0)),
    ((10**12, 10**12, 10), 10**12 + 5, (28.0, -28.0, 0.0)),
    ((10**9, 10**9, 1, 10), 10**9 + 3, (200.0, -200.0, 100.0, 0.0)),
]


def enumerated(
    sizes: tuple[int, ...], total: int, log_weights: tuple[float, ...]
) -> list[tuple[tuple[int, ...], float]]:
    """Counts and their probabilities, in extended precision, of all with at most 12 of the first two groups amiss."""
    found = []
    with mpmath.workdps(60):
        few = [range(13)] * min(2, len(sizes)) + [range(m + 1) for m in sizes[2:]]
        for left, *others in itertools.product(*few):
            x = (sizes[0] - left, *others)
            if sum(x) == total and all(0 <= count <= m for count, m in zip(x, sizes)):
                logs = [
                    mpmath.log(mpmath.binomial(m, min(k, m - k))) + (k - (sizes[0] if i == 0 else 0)) * mpmath.mpf(w)
                    for i, (k, m, w) in enumerate(zip(x, sizes, log_weights))
                ]
                found.append((x, mpmath.exp(mpmath.fsum(logs))))
        whole = mpmath.fsum(p for _, p in found)
        return [(x, float(p / whole)) for x, p in found]


@pytest.mark.parametrize("sizes, total, log_weights", CASES, ids=str)
def test_closed_forms(sizes: tuple[int, ...], total: int, log_weights: tuple[float, ...], sight: None) -> None:
    law = EXACT(total, list(sizes), log_weights=torch.tensor(log_weights, dtype=torch.float64))
    every = enumerated(sizes, total, log_weights)
    x = torch.tensor([x for x, _ in every], dtype=torch.float64)
    p = torch.tensor([p for _, p in every], dtype=torch.float64)
    likely = p > 1e-12
    assert_accurate(law.log_prob(x[likely]).exp(), p[likely])
    base = x[0]  # counts relative to these, whose squares are not beyond a float64
    mean = ((x - base) * p.unsqueeze(1)).sum(0)
    centred = (x - base - mean) * (p > 0).unsqueeze(1)
    covariance = torch.einsum("p,pi,pj->ij", p, centred, centred)
    assert_accurate(law.mean[1:], (base + mean)[1:])
    assert_accurate(law.variance, covariance.diagonal())
    assert_accurate(law.covariance_matrix, covariance)
    if total < 10**10:
        assert_accurate(law.entropy(), -(p[p > 0] * p[p > 0].log()).sum())


def test_draws_whose_tables_fit_no_machine_name_the_arguments() -> None:
    sizes = [2**51, 2**51, 2**50]
    for draw in (
        EXACT(2**51, sizes).sample,
        EXACT(2**51, sizes[:2]).sample,
        SOFT(0.5, 2**51, sizes).rsample,
        HARD(1e30, 2**40, sizes).rsample,
        HARD(0.5, 2**40, sizes, conditionals="merged").rsample,
    ):
        with pytest.raises(ValueError, match="a draw needs tables .* of total_count .* and group_sizes up to "):
            draw()


def log_binomial(size: int, count: int) -> mpmath.mpf:
    return mpmath.loggamma(size + 1) - mpmath.loggamma(count + 1) - mpmath.loggamma(size - count + 1)


def log_central(sizes: list[int], counts: list[int]) -> float:
    """Log-probability of counts where all weights are equal."""
    with mpmath.workdps(60):
        ways = mpmath.fsum(log_binomial(m, x) for m, x in zip(sizes, counts, strict=True))
        return float(ways - log_binomial(sum(sizes), sum(counts)))


@pytest.mark.parametrize("shift", [0.0, 65.0, 1e6, 1e12, -1e12])
@pytest.mark.parametrize("size", [2**20, 2**40, 2**51])
def test_equal_weights_of_any_size_are_the_central_law(size: int, shift: float, sight: None) -> None:
    n, third = size, size // 3
    counts = [third + round(size**0.5), third - 5, n - 2 * third - round(size**0.5) + 5]
    law = EXACT(n, [size] * 3, log_weights=torch.full((3,), shift, dtype=DOUBLE))
    at = torch.tensor(counts, dtype=DOUBLE)
    assert_accurate(law.log_prob(at), log_central([size] * 3, counts))
    variance = n * (2 / 9) * 2 * size / (3 * size - 1)
    torch.testing.assert_close(law.mean, torch.full((3,), n / 3, dtype=DOUBLE), rtol=1e-12, atol=0)
    torch.testing.assert_close(law.variance, torch.full((3,), variance, dtype=DOUBLE), rtol=1e-9, atol=0)
    with mpmath.workdps(60):
        partition = float(log_binomial(3 * size, n) + n * mpmath.mpf(shift))
    assert_accurate(law.log_partition, partition)
    weights = EXACT(n, [size] * 3, weights=torch.full((3,), 1e300, dtype=DOUBLE))
    assert_accurate(weights.log_prob(at), log_central([size] * 3, counts))


@pytest.mark.parametrize("gap", [200.0, 1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("heavy", [True, False])
def test_groups_beyond_reach_leave_the_law_of_the_others(heavy: bool, gap: float, sight: None) -> None:
    """One group, of a weight far above or below the others', is drawn whole or not at all; so is an empty one."""
    size, rest = 2**40, 2**39 + 12_345
    log_weights = torch.tensor([1e12, 1e12, 1e12, 1e12 - gap, -1e12], dtype=DOUBLE)
    sizes, counts, n = [size] * 4 + [0], [rest // 3 - 10**6, rest // 3, rest - 2 * (rest // 3) + 10**6, 0, 0], rest
    if heavy:
        log_weights, n = -log_weights, rest + size
        counts[3] = size
    law = EXACT(n, sizes, log_weights=log_weights)
    at = torch.tensor(counts, dtype=DOUBLE)
    assert_accurate(law.log_prob(at), log_central([size] * 3, counts[:3]))
    expected = [rest / 3] * 3 + [counts[3], 0.0]
    torch.testing.assert_close(law.mean, torch.tensor(expected, dtype=DOUBLE), rtol=1e-12, atol=1e-12)
    varying = rest * (2 / 9) * (3 * size - rest) / (3 * size - 1)
    torch.testing.assert_close(law.variance[:3], torch.full((3,), varying, dtype=DOUBLE), rtol=1e-9, atol=0)
    assert law.variance[3:].max() < 1e-20
    assert sorted((law.mode - torch.tensor(expected, dtype=DOUBLE).round()).abs().tolist())[-1] <= 1
    # The values of counts off the likely ones are those of the weights.
    at[3] += -1 if heavy else 1
    at[0] += 1 if heavy else -1
    assert_accurate(law.log_prob(at) / gap, -1.0, 1e-9 + 70 / gap)


SHIFTED: dict[str, Callable[[torch.Tensor, list[int], int], torch.Tensor]] = {
    "log_prob": lambda w, m, n: EXACT(n, m, log_weights=w).log_prob(EXACT(n, m, log_weights=w).mode),
    "merged": lambda w, m, n: EXACT(n, m, log_weights=w, conditionals="merged").log_prob(EXACT(n, m).mode),
    "mean": lambda w, m, n: EXACT(n, m, log_weights=w).mean,
    "variance": lambda w, m, n: EXACT(n, m, log_weights=w).variance,
    "covariance_matrix": lambda w, m, n: EXACT(n, m, log_weights=w).covariance_matrix,
    "entropy": lambda w, m, n: EXACT(n, m, log_weights=w).entropy(),
    "marginals": lambda w, m, n: EXACT(n, m, log_weights=w).marginal_log_probs().exp(),
    "mode": lambda w, m, n: EXACT(n, m, log_weights=w).mode,
    "kl": lambda w, m, n: kl_divergence(EXACT(n, m, log_weights=w), EXACT(n, m, log_weights=w.flip(-1))),
    "sample": lambda w, m, n: EXACT(n, m, log_weights=w).sample((20,), generator=generator(1)),
    "hard": lambda w, m, n: HARD(0.5, n, m, log_weights=w).rsample(generator=generator(1)),
    "hard, many": lambda w, m, n: HARD(0.5, n, m, log_weights=w).rsample((20,), generator=generator(1)),
    "soft": lambda w, m, n: SOFT(0.5, n, m, log_weights=w).rsample(generator=generator(1)),
    "second order": lambda w, m, n: mvhg.MultivariateHypergeometricSecondOrder(n, m, log_weights=w).rsample(
        generator=generator(1)
    ),
    "pt_fmvhg": lambda w, m, n: whole_log_probs(w, m, n, "exact"),
    "pt_fmvhg, merged": lambda w, m, n: whole_log_probs(w, m, n, "merged"),
}


def whole_log_probs(log_weights: torch.Tensor, sizes: list[int], n: int, conditionals: str) -> torch.Tensor:
    counts = EXACT(n, sizes).mode.long().tolist()
    y = [torch.eye(m + 1, dtype=DOUBLE)[x].reshape(1, 1, -1) for m, x in zip(sizes, counts, strict=True)]
    x = [torch.tensor([[[float(count)]]], dtype=DOUBLE) for count in counts]
    return MVHG(conditionals=conditionals).get_log_probs(sizes, n, x, y, log_weights.reshape(1, -1))


@pytest.fixture(params=["looking", "blind", "blind, large urns"])
def sight_of_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether weights are taken relative to a reference whatever they are, of small urns as of large ones."""
    if request.param != "looking":
        request.getfixturevalue("blind")
    if request.param == "blind, large urns":
        monkeypatch.setattr(_reference, "_MOST_LEFT_UNSEEN", 0)
    return bool(request.param != "blind")


@pytest.mark.parametrize("shift", [2.0**39, -100.0])
@pytest.mark.parametrize("sizes", [[3, 5, 4], [300, 200, 300], [20] * 6, [500, 700], [0, 9, 7, 8]])
@pytest.mark.parametrize("name", SHIFTED)
def test_only_ratios_of_weights_matter(name: str, sizes: list[int], shift: float, sight_of_large: bool) -> None:
    """Values and gradients of all that is computed; of shifts that are exact in a float64."""
    if not sight_of_large:
        shift = math.copysign(min(abs(shift), 2.0**10), shift)  # unseen weights of small urns stay as they are
    n = sum(sizes) // 2
    found = []
    for by in (0.0, shift):
        weights = (torch.tensor([0.0, 1.5, -0.25, 2.0, 0.5, -1.0], dtype=DOUBLE)[: len(sizes)] + by).requires_grad_()
        value = SHIFTED[name](weights, sizes, n)
        weighing = torch.linspace(-1, 1, value.numel(), dtype=DOUBLE).reshape(value.shape)
        if value.requires_grad:
            value.mul(weighing).sum().backward()
        found += [value.detach(), torch.zeros(0) if weights.grad is None else weights.grad]
    torch.testing.assert_close(found[2], found[0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[3], found[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sizes", [[3, 5], [3, 5, 4], [500, 700], [10**5] * 4])
def test_derivatives_of_large_log_weights(sizes: list[int], sight: None) -> None:
    """In the counts, log omega and the digammas of the coefficients; of log P_0, mean and covariance."""
    n, shift = sum(sizes) // 2, 2.0**30
    weights = torch.tensor([0.0, 1.5, -0.25, 2.0], dtype=DOUBLE)[: len(sizes)] + shift
    law = EXACT(n, sizes, log_weights=weights.requires_grad_())
    x, m = law.mode.requires_grad_(), torch.tensor(sizes, dtype=DOUBLE)
    (of_counts,) = torch.autograd.grad(law.log_prob(x), x)
    expected = weights.detach() + torch.digamma(m - x.detach() + 1) - torch.digamma(x.detach() + 1)
    torch.testing.assert_close(of_counts, expected, rtol=1e-14, atol=0)
    jacobian = torch.func.jacrev(
        lambda x: EXACT(n, sizes, log_weights=weights.detach(), validate_args=False).log_prob(x)
    )
    torch.testing.assert_close(jacobian(x.detach()), expected, rtol=1e-14, atol=0)
    (of_weights,) = torch.autograd.grad(law.log_partition, weights, create_graph=True)
    torch.testing.assert_close(of_weights, law.mean, rtol=1e-9, atol=0)
    (row,) = torch.autograd.grad(of_weights[0], weights)
    torch.testing.assert_close(row, law.covariance_matrix[0], rtol=1e-7, atol=1e-7)


MODES = [
    (10**5, [10**5] * 3, [1e12] * 3),
    (10**15, [10**15] * 3, [math.log(1e300)] * 3),
    (2**40, [2**40] * 4, [0.0, 0.0, 0.0, -1e12]),
    (2**52, [2**51] * 3, [0.0, 0.0, 0.0]),
    (2**52 + 1, [2**50] * 7, [1e12, -1e12, 0.25, 0.25, 0.25, -1e-9, 3.0]),
    (10**6, [10**15, 10**15, 10**6], [0.0, 1e-12, -1e12]),
    (3 * 10**15 - 2, [10**15] * 3, [1.0, 2.0, -1e3]),
    (2**50, [2**50, 0, 2**50], [5.0, 1e12, 5.0 + 1e-13]),
]


@pytest.mark.parametrize("n, sizes, log_weights", MODES, ids=str)
def test_the_mode_sums_to_the_total_and_has_no_likelier_neighbour(
    n: int, sizes: list[int], log_weights: list[float], sight: None
) -> None:
    law = EXACT(n, sizes, log_weights=torch.tensor(log_weights, dtype=DOUBLE))
    mode = [int(x) for x in law.mode.tolist()]
    assert sum(mode) == n and all(0 <= x <= m for x, m in zip(mode, sizes, strict=True))
    with mpmath.workdps(60):  # the gain by one more element, and what the last one gained
        log_omega = [mpmath.mpf(w) for w in log_weights]
        urn = list(zip(mode, sizes, log_omega, strict=True))
        gains = [w + mpmath.log(mpmath.mpf(m - x) / (x + 1)) for x, m, w in urn if x < m]
        gained = [w + mpmath.log(mpmath.mpf(m - x + 1) / x) for x, m, w in urn if x > 0]
        assert not gains or max(gains) - min(gained) < 1e-13


def test_modes_of_small_urns_are_the_most_probable_counts(sight: None) -> None:
    for seed in range(40):
        g = generator(seed)
        sizes = torch.randint(0, 5, (3,), generator=g).tolist()
        n = int(torch.randint(0, sum(sizes) + 1, (), generator=g))
        scale = (0.0, 1.0, 30.0, 1e6, 1e12)[seed % 5]
        log_weights = (torch.rand(3, dtype=DOUBLE, generator=g) - 0.5).mul(scale).round(decimals=1) + (seed % 3) * 64
        law = EXACT(n, sizes, log_weights=log_weights)
        with mpmath.workdps(60):
            values = {
                x: mpmath.fsum(
                    mpmath.log(mpmath.binomial(m, k)) + k * mpmath.mpf(w)
                    for k, m, w in zip(x, sizes, log_weights.tolist(), strict=True)
                )
                for x in itertools.product(*(range(m + 1) for m in sizes))
                if sum(x) == n
            }
            best = max(values.values())
            assert best - values[tuple(int(x) for x in law.mode.tolist())] < 1e-12
