"""Pairs of images that share a known number of generative factors, drawn many at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from experiments.settings import ExperimentError
from experiments.weak_supervision.data.images import FactorGrid

Pairing = Literal["exact", "fixed_set", "published"]
Random = Literal["random"]  # in place of a number of shared factors

# Of drawing and throwing away, before a split is given up as too thin: seconds, and half a gigabyte.
_ROUNDS = 200
_CANDIDATES_PER_ROUND = 1_000_000
_CANDIDATES = 20_000_000


@dataclass(frozen=True)
class Pairs:
    """Pairs of images of a grid.

    Attributes:
        index: [2, pairs] int64, images of the grid.
        changed: [pairs, factors] bool, which factors differ between the two.
        label: [pairs] int64, one of the factors that were drawn anew, what a weak label would name.
    """

    index: Tensor
    changed: Tensor
    label: Tensor

    def __getitem__(self, chosen: Tensor | slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.index[:, chosen], self.changed[chosen], self.label[chosen])


class Split(NamedTuple):
    """Images for training and for testing, none in both.

    Attributes:
        train: [train] int64, images of the grid.
        test: [test] int64.
    """

    train: Tensor
    test: Tensor


def split_images(num_images: int, test_share: float, seed: int) -> Split:
    """Divides the images of a grid at random; the same division for the same seed.

    Args:
        num_images: size of the grid.
        test_share: in (0, 1).
        seed: of the division.

    Raises:
        ValueError: a split would be empty.
    """
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(seed))
    tests = round(test_share * num_images)
    if not 0 < tests < num_images:
        raise ValueError(f"test_share {test_share!r} of {num_images} images leaves a split empty")
    return Split(order[tests:].sort().values, order[:tests].sort().values)


def check_pairing(shared: int | Random, pairing: str, factors: int) -> None:
    """Refuses pairs that there are not.

    Raises:
        ValueError: names what can be asked for.
    """
    if pairing not in get_args(Pairing):
        raise ValueError(f"pairing must be one of {', '.join(get_args(Pairing))}, got {pairing!r}")
    if shared == "random":
        if pairing != "exact":
            raise ValueError(
                f"shared=random draws the shared factors too and needs pairing=exact, got pairing={pairing}"
            )
    elif not (isinstance(shared, int) and 0 <= shared < factors):
        raise ValueError(
            f"shared, the number of shared factors s, must be random or an integer in 0..{factors - 1}, got {shared!r}"
        )


class PairSampler:
    """Draws pairs within a set of images.

    ``exact``: the first image is drawn uniformly, then all but ``shared`` of its factors are given another value, so
    that exactly ``shared`` agree; pairs whose second image is not in the set are drawn again. ``fixed_set``: the same,
    but the factors that agree are always the first ones, in the grid's order. ``published``: what
    disentanglement_lib does; one or all of the chosen factors (equal odds) are drawn anew, possibly to the old value,
    and shared = 0 means a random number of at least one and not all.

    Args:
        grid: the factors of the images.
        images: [images] int64, the set.
        shared: number of factors that agree, s, less than there are; ``random``: of each pair another, all numbers
            equally likely, with pairing ``exact``.
        pairing: see above.

    Raises:
        ValueError: a factor has one value alone, or there are no such pairs.
    """

    def __init__(self, grid: FactorGrid, images: Tensor, shared: int | Random, pairing: Pairing = "exact") -> None:
        check_pairing(shared, pairing, len(grid.sizes))
        single = [name for name, size in zip(grid.names, grid.sizes) if size < 2]
        if single:
            raise ValueError(f"every factor needs two values to differ between views; {', '.join(single)} has one")
        self.grid = grid
        self.images = images
        self.shared = shared
        self.pairing = pairing
        self._member = torch.zeros(grid.num_images, dtype=torch.bool, device=images.device)
        self._member[images] = True
        self._sizes = torch.tensor(grid.sizes, device=images.device)

    def to(self, device: torch.device | str) -> PairSampler:
        """The same sampler on a device; its generator must be there too."""
        return PairSampler(self.grid, self.images.to(device), self.shared, self.pairing)

    def sample(self, pairs: int, generator: torch.Generator) -> Pairs:
        """Draws pairs with a generator on the device of the images.

        Raises:
            ExperimentError: hardly any pair of this kind lies within the set.
        """
        share = len(self.images) / self.grid.num_images  # about as many candidates are kept
        kept: list[Pairs] = []
        have = tried = 0
        for _ in range(_ROUNDS):
            number = min(math.ceil(1.1 * (pairs - have) / share) + 16, _CANDIDATES_PER_ROUND)
            candidates = self._candidates(number, generator)
            inside = self._inside(candidates, share, generator).nonzero().squeeze(1)[: pairs - have]
            kept.append(candidates[inside])
            have += len(inside)
            tried += number
            if have == pairs:
                return Pairs(
                    torch.cat([part.index for part in kept], dim=1),
                    torch.cat([part.changed for part in kept]),
                    torch.cat([part.label for part in kept]),
                )
            if tried >= _CANDIDATES:
                break
        raise ExperimentError(
            f"only {have} of {pairs} pairs with {self.shared} shared factors were found among {len(self.images)} "
            "images; take more images or a larger data.test_share"
        )

    def _inside(self, candidates: Pairs, share: float, generator: torch.Generator) -> Tensor:
        """Which candidates are kept: those whose second image is in the set.

        A redraw that gives the old values is always in it, so that a small set would hold many more of such pairs than
        were drawn; it is kept as often as another image would be.
        """
        inside = self._member[candidates.index[1]]
        if self.pairing != "published":
            return inside
        kept = torch.rand(len(inside), generator=generator, device=inside.device) < share
        return inside & (candidates.changed.any(-1) | kept)

    def _candidates(self, number: int, generator: torch.Generator) -> Pairs:
        device, width = self.images.device, len(self.grid.sizes)
        chosen = torch.randint(len(self.images), (number,), generator=generator, device=device)
        index = self.images[chosen]
        first = self.grid.factors_of(index)
        # A random order of the factors, of which the first few are drawn anew.
        keys = torch.rand(number, width, generator=generator, device=device)
        if self.pairing == "fixed_set":  # those that are shared come last
            keys[:, : self.shared] += 1
        order = keys.argsort(1)
        redrawn = torch.zeros(number, width, dtype=torch.bool, device=device)
        redrawn.scatter_(1, order, torch.arange(width, device=device) < self._numbers(number, generator).unsqueeze(1))
        values = torch.rand(number, width, generator=generator, device=device, dtype=torch.float64)
        if self.pairing != "published":
            steps = 1 + (values * (self._sizes - 1)).long()
            second = (first + steps) % self._sizes
        else:
            second = (values * self._sizes).long()
        second = torch.where(redrawn, second, first)
        return Pairs(torch.stack([index, self.grid.index_of(second)]), first != second, order[:, 0])

    def _numbers(self, number: int, generator: torch.Generator) -> Tensor:
        """How many factors of each pair are drawn anew."""
        width, device = len(self.grid.sizes), self.images.device
        if self.shared == "random":
            return torch.randint(1, width + 1, (number,), generator=generator, device=device)
        if self.pairing != "published":
            return torch.full((number,), width - self.shared, device=device)
        if self.shared == 0:
            numbers = torch.randint(1, width, (number,), generator=generator, device=device)
        else:
            numbers = torch.full((number,), width - self.shared, device=device)
        one = torch.rand(number, generator=generator, device=device) < 0.5
        return numbers.masked_fill(one, 1)
