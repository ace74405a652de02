"""Conditional log-weights of one group after another, the chain rule of the hypergeometric law (paper Eq. 2).

With r elements left to draw at group i, log p(x_i | r) = log Binomial(x_i; m_i, p_i) + log P(S_i = r - x_i) + const,
where S_i is the sum over the later groups under a common tilt ("exact"), or log Binomial of one group that replaces
them ("merged", paper Eq. 3). Both parts are tables, so a conditional is one shifted sum of two rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mvhg._binomial import log_factorials
from mvhg._bernoulli_sum import aliasing_period, log_sum_probability, solve_tilt
from mvhg._fisher import merged_log_weight
from mvhg._suffix_sums import suffix_sums

_FLOOR = 1e-300


class SuffixTable(NamedTuple):
    """log P(S_i = s), [E, V]; column v holds s = offset + v, or s = v mod V where ``circular``."""

    values: Tensor
    slopes: Tensor  # central differences of ``values``, one-sided at the ends of the support
    offset: Tensor  # [E]
    circular: bool
    limit: Tensor  # [E]: the largest possible s, the number of elements in the later groups

    def column(self, s: Tensor, instance: Tensor | None) -> tuple[Tensor, Tensor]:
        """Column of each s [R, W] and whether the table covers it."""
        width = self.values.shape[1]
        if self.circular:
            return torch.remainder(s, width), torch.ones_like(s, dtype=torch.bool)
        offset = self.offset if instance is None else self.offset[instance]
        column = s - offset.unsqueeze(1)
        return column.clamp(0, width - 1), (column >= 0) & (column < width)


class Rows(NamedTuple):
    """Conditional log-weights of R pairs (urn, remaining count) over a window of counts."""

    log_weights: Tensor  # [R, W], float64, -inf outside the support
    slopes: Tensor | None  # [R, W]: derivative in the remaining count
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
    """

    def __init__(
        self, size: Tensor, log_weights: Tensor, total: Tensor, merged: bool, log_precision: float | None
    ) -> None:
        self.size, self.total, self.merged = size, total, merged
        self.num_groups = size.shape[1]
        tilt = solve_tilt(size, log_weights, total)
        self.logits = log_weights + tilt.unsqueeze(1)
        self.later = (size.sum(1, keepdim=True) - size.cumsum(1)).long()  # [E, c]
        self.log_factorial = log_factorials(int(size.sum(1).max()) if merged else int(size.max()), size)
        low, high = torch.zeros_like(size), torch.minimum(size, total.unsqueeze(1))
        # The merged law is another one than the tilt is made for, so its window is the support.
        windowed = log_precision is not None and not merged
        self.sums = None
        if windowed:
            with torch.no_grad():
                chance, opposite = torch.sigmoid(self.logits), torch.sigmoid(-self.logits)
                variance = size * chance * opposite
                # Bernstein bounds on each binomial; conditioning on the sum costs a factor of the order of its spread.
                depth = log_precision + 0.5 * torch.log1p(6.3 * variance.sum(1, keepdim=True))
                up, down = depth * opposite / 3, depth * chance / 3
                low = torch.maximum(low, (size * chance - down - torch.sqrt(down**2 + 2 * depth * variance)).floor())
                high = torch.minimum(high, (size * chance + up + torch.sqrt(up**2 + 2 * depth * variance)).ceil())
                period = int(aliasing_period(variance.sum(1).max(), float(depth.max())))
            if self.num_groups > 2:
                # Clamped for the logarithm: residues that the sum cannot reach hold rounding noise, maybe negative.
                self.sums = suffix_sums(size, self.logits, period).clamp(min=_FLOOR).log()
        self.low = low.long()
        self.width = [int(w) for w in (high - low).amax(0) + 1]

    def suffix_table(self, i: int) -> SuffixTable:
        """log P(S_i = s) for the groups after position ``i``."""
        limit = self.later[:, i]
        if self.sums is not None and i < self.num_groups - 2:
            values = self.sums[:, i]
            slopes = 0.5 * (values.roll(-1, 1) - values.roll(1, 1))
            return SuffixTable(values, slopes, torch.zeros_like(limit), True, limit)
        if self.merged or i == self.num_groups - 2:
            size, logits = limit.double(), self.logits[:, i + 1]
            if self.merged:
                logits = merged_log_weight(self.size[:, i + 1 :], self.logits[:, i + 1 :])
            windowed = not self.merged
            offset = self.low[:, -1] if windowed else torch.zeros_like(limit)
            width = self.width[-1] if windowed else int(torch.minimum(limit, self.total.long()).max()) + 1
            s = offset.unsqueeze(1) + torch.arange(width, device=size.device)
            values = self._log_binomial_weights(s, size, logits)
        else:
            offset = torch.zeros_like(limit)
            s = torch.arange(int(torch.minimum(limit, self.total.long()).max()) + 1, device=limit.device)
            later_size, later_logits = self.size[:, None, i + 1 :], self.logits[:, None, i + 1 :]
            possible = torch.minimum(s, limit.unsqueeze(1)).double()
            values = log_sum_probability(later_size, later_logits, possible)
            s = s.expand(values.shape)
        return SuffixTable(values, _slopes(values, s, limit), offset, False, limit)

    def _log_binomial_weights(self, x: Tensor, size: Tensor, logits: Tensor) -> Tensor:
        """log C(size, x) + x logits up to a constant a row, for x [E, W] clamped to the support."""
        x = torch.minimum(x, size.long().unsqueeze(1))
        factorial = self.log_factorial
        constant = -(factorial[x] + factorial[size.long().unsqueeze(1) - x])
        values = constant + x * logits.unsqueeze(1)
        return values - values.detach().amax(1, keepdim=True)

    def rows(self, i: int, remaining: Tensor, instance: Tensor | None, slopes: bool) -> Rows:
        """Conditional log-weights of the group at position ``i``.

        Args:
            i: position in drawing order, 0..c-2.
            remaining: elements left to draw, float64 [R]; may be fractional and differentiable.
            instance: urn of each row [R]; None where row e belongs to urn e.
            slopes: whether ``remaining`` is integer-valued, and the derivative in it returned instead of traced.
        """
        table = self.suffix_table(i)
        own = self._own(i)
        start = self.low[:, i]
        limit = table.limit
        if instance is not None:
            start, limit = start[instance], limit[instance]
        whole = remaining.detach().round()
        whole = torch.where((remaining.detach() - whole).abs() < 1e-12, whole, remaining.detach().floor()).long()
        x = start.unsqueeze(1) + torch.arange(self.width[i], device=start.device)
        s = whole.unsqueeze(1) - x
        fraction = remaining - whole
        reach = torch.where(fraction.detach().abs() < 1e-12, 0, 1)
        column, covered = table.column(s, instance)
        possible = covered & (s >= 0) & (s + reach.unsqueeze(1) <= limit.unsqueeze(1))
        own = own if instance is None else own[instance]
        if slopes:
            log_weights = own + _take(table.values, column, instance)
            slope = _take(table.slopes.detach(), column, instance)
        else:
            log_weights = own + _interpolate(table, s, fraction, limit, instance)
            slope = None
        return Rows(torch.where(possible, log_weights, -torch.inf), slope, start)

    def _own(self, i: int) -> Tensor:
        x = self.low[:, i].unsqueeze(1) + torch.arange(self.width[i], device=self.low.device)
        values = self._log_binomial_weights(x, self.size[:, i], self.logits[:, i])
        return torch.where(x <= self.size[:, i].unsqueeze(1), values, -torch.inf)


def _take(values: Tensor, column: Tensor, instance: Tensor | None) -> Tensor:
    if instance is None:
        return values.gather(1, column)
    flat = instance.unsqueeze(1) * values.shape[1] + column
    return values.reshape(-1).index_select(0, flat.reshape(-1)).reshape(column.shape)


def _slopes(values: Tensor, s: Tensor, limit: Tensor) -> Tensor:
    """Central differences along the last dimension, one-sided where a neighbour is missing or outside 0..limit."""
    up = torch.nn.functional.pad(values[:, 1:], (0, 1)), s + 1 <= limit.unsqueeze(1)
    down = torch.nn.functional.pad(values[:, :-1], (1, 0)), s > 0
    has_up, has_down = up[1].clone(), down[1].clone()
    has_up[:, -1], has_down[:, 0] = False, False
    rise = torch.where(has_up, up[0], values) - torch.where(has_down, down[0], values)
    return rise / (has_up.int() + has_down.int()).clamp(min=1)


def _interpolate(table: SuffixTable, s: Tensor, fraction: Tensor, limit: Tensor, instance: Tensor | None) -> Tensor:
    """Cubic Hermite interpolation of the table at s + fraction, with central-difference slopes."""
    here, _ = table.column(s, instance)
    after, _ = table.column(torch.minimum(s + 1, limit.unsqueeze(1)), instance)
    left, right = _take(table.values, here, instance), _take(table.values, after, instance)
    left_slope, right_slope = _take(table.slopes, here, instance), _take(table.slopes, after, instance)
    t = fraction.unsqueeze(1)
    blend = t * t * (3 - 2 * t)
    return (1 - blend) * left + blend * right + t * (1 - t) * ((1 - t) * left_slope - t * right_slope)
