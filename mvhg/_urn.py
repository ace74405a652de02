"""Parameters of Fisher's law, and what its closed forms share; two small groups have one table for everything."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mvhg._bernoulli_sum import Spectrum, frequencies_for, spectrum
from mvhg._binomial import log_binomial
from mvhg._bounds import Bounds
from mvhg._kept import Memory, constant, may_be_kept
from mvhg._reference import reference
from mvhg._tilt import PlainUrn, solve_tilt

# Up to here lgamma, whose error goes with its value, is as good as the series for large counts, and cheaper.
MOST_BY_GAMMA = 10_000
# Two groups with at most this many counts are tabulated.
_LONGEST_TABLE = 256
# Numbers at a time: what fits a CPU's caches.
_CHUNK_ELEMENTS = 1 << 19


class Urn(NamedTuple):
    """Parameters of a batch of laws in float64, with what is derived from them once."""

    size: Tensor  # [..., c]
    log_weights: Tensor  # [..., c]
    total: Tensor  # [...]
    tilt: Any  # [...], see ``solve_tilt``; None where nothing needs it
    bounds: Bounds | None  # None where the host does not know the urn
    tilts: Any = None  # [2, ...], of the total and of one element less, where both were solved for at once
    reference: Any = None  # [..., 1], which has been taken from the log weights; None where nothing has
    found: Any = None  # a dict of what was worked out for the law without a gradient, for as long as its weights stay

    @classmethod
    def of(cls, size: Tensor, log_weights: Tensor, total: Tensor, bounds: Bounds | None = None) -> "Urn":
        return cls(size, log_weights, total, None, bounds).with_tilt()

    def relative(self) -> "Urn":
        """The same law with log weights near 0 where they matter, see ``_reference``."""
        return self.relative_to(reference(self.size, self.log_weights, self.total, self.bounds))

    def relative_to(self, given: Tensor | None) -> "Urn":
        """The same law with log weights less this reference [..., 1]; None is for none."""
        return self if given is None else self._replace(log_weights=self.log_weights - given, reference=given)

    def in_counts(self, value: Tensor, counts: Tensor) -> Tensor:
        """``value`` [...], with the derivative in the counts [..., c] that the reference took from it."""
        if self.reference is None or not _may_be_differentiated(counts):
            return value
        return value + (self.reference * (counts - counts.detach())).sum(-1)

    def with_tilt(self) -> "Urn":
        if self.tilt is not None or self.is_pair:
            return self
        return self._replace(tilt=self.solve(self.total, self.plain(1)))

    def solve(self, total: Tensor, plain: PlainUrn | None) -> Tensor:
        """The tilt for this total, or one less, see ``solve_tilt``."""
        return solve_tilt(self.size, self.log_weights, total, urn=plain, relative=self.reference is not None)

    @property
    def is_pair(self) -> bool:
        """Whether everything is read off one short table."""
        b = self.bounds
        return (
            b is not None
            and self.size.shape[-1] == 2
            and b.group <= MOST_BY_GAMMA
            and min(b.group, b.total) < _LONGEST_TABLE
        )

    def plain(self, count: int) -> PlainUrn | None:
        """Sizes and ``count`` totals where the host knows them."""
        return plain_urn(self.bounds, count)

    def with_one_less(self) -> "Urn":
        """The laws of ``total`` draws and of one less, [2, ...]; that of no draw stands in for less than none."""
        plain = self.plain(2)
        if plain is None:
            total = torch.stack([self.total, (self.total - 1).clamp(min=0)])
        else:
            total = constant(plain[1], self.total.device, self.total.dtype)
            total = total.reshape(2, *(1,) * self.total.dim()).expand(2, *self.total.shape)
        tilts = self.tilts
        if tilts is None:
            tilts = self.solve(total, plain)
        return self._replace(total=total, tilt=tilts, tilts=None, found=None)

    @property
    def logits(self) -> Tensor:
        return self.log_weights + self.tilt.unsqueeze(-1)

    @property
    def width(self) -> int:
        """The most values that a count can take."""
        return min(self.bounds.group, self.bounds.total) + 1  # type: ignore[union-attr]

    def spectrum(self) -> Spectrum:
        population = None if self.bounds is None or self.bounds.sizes is None else self.bounds.population
        most = frequencies_for(None if self.bounds is None else self.bounds.population)
        return spectrum(self.size, self.logits, self.total, most, population)


class Solution(NamedTuple):
    """What is solved for of a law, without a gradient."""

    reference: Tensor | None  # see ``Urn``
    tilts: Tensor  # [1, ...], or [2, ...] with that of one draw less
    found: dict[str, Tensor]  # whatever else

    def of(self, urn: Urn) -> Urn:
        tilts = self.tilts if len(self.tilts) > 1 else None
        return urn.relative_to(self.reference)._replace(tilt=self.tilts[0], tilts=tilts, found=self.found)


def plain_urn(bounds: Bounds | None, count: int) -> PlainUrn | None:
    """Sizes, and the total and so many less, of a batch of one urn."""
    if bounds is None or bounds.sizes is None or bounds.totals is None:
        return None
    return bounds.sizes, tuple(max(bounds.totals - i, 0) for i in range(count))


def derives_once(urn: Urn) -> bool:
    """Whether a gradient is that of ordinary autograd, which closed forms give; transforms differentiate as they go."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return torch.is_grad_enabled() and urn.log_weights.requires_grad and forward_ad._current_level < 0


def _may_be_differentiated(tensor: Tensor) -> bool:
    if tensor.requires_grad or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return forward_ad._current_level >= 0


class Pair:
    """The law of two groups, tabulated over the first one's count x = 0..width - 1."""

    def __init__(self, urn: Urn) -> None:
        assert urn.bounds is not None
        self.x = torch.arange(urn.width, dtype=torch.float64, device=urn.log_weights.device)
        self.total = urn.total.unsqueeze(-1)
        coefficients = _pair_coefficients(urn, self.x)
        slope = urn.log_weights[..., :1] - urn.log_weights[..., 1:]
        # About the mode, so that large weights cancel before they are rounded.
        self.mode = (coefficients + self.x * slope.detach()).argmax(-1, keepdim=True).to(torch.float64)
        values = coefficients + (self.x - self.mode) * slope
        self.values, self.normaliser = values, torch.logsumexp(values, -1)

    @property
    def log_pmf(self) -> Tensor:
        return self.values - self.normaliser.unsqueeze(-1)

    @property
    def pmf(self) -> Tensor:
        return self.log_pmf.exp()

    def mean(self) -> Tensor:
        pmf = self.pmf
        return torch.stack([(pmf * x).sum(-1) for x in (self.x, self.total - self.x)], -1)

    def variance(self) -> Tensor:
        pmf = self.pmf
        mean = (pmf * self.x).sum(-1, keepdim=True)
        return (pmf * (self.x - mean).square()).sum(-1)

    def expect(self, values: Tensor) -> Tensor:
        """E of values on x: exp before where, since a gradient through 0 * -inf would be NaN."""
        log_pmf = self.log_pmf
        return (log_pmf.exp() * torch.where(log_pmf > -math.inf, values, 0.0)).sum(-1)


_COEFFICIENTS: Memory[Tensor] = Memory(256)


def _pair_coefficients(urn: Urn, x: Tensor) -> Tensor:
    """Logarithms, up to a constant, of the ways to draw x = 0..width - 1 of the first group; kept for plain urns."""
    assert urn.bounds is not None
    sizes, drawn = urn.bounds.sizes, urn.bounds.totals
    if sizes is None or drawn is None:
        total, one, two = urn.total.unsqueeze(-1), urn.size[..., :1], urn.size[..., 1:]
        return _ways(x, one - x, total - x, two - total + x)
    keep = x.device.type == "cpu" and may_be_kept(x)
    found = _COEFFICIENTS.get((sizes, drawn), x.device) if keep else None
    if found is None:
        found = _ways(x, sizes[0] - x, drawn - x, sizes[1] - drawn + x)  # [width], for all laws
        if keep and not found.is_inference():
            _COEFFICIENTS.keep((sizes, drawn), x.device, found)
    return found


def _ways(*counts: Tensor) -> Tensor:
    # lgamma is infinite where a count is impossible.
    return -torch.stack(torch.broadcast_tensors(*counts)).add(1).lgamma().sum(0)


def not_negative(values: Tensor) -> Tensor:
    """Rounding below zero taken away, from the value alone: the derivative is what it was."""
    return values + (-values.detach()).clamp(min=0)


def log_factors(urn: Urn, counts: Tensor) -> Tensor:
    """Log-probabilities of counts [..., c, W] of each group under its tilted binomial."""
    return log_binomial(counts, urn.size.unsqueeze(-1), urn.logits.unsqueeze(-1))


def in_chunks(function: Callable[[Urn], Tensor], urn: Urn, elements: int) -> Tensor:
    """A function of urns, on portions of the batch that need about ``_CHUNK_ELEMENTS`` numbers."""
    shape, groups = urn.log_weights.shape[:-1], urn.size.shape[-1]
    if shape.numel() * elements <= _CHUNK_ELEMENTS:
        return function(urn)
    rows = max(1, _CHUNK_ELEMENTS // elements)
    parts = [a.expand(*shape, groups).reshape(-1, groups).split(rows) for a in (urn.size, urn.log_weights)]
    parts += [a.expand(shape).reshape(-1).split(rows) for a in (urn.total, urn.tilt)]
    pieces = [function(Urn(m, w, n, t, urn.bounds)) for m, w, n, t in zip(*parts, strict=True)]
    return torch.cat(pieces).reshape((*shape, *pieces[0].shape[1:]))
