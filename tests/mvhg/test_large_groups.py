"""Groups of up to 10^15 elements that are drawn nearly whole: by enumeration of the few elements that are not.

The size of such a group and what is drawn of it must not cancel: a variance was 0.5 percent off at 10^15.
"""

from __future__ import annotations

import itertools

import mpmath
import pytest
import torch

from tests.mvhg.helpers import EXACT, HARD, SOFT, assert_accurate

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
