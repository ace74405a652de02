"""Which counts and sums a table holds: known from sizes and totals alone, or narrower where the weights may be read."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from mvhg._bounds import Bounds


def supports(size: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least counts of the groups [E, c] and of the sums [E, c-1], and the elements in the later groups [E, c]."""
    drawn, n = size.cumsum(1), total.unsqueeze(1)
    later = drawn[:, -1:] - drawn
    return (size - (drawn[:, -1:] - n)).clamp(min=0), (n - drawn).clamp(min=0)[:, :-1], later


def widths(bounds: Bounds, groups: int) -> tuple[int, tuple[int, ...]]:
    """Bounds of the number of counts of a group and of remaining counts at each position, in any order of groups."""
    n, population = bounds.total, bounds.population
    if bounds.sizes is None or bounds.totals is None:
        count = min(bounds.group, n) + 1
        return count, (1,) + (min(n, population) + 1,) * (groups - 2) + (count,) * (groups > 1)
    most = max(min(m, n) - max(0, m - (population - n)) for m in bounds.sizes)
    largest = [0, *itertools.accumulate(sorted(bounds.sizes, reverse=True))]
    spans = [min(n, population - n, largest[i], largest[groups - i]) + 1 for i in range(groups)]
    return most + 1, (1, *spans[1:-1], *((most + 1,) * (groups > 1)))


def windows_within(
    bounds: Bounds, groups: int, depth: float, variance: float = math.inf, variance_of_sums: float = math.inf
) -> tuple[int, tuple[int, ...]]:
    """As ``widths``, of windows that miss no more than exp(-depth) (Bernstein's inequality, on each binomial and sum).

    Under the tilt the variances sum to at most n (1 - n / N), since p (1 - p) is concave, and p (1 - p) <= 1 / 4.
    """
    count, spans = widths(bounds, groups)
    if depth == math.inf:
        return count, spans
    whole = _variance_of_sum(bounds)
    variance, variance_of_sums = min(variance, bounds.group / 4, whole), min(variance_of_sums, whole)
    depth = depth_given_sum(bounds, depth)

    def window(variance: float) -> int:
        return 2 * math.ceil(depth / 3 + math.sqrt(depth * depth / 9 + 2 * depth * variance)) + 2

    narrow = min(count, window(variance))
    sums = [min(span, window(variance_of_sums)) for span in spans[1:-1]]
    return narrow, (1, *sums, *((narrow,) * (groups > 1)))


def depth_given_sum(bounds: Bounds, depth: float) -> float:
    """Depth of the independent binomials' law that reaches ``depth`` given their sum, which costs its spread."""
    return depth + 0.5 * math.log1p(6.3 * _variance_of_sum(bounds))


def _variance_of_sum(bounds: Bounds) -> float:
    """Bound of the variance of the sum of all binomials under the tilt."""
    if bounds.totals is not None and bounds.sizes is not None:
        return bounds.total * (1 - bounds.total / max(bounds.population, 1))
    return min(float(bounds.total), bounds.population / 4)


def reach(depth: float, variance: Tensor, most: Tensor | float) -> Tensor:
    """Distance from the mean beyond which exp(-depth) is left, of a sum whose terms exceed theirs by at most ``most``.

    Bernstein's inequality, for one of the two sides.
    """
    a = most * (depth / 3)
    return a + (a * a + (2 * depth) * variance).sqrt()


def centred(mean: Tensor, fewest: Tensor, most: Tensor, widths: Any) -> Tensor:
    """First counts of windows around means [E, k], within the support; k widths."""
    columns = []
    for k, width in enumerate(widths):
        highest = (most[:, k] - (width - 1)).maximum(fewest[:, k])
        columns.append((mean[:, k].floor() - (width - 2) // 2).maximum(fewest[:, k]).minimum(highest))
    return torch.stack(columns, 1)
