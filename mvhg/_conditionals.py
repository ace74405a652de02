"""Conditional log-weights of one group after another, the chain rule of the hypergeometric law (paper Eq. 2).

With r elements left to draw at group i, log p(x | r) = log Binomial(x; m_i, p_i) + log P(S_i = r - x) + const, where
S_i is the sum over the later groups under a common tilt ("exact"), or a binomial of the one group that replaces them
("merged", paper Eq. 3). A conditional is thus the sum of two stretches of tables, one read forwards, one backwards.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mvhg._bernoulli_sum import aliasing_period, log_sum_probability, solve_tilt
from mvhg._fisher import merged_log_weight
from mvhg._suffix_sums import suffix_sums
from mvhg._windows import PaddedTable, log_factorial_slopes, log_factorials, periodic_windows

# Residues that a sum cannot reach hold rounding noise, maybe negative, where a logarithm is taken.
_FLOOR = 1e-300


class Bounds(NamedTuple):
    """The largest values in a batch of urns, at least; known before any order of groups is drawn."""

    group: int
    population: int
    total: int

    @classmethod
    def of(cls, size: Tensor, total: Tensor) -> "Bounds":
        """Bounds of sizes [B, c] and totals [B]."""
        return cls(int(size.max()), int(size.sum(1).max()), int(total.max()))


class Rows(NamedTuple):
    """Conditional log-weights, up to a constant, of R pairs (urn, remaining count) over a window of counts."""

    log_weights: Tensor  # [R, W], float64, largest about 0, -inf outside the support
    slopes: Tensor | None  # [R, W]: their derivative in the remaining count, up to a constant a row
    start: Tensor  # [R]: the count of column 0


class ConditionalTables:
    """Tables of E urns whose groups are drawn in the given order.

    Args:
        size: group sizes in drawing order, float64 [E, c].
        log_weights: float64 [E, c], differentiable.
        total: float64 [E].
        merged: whether the later groups are merged (paper) instead of summed exactly.
        log_precision: the tables leave out counts of probability below exp(-log_precision), so that their width goes
            with the standard deviation; None keeps the whole support, each log-weight accurate relative to itself.
        bounds: see ``Bounds``; of the urns in any order of groups.
    """

    def __init__(
        self,
        size: Tensor,
        log_weights: Tensor,
        total: Tensor,
        merged: bool,
        log_precision: float | None,
        bounds: "Bounds",
    ) -> None:
        self._bounds = bounds
        self.size, self.total, self.merged = size.long(), total.long(), merged
        self.num_groups = size.shape[1]
        self.later = self.size.sum(1, keepdim=True) - self.size.cumsum(1)  # [E, c]
        tilt = solve_tilt(size, log_weights, total)
        self.logits = log_weights + tilt.unsqueeze(1)
        self.low = torch.zeros_like(self.size)
        self.width = [min(bounds.group, bounds.total) + 1] * self.num_groups
        self.sums = None
        # The merged law is another one than the tilt is made for: its window is the whole support.
        if log_precision is not None and not merged:
            with torch.no_grad():
                chance, opposite = torch.sigmoid(self.logits), torch.sigmoid(-self.logits)
                variance = size * chance * opposite
                # Bernstein bounds on each binomial; conditioning on the sum costs a factor of the order of its spread.
                depth = log_precision + 0.5 * torch.log1p(6.3 * variance.sum(1, keepdim=True))
                down = _bernstein(depth, variance, chance)
                up = _bernstein(depth, variance, opposite)
                self.low = torch.maximum(self.low, (size * chance - down).floor().long())
                high = torch.minimum(self.size, self.total.unsqueeze(1)).minimum((size * chance + up).ceil().long())
                self.width = ((high - self.low).amax(0) + 1).tolist()
                period = int(aliasing_period(variance.sum(1).max(), float(depth.max())))
                self.base = (size * chance).long()
            if self.num_groups > 2:
                self.sums = suffix_sums(size, self.logits, period, float(depth.max())).clamp(min=_FLOOR).log()
        largest = bounds.population if merged else bounds.group
        factorials = log_factorials(largest, size)
        self._factorials = {width: PaddedTable(factorials, math.inf, width) for width in set(self.width)}
        self._largest = largest

    def rows(
        self,
        i: int,
        remaining: Tensor,
        instance: Tensor | None,
        fraction: Tensor | None = None,
        slopes: bool = False,
    ) -> Rows:
        """Conditional log-weights of the group at position ``i``.

        Args:
            i: position in drawing order, 0..c-2.
            remaining: whole elements left to draw, int64 [R].
            instance: urn of each row [R]; None where row e belongs to urn e.
            fraction: what the remaining count has beyond ``remaining``, float64 [R], differentiable; None for whole
                counts.
            slopes: whether the slopes are wanted (not with a fraction, which is differentiated itself).
        """
        start, size, limit, logits = self.low[:, i], self.size[:, i], self.later[:, i], self.logits[:, i]
        if instance is not None:
            start, size, limit, logits = (a[instance] for a in (start, size, limit, logits))
        steps = torch.arange(self.width[i], dtype=torch.float64, device=start.device)
        factorials = self._factorials[self.width[i]]
        x = start.unsqueeze(1) + steps
        own = x * logits.unsqueeze(1) - factorials.ascending(start) - factorials.descending(size - start)
        rest, derivative = self._later_groups(i, remaining - start, limit, instance, fraction, slopes)
        values = own + rest
        values = values - values.detach().amax(1, keepdim=True).clamp(min=-1e300)
        return Rows(values, derivative, start)

    def _later_groups(
        self, i: int, first: Tensor, limit: Tensor, instance: Tensor | None, fraction: Tensor | None, slopes: bool
    ) -> tuple[Tensor, Tensor | None]:
        """log P(S_i = s) and its slopes for s = first, first - 1, ... (plus the fraction), each [R, W]."""
        if not self.merged and i < self.num_groups - 2:
            return self._tabulated(i, first, limit, instance, fraction, slopes)
        logits = self.logits[:, i + 1]
        if self.merged:
            logits = merged_log_weight(self.size[:, i + 1 :].double(), self.logits[:, i + 1 :])
        if instance is not None:
            logits = logits[instance]
        width = self.width[i]
        factorials = self._factorials[width]

        def base(first: Tensor) -> Tensor:
            return -factorials.descending(first) - factorials.ascending(limit - first)

        def base_slopes(first: Tensor) -> Tensor:
            table = PaddedTable(log_factorial_slopes(self._largest, limit), 0.0, width)
            central = table.ascending(limit - first) - table.descending(first)
            # One-sided at s = 0 and s = limit.
            edge = limit.double().clamp(min=1).log()
            return _patch(_patch(central, first, edge), first - limit, -edge)

        s = first.unsqueeze(1) - torch.arange(width, dtype=torch.float64, device=first.device)
        if fraction is None:
            return base(first) + s * logits.unsqueeze(1), base_slopes(first) if slopes else None
        curve = _hermite(base(first), base(first + 1), base_slopes(first), base_slopes(first + 1), fraction)
        return curve + (s + fraction.unsqueeze(1)) * logits.unsqueeze(1), None

    def _tabulated(
        self, i: int, first: Tensor, limit: Tensor, instance: Tensor | None, fraction: Tensor | None, slopes: bool
    ) -> tuple[Tensor, Tensor | None]:
        values, base = self._table(i)
        width = self.width[i]
        s = first.unsqueeze(1) - torch.arange(width, device=first.device)

        def read(table: Tensor, first: Tensor) -> Tensor:
            return periodic_windows(table, first, width, instance)

        outside = (s < 0) | (s > limit.unsqueeze(1))
        left = read(values, first).masked_fill(outside, -torch.inf)
        if fraction is None:
            return left, read(self._table_slopes(i, values, base).detach(), first) if slopes else None
        outside = (s < -1) | (s + 1 > limit.unsqueeze(1))
        right = read(values, first + 1).masked_fill(outside, -torch.inf)
        table = self._table_slopes(i, values, base)
        return _hermite(left, right, read(table, first), read(table, first + 1), fraction), None

    def _table(self, i: int) -> tuple[Tensor, Tensor]:
        """log P(S_i = s) at column s modulo the table's width, [E, V], and the first s of the period it holds, [E]."""
        if self.sums is not None:
            values = self.sums[:, i]
            return values, self.base[:, i + 1 :].sum(1) - values.shape[1] // 2
        limit = self.later[:, i]
        s = torch.arange(min(self._bounds.population, self._bounds.total) + 2, device=limit.device)
        sizes, logits = self.size[:, None, i + 1 :].double(), self.logits[:, None, i + 1 :]
        values = log_sum_probability(sizes, logits, torch.minimum(s, limit.unsqueeze(1)).double())
        return values, torch.zeros_like(limit)

    def _table_slopes(self, i: int, values: Tensor, base: Tensor) -> Tensor:
        """Central differences of a table, one-sided at s = 0 and s = limit where the table holds them."""
        period, limit = values.shape[1], self.later[:, i]
        slopes = 0.5 * (values.roll(-1, 1) - values.roll(1, 1))
        for edge, inward in ((torch.zeros_like(limit), 1), (limit, -1)):
            held = (base <= edge) & (edge < base + period) & (limit > 0)
            at = torch.remainder(edge, period).unsqueeze(1)
            rise = values.gather(1, torch.remainder(at + inward, period)) - values.gather(1, at)
            slopes = slopes.scatter(1, at, torch.where(held.unsqueeze(1), inward * rise, slopes.gather(1, at)))
        return slopes


def is_batched(tensor: Tensor) -> bool:
    """Whether ``tensor`` is a batch of values within torch.func.vmap, none of which can be looked at."""
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def _bernstein(depth: Tensor, variance: Tensor, step: Tensor) -> Tensor:
    """Deviation that a sum with this variance, of terms at most ``step`` above their mean, exceeds w.p. exp(-depth)."""
    a = depth * step / 3
    return a + torch.sqrt(a * a + 2 * depth * variance)


def _patch(values: Tensor, column: Tensor, replacement: Tensor) -> Tensor:
    """``values`` [R, W] with ``replacement`` [R] in the given column, where it exists."""
    inside = (column >= 0) & (column < values.shape[1])
    at = column.clamp(0, values.shape[1] - 1).unsqueeze(1)
    return values.scatter(1, at, torch.where(inside.unsqueeze(1), replacement.unsqueeze(1), values.gather(1, at)))


def _hermite(left: Tensor, right: Tensor, left_slope: Tensor, right_slope: Tensor, fraction: Tensor) -> Tensor:
    """Cubic interpolation between whole counts; -inf unless both ends are possible (or the count is whole)."""
    t = fraction.unsqueeze(1)
    whole = t.detach() == 0
    possible = (left > -torch.inf) & (whole | (right > -torch.inf))
    zero = torch.zeros_like(left)
    left, right = torch.where(possible, left, zero), torch.where(possible & ~whole, right, zero)
    # At a whole count the derivative is the slope there; the far end, which may not exist, has no weight.
    right = torch.where(whole, left.detach(), right)
    blend = t * t * (3 - 2 * t)
    value = (1 - blend) * left + blend * right + t * (1 - t) * ((1 - t) * left_slope - t * right_slope)
    return torch.where(possible, value, -torch.inf)
