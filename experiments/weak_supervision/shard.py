"""One process's part of a global batch: noise is drawn for the whole batch, so that its division changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """The ``rank``-th of ``world_size`` equal consecutive parts of a batch.

    Args:
        rank: index of the part.
        world_size: number of parts.
    """

    rank: int = 0
    world_size: int = 1

    def part(self, values: Tensor, dim: int = 0) -> Tensor:
        """This process's part of something that every process has for the whole batch."""
        return values if self.world_size == 1 else values.chunk(self.world_size, dim)[self.rank]

    def whole(self, values: Tensor) -> Tensor:
        """The whole batch [batch, ...] from every process's part [part, ...]; the gradient reaches this one's alone."""
        if self.world_size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.world_size)]
        torch.distributed.all_gather(parts, values.detach().contiguous())
        parts[self.rank] = values
        return torch.cat(parts)


WHOLE = Shard()
