"""Soft draws: a softmax of the perturbed conditional log-weights, one group after another."""

import math

import torch
from torch import Tensor

from mvhg._conditionals import Tables


def draw_soft(
    tables: Tables,
    gumbel: Tensor,
    inverse_temperature: Tensor,
    instance: Tensor | None,
    permutation: Tensor,
    back: Tensor,
    dtype: torch.dtype,
    largest: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    groups, width = tables.own.shape[1], tables.width
    per_row = [a if instance is None else a.index_select(0, instance) for a in (tables.total, tables.low, tables.later)]
    total, low, later = per_row
    remaining = total.double()
    rounding = 4 * torch.finfo(torch.float64).eps * remaining.clamp(min=1)
    if groups == 1:  # nothing is drawn, but a loss of it may be differentiated
        remaining = remaining + 0 * tables.own[:, 0, :1].sum()
    steps = torch.arange(width, device=gumbel.device)
    counts, one_hots = [], []
    for i in range(groups - 1):
        most = later[:, i - 1] if i > 0 else total
        whole, fraction = _split(remaining, most, rounding)
        place = tables.places_within(i, whole, instance)
        own = tables.own[:, i] if instance is None else tables.own[:, i].index_select(0, instance)
        values = own + _interpolated(tables.windows(place, (2, 1)), fraction)
        values = values - values.detach().amax(1, keepdim=True).clamp(min=-1e300)
        # Finite, for the gradient in the temperature.
        perturbed = (values + gumbel[:, i]).clamp(min=-1e30)
        soft = torch.softmax(perturbed * inverse_temperature.unsqueeze(1), 1)
        count = low[:, i] + (soft * steps).sum(1)
        remaining = remaining - count
        counts.append(count)
        if largest is not None:
            place = (low[:, i].unsqueeze(1) + steps).clamp(max=largest)
            one_hots.append(soft.new_zeros(len(soft), largest + 1).scatter_add(1, place, soft))
    counts.append(remaining)
    drawn = torch.stack(counts, 1).gather(1, back)
    if largest is None:
        return drawn.to(dtype), drawn, drawn
    one_hots.append(_determined(remaining, later[:, -2] if groups > 1 else total, largest))
    one_hot = torch.stack(one_hots, 1)
    one_hot = one_hot.gather(1, back.unsqueeze(2).expand_as(one_hot)).to(dtype)
    return drawn.to(dtype), one_hot, one_hot[..., 1:].flip(-1).cumsum(-1).flip(-1)


def _split(remaining: Tensor, most: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Whole part and differentiable fraction of what is left to draw; rounding makes no whole count a fraction."""
    value = remaining.detach()
    whole = value.round()
    is_whole = ((value - whole).abs() <= rounding) | (value > most) | (value < 0)
    whole = torch.where(is_whole, whole, value.floor()).clamp(min=0).minimum(most)
    return whole.long(), torch.where(is_whole, remaining - value, remaining - whole)


def _interpolated(values: Tensor, fraction: Tensor) -> Tensor:
    """Cubic between whole counts, by central differences: [R, X] from T at r - x + 2, ..., r - x - 1 [R, X + 3].

    It is -inf unless both ends are possible (or the count is whole).
    """
    t = fraction.unsqueeze(1)
    whole = t.detach() == 0
    exists = values.detach() > -math.inf
    values = torch.where(exists, values, 0.0)
    pairs = exists[:, :-1] & exists[:, 1:]
    rise = torch.where(pairs, -values.diff(dim=1), 0.0)
    slopes = (rise[:, :-1] + rise[:, 1:]) / (pairs[:, :-1].double() + pairs[:, 1:]).clamp(min=1)  # at s + 1, s
    left, right, left_slope, right_slope = values[:, 2:-1], values[:, 1:-2], slopes[:, 1:], slopes[:, :-1]
    possible = exists[:, 2:-1] & (whole | exists[:, 1:-2])
    # At a whole count the derivative is the slope there; the far end, which may not exist, has no weight.
    right = torch.where(whole, left.detach(), right)
    blend = t * t * (3 - 2 * t)
    value = (1 - blend) * left + blend * right + t * (1 - t) * ((1 - t) * left_slope - t * right_slope)
    return torch.where(possible, value, -math.inf)


def _determined(count: Tensor, size: Tensor, largest: int) -> Tensor:
    """One-hot vector of the group that takes the remainder, linear in it between whole counts; [R, largest + 1]."""
    places = torch.arange(largest + 1, dtype=torch.float64, device=count.device)
    size = size.double()
    whole = count.detach().floor().clamp(min=0).minimum(size)
    low = torch.where(whole == size, (size - 1).clamp(min=0), whole)
    # Within [0, 1] but for rounding, which must not make an entry negative.
    upper = (count - low) - (count - low).detach() + (count - low).detach().clamp(0, 1)
    below, above = (places == low.unsqueeze(1)).double(), (places == low.unsqueeze(1) + 1).double()
    return below * (1 - upper.unsqueeze(1)) + above * upper.unsqueeze(1)
