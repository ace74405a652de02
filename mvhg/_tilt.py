"""The tilt: the theta at which a sum of independent binomials, of log odds theta + log omega_j, expects a total.

See ``_bernoulli_sum``, whose formulas are accurate there.
"""

import math
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from mvhg._kept import Memory, constant, may_be_kept
from mvhg._tilt_of_few import MOST_STEPS, NOTHING, tilt_of_one
from mvhg._validation import FEW, broadcast_shapes, can_list, can_look

PlainUrn: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # sizes, and totals

# Elements up to which phases of the size of a group cancel to 1e-11.
MOST_BY_PLAIN_PHASE = 50_000
# Relative to the threshold a tilt is within log(2^53) of 0, and 58 more where it is that of NOTHING. In a wider gap
# between groups, where nothing is undecided, the end that this leaves does as well.
_FURTHEST = 128.0
# Where convergence cannot be looked at: the bracket shrinks 65-fold a round, then one of Newton's steps.
_GRID, _GRID_ROUNDS = 64, 3
_FACTS: "Memory[_Facts]" = Memory(64)


def solve_tilt(
    size: Tensor,
    log_weights: Tensor,
    total: Tensor,
    tolerance: float = 1e-7,
    urn: PlainUrn | None = None,
    relative: bool = False,
) -> Tensor:
    """The theta at which sum_j size_j sigmoid(theta + log_weights_j) = total (not differentiable).

    In closed form for one and two groups. For more, Newton's method on the logarithm of what is drawn or of what is
    left, whichever is less, kept inside a shrinking bracket. On a CPU it stops once the sum is within ``tolerance``
    standard deviations; elsewhere and where it is traced or batched, its steps are fixed and no value is looked at.

    Args:
        size: group sizes, float64 [..., c].
        log_weights: log importance weights, float64 [..., c].
        total: 0 <= total <= sum of sizes, float64 [...]. At the two ends the tilt is infinite: a finite value beyond
            which the tail is below 1e-20 is returned.
        tolerance: of the sum, in standard deviations.
        urn: what the host knows of sizes and totals, which are then the same in the whole batch.
        relative: whether the log weights are relative to ``_reference.threshold`` of this total, or of one more.

    Returns:
        Tensor [...].
    """
    with torch.no_grad():
        size, log_weights, total = size.detach(), log_weights.detach(), total.detach()
        if size.shape[-1] == 1:
            size, log_weights = (torch.cat([a, torch.zeros_like(a)], -1) for a in (size, log_weights))
        if size.shape[-1] == 2:
            return _tilt_of_two(size, log_weights, total)
        shape = broadcast_shapes(log_weights.shape[:-1], total.shape)
        if shape.numel() * size.shape[-1] <= FEW and can_list(size, log_weights, total):
            return _tilt_of_few(size, log_weights, total, shape, tolerance, _FURTHEST if relative else math.inf)
        return _tilt_of_many(size, log_weights, total, tolerance, urn, relative)


def _tilt_of_few(
    size: Tensor, log_weights: Tensor, total: Tensor, shape: torch.Size, tolerance: float, furthest: float
) -> Tensor:
    rows = (a.expand(*shape, -1).flatten(0, -2).tolist() if shape else [a.tolist()] for a in (size, log_weights))
    totals = total.expand(shape).flatten().tolist()
    found = [tilt_of_one(m, w, n, tolerance, furthest) for m, w, n in zip(*rows, totals, strict=True)]
    return torch.tensor(found, dtype=log_weights.dtype, device=log_weights.device).reshape(shape)


def _tilt_of_two(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """The positive root of a quadratic in the odds of the heavier group, or in those of the lighter one."""
    first_heavier = log_weights[..., 0] >= log_weights[..., 1]
    heavy = torch.where(first_heavier, log_weights[..., 0], log_weights[..., 1])
    light = torch.where(first_heavier, log_weights[..., 1], log_weights[..., 0])
    many, few = (torch.where(first_heavier, size[..., i], size[..., 1 - i]) for i in (0, 1))
    drawn, left = total.clamp(min=NOTHING), (many + few - total).clamp(min=NOTHING)
    ratio = (light - heavy).exp().clamp(min=1e-300)  # far beyond it, on a plateau, any tilt between the groups will do
    b = (many - total) + (few - total) * ratio
    root = (b * b + 4 * left * ratio * drawn).sqrt()
    # Neither sum cancels: one is the odds of the heavier group, the other those of the lighter one.
    at_heavy = (2 * drawn / (b + root).clamp(min=1e-300)).log() - heavy
    at_light = ((root - b) / (2 * left)).clamp(min=1e-300).log() - light
    return torch.where(b >= 0, at_heavy, at_light)


class _Facts(NamedTuple):
    """What the solver needs of sizes and totals. What is left is what is drawn, for weights 1 / omega."""

    sign: Tensor | None  # [..., 1], -1 where more is drawn than left; None if nowhere
    less: Tensor  # [...], the lesser of drawn and left
    odds: Tensor  # [...], logarithm of its odds
    absent: Tensor | None  # [..., c], empty groups; None if there are none
    nothing: Tensor | None  # [...], urns without elements; None if there are none

    @classmethod
    def of(cls, size: Tensor, total: Tensor) -> "_Facts":
        """Of sizes [..., c] and totals [...]."""
        population = size.sum(-1)
        sign = torch.where(2 * total > population, -1.0, 1.0).to(size.dtype).unsqueeze(-1)
        less = torch.minimum(total, population - total).clamp(min=NOTHING)
        odds = less.log() - (population - less).clamp(min=NOTHING).log()
        return cls(sign, less, odds, size == 0, population == 0)


def _facts(size: Tensor, total: Tensor, urn: PlainUrn | None) -> _Facts:
    """As ``_Facts.of``; kept for plain urns."""
    if urn is None or not may_be_kept(total):
        return _Facts.of(size, total)
    found = _FACTS.get(urn, total.device)
    if found is None:
        sizes, totals = urn
        shape = (len(totals),) if len(totals) > 1 else ()
        size, total = constant(sizes, total.device, size.dtype), constant(totals, total.device, size.dtype)
        found = _Facts.of(size, total.reshape(shape))
        population = sum(sizes)
        found = found._replace(
            sign=None if 2 * max(totals) <= population else found.sign,
            absent=found.absent if 0 in sizes else None,
            nothing=None if population else found.nothing,
        )
        _FACTS.keep(urn, total.device, found)
    return found


def _tilt_of_many(
    size: Tensor, log_weights: Tensor, total: Tensor, tolerance: float, urn: PlainUrn | None, relative: bool
) -> Tensor:
    facts = _facts(size, total, urn)
    if total.dim() > facts.less.dim():  # totals along the first dimension, of a batch
        rest = (1,) * (total.dim() - 1)
        sign = None if facts.sign is None else facts.sign.reshape(-1, *rest, 1)
        facts = facts._replace(sign=sign, less=facts.less.reshape(-1, *rest), odds=facts.odds.reshape(-1, *rest))
    sign, less, odds, absent, nothing = facts
    log_weights = log_weights if sign is None else log_weights * sign
    if absent is None:
        low, high = (odds - end for end in log_weights.aminmax(dim=-1)[::-1])
    else:
        low = odds - log_weights.masked_fill(absent, -math.inf).amax(-1)
        high = odds - log_weights.masked_fill(absent, math.inf).amin(-1)
    if nothing is not None:
        low, high = (a.masked_fill(nothing, 0.0) for a in (low, high))
    if relative:
        low, high = low.clamp(min=-_FURTHEST), high.clamp(max=_FURTHEST)

    if not can_look(size, log_weights, total):
        plain = urn is not None and sum(urn[0]) <= MOST_BY_PLAIN_PHASE
        theta = _tilt_unseen(size, log_weights, less, low, high, plain)
    else:
        theta = _tilt_seen(size, log_weights, less, odds, low, high, tolerance)
    return theta if sign is None else theta * sign.squeeze(-1)


def _excess(size: Tensor, logits: Tensor, total: Tensor) -> Tensor:
    """sum_j size_j sigmoid(logits_j) - total, [...], without what groups that are mostly drawn would cancel."""
    drawn = (logits > 0).to(size.dtype)
    rare = torch.sigmoid(-logits.abs()) * (1 - 2 * drawn)
    return (size * rare).sum(-1) - (total - (size * drawn).sum(-1))


def _tilt_unseen(size: Tensor, log_weights: Tensor, less: Tensor, low: Tensor, high: Tensor, plain: bool) -> Tensor:
    """By a grid; ``plain`` says that sums of sizes this small have no digits to lose."""
    row, size = size, size.unsqueeze(-1)
    places = torch.arange(1, _GRID + 1, dtype=low.dtype, device=low.device)
    width = high - low
    for _ in range(_GRID_ROUNDS):
        width = width / (_GRID + 1)
        points = torch.addcmul(low.unsqueeze(-1), width.unsqueeze(-1), places)  # [..., grid]
        logits = points.unsqueeze(-1) + log_weights.unsqueeze(-2)
        if plain:
            below = (torch.sigmoid(logits) @ size).squeeze(-1) < less.unsqueeze(-1)
        else:
            below = _excess(row.unsqueeze(-2), logits, less.unsqueeze(-1)) < 0
        low = torch.addcmul(low, width, below.sum(-1, dtype=low.dtype))
    theta = torch.add(low, width, alpha=0.5)
    chance = torch.sigmoid(theta.unsqueeze(-1) + log_weights)
    moments = torch.stack([chance, torch.addcmul(chance, chance, chance, value=-1)], -2) @ size  # [..., 2, 1]
    mean, variance = moments.squeeze(-1).unbind(-1)
    missing = less - mean if plain else -_excess(row, theta.unsqueeze(-1) + log_weights, less)
    newton = torch.addcdiv(theta, missing, variance.clamp(min=1e-300))
    return torch.clamp(newton, low, low + width)


def _tilt_seen(
    size: Tensor, log_weights: Tensor, less: Tensor, odds: Tensor, low: Tensor, high: Tensor, tolerance: float
) -> Tensor:
    """Newton's method on the logarithm of the sum, kept inside a shrinking bracket."""
    population = size.sum(-1)
    merged = torch.logsumexp(log_weights + size.log(), -1) - population.log()
    theta = torch.maximum(low, torch.minimum(high, odds - merged.nan_to_num(0.0)))
    for _ in range(MOST_STEPS):
        logits = theta.unsqueeze(-1) + log_weights
        chance = torch.sigmoid(logits)
        expected = size * chance
        mean, variance = expected.sum(-1), (expected * torch.sigmoid(-logits)).sum(-1)
        error = _excess(size, logits, less)
        if bool((error.abs() <= tolerance * variance.sqrt() + 1e-9 * less.clamp(max=1)).all()):
            break
        floored = mean.clamp(min=1e-300)
        ratio = torch.where(error > -0.5 * less, torch.log1p(error / less), (floored / less).log())
        newton = theta - ratio * (floored / variance.clamp(min=1e-300))
        low, high = torch.where(error < 0, theta, low), torch.where(error > 0, theta, high)
        # A step that leaves the bracket by more than rounding is a plateau: bisect there.
        slack = 1e-12 * (1 + theta.abs())
        outside = ~((newton >= low - slack) & (newton <= high + slack))
        theta = torch.where(outside, 0.5 * (low + high), newton)
    return theta
