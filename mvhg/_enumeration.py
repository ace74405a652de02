"""All count vectors of an urn."""

import torch
from torch import Tensor

from mvhg._kept import CPU

_MOST_LISTED = 10_000_000


def count_vectors(total: int, sizes: list[int]) -> Tensor:
    """Count vectors [support, c] in lexicographic order, by extending feasible prefixes one group at a time."""
    # What is drawn or what is left, whichever is less: sizes above it make no difference.
    if 2 * total > sum(sizes):
        return torch.tensor(sizes, device=CPU) - count_vectors(sum(sizes) - total, sizes).flip(0)
    sizes = [min(size, total) for size in sizes]
    *others, largest = sorted(sizes)
    beside = min(total, sum(others))
    if beside * len(sizes) > _MOST_LISTED:
        raise ValueError(_too_many(f"at least {beside:,}", len(sizes)))
    # Number of vectors of all but the largest group, which takes the rest, for each sum; in floating point: only its
    # order of magnitude matters.
    ways = torch.zeros(beside + 1, dtype=torch.float64, device=CPU)
    ways[0] = 1
    for size in others:
        summed = torch.nn.functional.pad(ways.cumsum(0), (size + 1, 0))
        ways = (summed[size + 1 :] - summed[: beside + 1]).clamp(max=1e300)
    vectors = float(ways[total - largest :].sum())
    if vectors * len(sizes) > _MOST_LISTED:
        raise ValueError(_too_many(f"{vectors:.3g} or more", len(sizes)))
    prefixes, remaining = torch.zeros(1, 0, dtype=torch.long, device=CPU), torch.tensor([total], device=CPU)
    for i, size in enumerate(sizes):
        later = sum(sizes[i + 1 :])
        # Feasible counts are a range: least..most.
        least, most = (remaining - later).clamp(min=0), remaining.clamp(max=size)
        number = (most - least + 1).clamp(min=0)
        row = torch.repeat_interleave(number)
        x = torch.arange(len(row), device=CPU) - (number.cumsum(0) - number)[row] + least[row]
        prefixes, remaining = torch.cat([prefixes[row], x[:, None]], 1), remaining[row] - x
    return prefixes


def _too_many(number: str, groups: int) -> str:
    return (
        f"total_count and group_sizes leave {number} count vectors of {groups} groups, more than the "
        f"{_MOST_LISTED:,} entries that enumerate_support lists; use samples or marginal_log_probs instead"
    )
