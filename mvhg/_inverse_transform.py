"""Drawing from many discrete laws by inverse transform with a guide table (Chen and Asau, 1974)."""

import torch
from torch import Tensor

# Buckets an entry of the law: with more, nearly every draw is right at its bucket's first entry.
_BUCKETS_PER_ENTRY = 4


class GuideTable:
    """R laws over W entries each, of which many draws are wanted.

    The unit interval is cut into equal buckets, each with the first entry that any of its points can fall on; a draw
    starts there and moves on while its uniform lies beyond. Exact, as bucket bounds are dyadic.

    Args:
        cumulative: cumulative probabilities, float64 [R, W], exactly 1 from the last possible entry on.
        draws: number of draws to come; the table is kept no larger than it pays.
    """

    def __init__(self, cumulative: Tensor, draws: int) -> None:
        rows, width = cumulative.shape
        buckets = 1
        while buckets < _BUCKETS_PER_ENTRY * width and 2 * buckets * rows <= draws:
            buckets *= 2
        edges = torch.arange(buckets, dtype=torch.float64, device=cumulative.device) / buckets
        first = torch.searchsorted(cumulative, edges.expand(rows, buckets).contiguous(), right=True)
        offsets = torch.arange(rows, device=cumulative.device).unsqueeze(1) * width
        self._buckets, self._width = buckets, width
        self._first = (first.clamp(max=width - 1) + offsets).reshape(-1).int()
        self._cumulative = cumulative.reshape(-1)

    def draw(self, row: Tensor, uniform: Tensor) -> Tensor:
        """Entry drawn from the law of each row, int64 [D], by uniforms in [0, 1), float64 [D]."""
        bucket = (uniform * self._buckets).int().add_(row * self._buckets)
        place = self._first.index_select(0, bucket)
        place += self._cumulative.index_select(0, place) <= uniform
        pending = (self._cumulative.index_select(0, place) <= uniform).nonzero().squeeze(1)
        while len(pending):
            place[pending] += 1
            pending = pending[self._cumulative[place[pending].long()] <= uniform[pending]]
        return place.long() - row * self._width
