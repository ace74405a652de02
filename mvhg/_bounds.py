"""What the host knows of a batch of urns, so that the device that holds the weights need not be asked."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Bounds(NamedTuple):
    """The largest values in a batch of urns; every width of a table follows from these alone.

    Attributes:
        group: elements in the largest group.
        population: elements in the largest urn.
        total: the largest total count.
        sizes: the group sizes, in the caller's order, where the whole batch has the same; None otherwise.
        totals: the total count where the whole batch has the same; None otherwise.
    """

    group: int
    population: int
    total: int
    sizes: tuple[int, ...] | None = None
    totals: int | None = None

    @classmethod
    def of_urn(cls, sizes: Sequence[int], total: int) -> "Bounds":
        """Bounds of a batch whose urns all have these sizes and this total."""
        sizes = tuple(sizes)
        return cls(max(sizes), sum(sizes), total, sizes, total)

    @classmethod
    def of_tensors(cls, size: Tensor, total: Tensor) -> "Bounds":
        """Bounds of sizes [..., c] and totals [...], which are read: on the host without waiting, elsewhere once."""
        rows, totals = size.reshape(-1, size.shape[-1]), total.reshape(-1)
        if len(rows) == 0:
            return cls(0, 0, 0)
        least, most = (tuple(int(m) for m in rows.aminmax(dim=0)[k].tolist()) for k in (0, 1))
        few, many = (int(n) for n in (totals.min(), totals.max()))
        return cls(
            max(most),
            int(rows.sum(1).max()),
            many,
            most if least == most else None,
            many if few == many else None,
        )
