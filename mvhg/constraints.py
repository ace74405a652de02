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
        """Whether each event of ``value`` [..., c] lies in the support, bool [...]."""
        slack = 0.0 if self.is_discrete else 8 * torch.finfo(value.dtype).eps * float(self.group_sizes.sum(-1).max())
        inside = ((value >= -slack) & (value <= self.group_sizes + slack)).all(-1)
        if self.is_discrete:
            inside &= (value == value.round()).all(-1)
        return inside & ((value.sum(-1) - self.total_count).abs() <= slack)
