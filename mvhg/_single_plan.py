"""What sizes and total decide of single draws, worked out once for an urn."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._bounds import Bounds
from mvhg._draws_of_three import Triple, triple_of
from mvhg._draws_of_two import Pair, pairs_of
from mvhg._kept import CPU, Memory
from mvhg._surrogate import central_rises, neighbours

# Products of probabilities a call, above which narrower tables or transforms win.
_MOST_PRODUCTS = 1 << 21
# What is read so much below the largest is told from 0.
_DEEPEST = 600.0
# Counts of the largest group, as many times those that a draw can have, up to which rows of all of them pay.
_LONGEST_ROWS, _FEW_COUNTS = 4, 1024
# Pairs of counts of all urns of a call, up to which one table of them pays.
_MOST_PAIRS = 1 << 17
_PLANS: "Memory[Plan]" = Memory(64)


class Plan(NamedTuple):
    """What sizes and total decide. Counts are x - least from here on, and remaining counts what is left of ``total``.

    Attributes:
        sizes: group sizes, int64 [c].
        magnitude: bound on the logarithm of the number of ways to draw, and of its inverse.
        alike: whether they are all one.
        least: least count of each group, int64 [c].
        shifted: whether any of them is above 0.
        drawn: the total count.
        total: what of it is beyond the least counts.
        width: counts in a table of a group, X.
        ranges: least and largest sum of the groups after position i, for all orders.
        coefficients: log C(m, least + x) up to a constant, -inf where x is impossible: [c, X], or [1, X] if all alike.
        steps: 0, 1, ... as float64, [X].
        places: columns that a group's counts, and one on each side, read if nothing is drawn before: int64 [X + 2].
        sums: the sum s of each column of a table, ``total + 1 - column``: float64 [P].
        rises: derivative in s, up to a constant, of a last group's log-weights at the columns of its table: central
            differences, one-sided at the ends of the support; [c P], or [P] if all groups are alike.
        ladder: 0..M, int64.
        neighbours: x - 1 and x + 1, or x itself where there is none, for each count x of each group: int64 [c X, 2], or
            [X, 2] if all groups are alike.
        differences: factors that make of what stands there the mean difference to the neighbours: [c X, 2].
        ramp: ``steps`` as a column, [X, 1].
        pairs: of two groups, by whether the second is drawn first.
        triple: of three small groups.
    """

    sizes: Tensor
    magnitude: float
    alike: bool
    least: Tensor
    shifted: bool
    drawn: int
    total: int
    width: int
    ranges: tuple[tuple[int, int], ...]
    coefficients: Tensor
    steps: Tensor
    places: Tensor
    sums: Tensor
    rises: Tensor
    ladder: Tensor
    neighbours: Tensor
    differences: Tensor
    ramp: Tensor
    pairs: tuple[Pair, ...]
    triple: Triple | None

    def serves(self, batch: int, depth: float) -> bool:
        """Whether tables of the whole support pay for so many urns and reach the depth, see ``depth_read``."""
        if len(self.ranges) == 1 or self.by_pairs(batch):
            return True
        if depth > _DEEPEST:
            return False
        products = self.width * (1 + sum(most - least + 1 for least, most in self.ranges[:-1]))
        return batch * products <= _MOST_PRODUCTS

    def by_pairs(self, batch: int) -> bool:
        """Whether so many urns of three groups have one table of all pairs of counts."""
        return self.triple is not None and batch * self.width * self.width <= _MOST_PAIRS


def plan(bounds: Bounds) -> Plan | None:
    """Of a batch of urns; None unless the host knows that they have the same sizes and total, and few of them."""
    sizes, total = bounds.sizes, bounds.totals
    if sizes is None or total is None or len(sizes) < 2 or 0 in sizes:
        return None
    found = _PLANS.get((sizes, total), CPU)
    if found is None:
        left = sum(sizes) - total
        least = [max(0, m - left) for m in sizes]
        rest = total - sum(least)
        spans = [min(m - k, rest) for m, k in zip(sizes, least, strict=True)]
        width = max(spans) + 1
        if width * (rest + width) > _MOST_PRODUCTS or max(sizes) > max(_LONGEST_ROWS * width, _FEW_COUNTS):
            return None
        with torch.inference_mode(False), torch.no_grad():
            found = _plan(sizes, total, least, spans)
        _PLANS.keep((sizes, total), CPU, found)
    return found


def _plan(sizes: tuple[int, ...], drawn: int, least: list[int], spans: list[int]) -> Plan:
    groups, total = len(sizes), drawn - sum(least)
    width, largest = max(spans) + 1, [0, *itertools.accumulate(sorted(spans, reverse=True))]
    ranges = [(max(0, total - largest[i + 1]), min(total, largest[groups - 1 - i])) for i in range(groups - 1)]
    alike, steps = len(set(sizes)) == 1, torch.arange(width, dtype=torch.float64, device=CPU)
    size, low = (torch.tensor(a, device=CPU) for a in (sizes, least))
    m, k = (a[: 1 if alike else None].double().unsqueeze(1) for a in (size, low))
    # Sums of logarithms of ratios: logarithms of factorials lose digits.
    coefficients = pad((((m - k + 1) - steps[1:]).clamp(min=0) / (k + steps[1:])).log().cumsum(1), (1, 0))
    n, most = sum(sizes), min(total, sum(sizes) // 2)
    magnitude = math.lgamma(n + 1) - math.lgamma(most + 1) - math.lgamma(n - most + 1)
    if any(least):  # relative to the number of ways to draw these
        magnitude = n * math.log(2)
    ends, differences = neighbours((k + steps).minimum(m), m)
    columns = total + width + 3
    logs = coefficients.new_full((len(coefficients), columns), -math.inf)
    logs[:, total + 2 - width : total + 2] = coefficients.flip(1)
    return Plan(
        size,
        magnitude,
        alike,
        low,
        any(least),
        drawn,
        total,
        width,
        tuple(ranges),
        coefficients,
        steps,
        torch.arange(width + 2, device=CPU),
        total + 1 - torch.arange(columns, dtype=torch.float64, device=CPU),
        pad(central_rises(logs, 1, torch.float64), (1, 1)).flatten(),
        torch.arange(max(sizes) + 1, device=CPU),
        ends.flatten(0, 1).long(),
        differences.flatten(0, 1),
        steps.unsqueeze(1),
        pairs_of(sizes, least, total, coefficients) if groups == 2 else (),
        triple_of(sizes, least, total, coefficients),
    )
