"""A reference that log weights are taken relative to, since only their differences matter and rounding goes with size.

Sums of a tilt and log weights of 1e12 are rounded to 1e-4, which groups of 2^40 elements multiply by the spread of
their counts, a million. What the law depends on are the log weights near the threshold, where the groups' elements, by
falling weight, reach the total: heavier groups are drawn whole, or nearly, and lighter ones are left. Relative to that
threshold the tilt is at most of the size of the logarithm of the elements, or of a gap in which nothing is undecided,
and the log weights that matter keep their digits.
"""

import torch
from torch import Tensor

from mvhg._bounds import Bounds
from mvhg._validation import can_look

# Log weights up to here are left as they are where they can be looked at: sums with a tilt are of about that size.
_LARGEST_LEFT = 64.0
_MOST_LEFT_UNSEEN = 50_000  # elements of an urn


def threshold(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """The log weight at which the groups' elements, by falling weight, reach the total; no gradient.

    Args:
        size: group sizes, float64 [..., c].
        log_weights: float64 [..., c].
        total: float64 [...].

    Returns:
        Tensor [..., 1].
    """
    with torch.no_grad():
        falling, order = log_weights.sort(-1, descending=True)
        held = size.expand_as(log_weights).gather(-1, order).cumsum(-1)
        # The heaviest group that is not empty, where nothing is drawn.
        place = (held < total.clamp(min=1).unsqueeze(-1)).sum(-1, keepdim=True).clamp(max=size.shape[-1] - 1)
        return falling.gather(-1, place)


def reference(size: Tensor, log_weights: Tensor, total: Tensor, bounds: Bounds | None) -> Tensor | None:
    """As ``threshold``; None for a single group, and where log weights are left as they are.

    Those are left that are seen to be small, and, where they can't be looked at, those of urns that the host knows to
    be small: their counts spread little, which is not worth nine more kernels a law in every training step.
    """
    if log_weights.shape[-1] < 2 or log_weights.numel() == 0:
        return None
    if not can_look(log_weights):
        left = bounds is not None and bounds.population <= _MOST_LEFT_UNSEEN
    else:
        left = are_small(log_weights)
    return None if left else threshold(size, log_weights, total)


def are_small(log_weights: Tensor) -> bool:
    """Whether log weights on the host are left as they are; looks at them."""
    least, most = log_weights.detach().aminmax()
    return float(least) >= -_LARGEST_LEFT and float(most) <= _LARGEST_LEFT
