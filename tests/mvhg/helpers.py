"""Assertions and goodness-of-fit statistics shared by the library's tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats

import mvhg
from tests.urns import Urn

EXACT = mvhg.MultivariateHypergeometric
SOFT = mvhg.RelaxedMultivariateHypergeometric
HARD = mvhg.MultivariateHypergeometricStraightThrough

# One graph of torch.compile: the tracers of torch 2.6, 2.7 and 2.8 break it; tried again on 2.13.
compiles_whole = pytest.mark.skipif(torch.__version__ < (2, 13), reason="an older torch.compile breaks the graph")

# Every statistical test below has this failure rate when the library is right; with some hundred of them the suite
# fails by chance (over all possible seeds; the seeds are fixed) about once in a thousand choices of seeds.
FAILURE_RATE = 1e-5


def log_weights(urn: Urn, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(urn.log_weights, dtype=dtype)


def make(urn: Urn, dtype: torch.dtype = torch.float64, kind: type | None = None, **kwargs: Any) -> Any:
    """The library's distribution for an urn, the exact one by default; ``temperature`` where the class takes one."""
    kwargs.setdefault("log_weights", log_weights(urn, dtype))
    return (kind or EXACT)(total_count=urn.total_count, group_sizes=torch.tensor(urn.group_sizes), **kwargs)


def given(urn: Urn, **kwargs: Any) -> Any:
    """The law with its sizes and total as Python numbers."""
    kwargs.setdefault("log_weights", log_weights(urn))
    return EXACT(urn.total_count, list(urn.group_sizes), **kwargs)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def error(actual: Any, expected: Any) -> float:
    """Largest |actual - expected| / max(1, |expected|); infinities must agree, NaN is infinite error."""
    a = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual, dtype=float)
    b = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected, dtype=float)
    assert a.shape == b.shape, f"shape {a.shape}, expected {b.shape}"
    equal = a == b
    with np.errstate(invalid="ignore"):
        difference = np.where(equal, 0.0, np.abs(a - b) / np.maximum(1.0, np.abs(b)))
    return float(np.max(np.nan_to_num(difference, nan=math.inf), initial=0.0))


def assert_accurate(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    found = error(actual, expected)
    assert found <= tolerance, f"error {found:.3g} above {tolerance:g}\nactual   {actual}\nexpected {expected}"


def pooled_cells(expected: np.ndarray, least_expected: float) -> np.ndarray:
    """The cell of each point: rarest first, a cell is closed when it expects enough; a rest joins the last one."""
    cells, cell, held = np.zeros(len(expected), dtype=np.int64), 0, 0.0
    for point in np.argsort(expected, kind="stable"):
        cells[point], held = cell, held + expected[point]
        if held >= least_expected:
            cell, held = cell + 1, 0.0
    return np.minimum(cells, max(cell - 1, 0))


def chi_square_p_value(
    samples: np.ndarray, support: np.ndarray, pmf: np.ndarray, least_expected: float = 10.0
) -> float:
    """Pearson's test of samples [draws, groups] against a pmf on a support [points, groups].

    Points are pooled, rarest first, until each cell expects ``least_expected`` draws. A draw off the support gives 0.
    """
    draws = len(samples)
    radix = np.concatenate([[1], np.cumprod(support.max(axis=0)[:-1].astype(np.int64) + 1)])
    if (samples < 0).any() or (samples > support.max(axis=0)).any():
        return 0.0
    keys = support.astype(np.int64) @ radix
    order = np.argsort(keys)
    found, counts = np.unique(samples.astype(np.int64) @ radix, return_counts=True)
    at = np.clip(np.searchsorted(keys[order], found), 0, len(keys) - 1)
    if (keys[order][at] != found).any():
        return 0.0
    observed = np.zeros(len(keys))
    observed[order[at]] = counts
    cells = pooled_cells(draws * pmf, least_expected)
    expected, observed = np.bincount(cells, draws * pmf), np.bincount(cells, observed)
    if len(expected) == 1:
        return 1.0
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, len(expected) - 1))


def detectable_effect(cells: int, draws: int, power: float = 0.99) -> float:
    """Smallest sqrt(sum (q - p)^2 / p) that ``chi_square_p_value`` at FAILURE_RATE finds with the stated power."""
    critical = stats.chi2.isf(FAILURE_RATE, cells - 1)

    def missing(noncentrality: float) -> float:
        return float(stats.ncx2.sf(critical, cells - 1, noncentrality)) - power

    return math.sqrt(optimize.brentq(missing, 1e-3, 1e5) / draws)


def kolmogorov_smirnov_distance(samples: np.ndarray, pmf: np.ndarray) -> float:
    """Largest difference of the empirical and the exact CDF on 0..len(pmf) - 1."""
    counts = np.bincount(samples.astype(np.int64), minlength=len(pmf))
    assert len(counts) == len(pmf), "a draw above the group's size"
    return float(np.abs(np.cumsum(counts) / len(samples) - np.cumsum(pmf)).max())


def kolmogorov_smirnov_critical(draws: int) -> float:
    """Critical distance at FAILURE_RATE (Dvoretzky-Kiefer-Wolfowitz: a bound for every law, discrete ones too)."""
    return math.sqrt(-0.5 * math.log(FAILURE_RATE / 2) / draws)


def draw_in_chunks(draw: Callable[[tuple[int, ...]], torch.Tensor], draws: int, chunk: int) -> np.ndarray:
    """[draws, ...] in pieces of bounded memory."""
    return np.concatenate([draw((min(chunk, draws - i),)).detach().numpy() for i in range(0, draws, chunk)])


def partition_example(
    elements: int, groups: int, seed: int = 0, spread: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(seed)
    scores = spread * torch.randn(elements, dtype=torch.float64, generator=g)
    return scores, torch.randn(groups, dtype=torch.float64, generator=g)
