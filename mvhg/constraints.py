"""The support of the multivariate hypergeometric distribution as a constraint."""

import torch
from torch import Tensor
from torch.distributions import constraints


class HypergeometricSupport(constraints.Constraint):
    """Counts [..., c] with 0 <= counts <= group_sizes that sum to total_count.

    ``torch.distributions.constraints.multinomial`` only checks that the sum does not exceed the total.

    Args:
        total_count: number of draws, [...].
        group_sizes: group sizes, [..., c].
        is_discrete: whether the counts must be integers (False for relaxed counts, whose sum may be off by rounding).
    """

    event_dim = 1

    def __init__(self, total_count: Tensor, group_sizes: Tensor, is_discrete: bool = True) -> None:
        self.total_count = total_count
        self.group_sizes = group_sizes
        self.is_discrete = is_discrete
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each event of ``value`` [..., c], of any real dtype, lies in the support, bool [...]."""
        # In double, where sizes and sums are exact.
        counts, sizes, total = value.double(), self.group_sizes.double(), self.total_count.double()
        if value.is_floating_point():
            sizes = sizes.to(value.dtype).double()  # a count of a whole group is rounded as its size is
        slack = rounding(value)
        if not self.is_discrete:
            resolution = torch.finfo(value.dtype if value.is_floating_point() else torch.float64).eps
            slack = slack + 8 * resolution * self.group_sizes.sum(-1).double()
        edge = 0.0 if self.is_discrete else slack.unsqueeze(-1)
        inside = ((counts >= -edge) & (counts <= sizes + edge)).all(-1)
        if self.is_discrete:
            inside &= (counts == counts.round()).all(-1)
        return inside & ((counts.sum(-1) - total).abs() <= slack)

    def __repr__(self) -> str:
        return f"HypergeometricSupport(is_discrete={self.is_discrete})"


def rounding(counts: Tensor) -> Tensor:
    """By how much rounding to their dtype can move the sum of whole numbers, float64 [...] for counts [..., c]."""
    if not counts.is_floating_point():
        return torch.zeros(counts.shape[:-1], dtype=torch.float64, device=counts.device)
    half_unit, counts = 0.5 * torch.finfo(counts.dtype).eps, counts.detach().double().abs()
    return torch.where(counts * half_unit < 1, 0.0, counts * half_unit).sum(-1)
