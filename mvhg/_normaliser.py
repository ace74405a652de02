"""What of a log-probability depends on the weights; its derivatives are moments that the same spectrum gives."""

from typing import Any

import torch
from torch import Tensor

from mvhg._bernoulli_sum import first_moment
from mvhg._binomial import log_sigmoid
from mvhg._urn import Urn, derives_once


def log_mass(counts: Tensor, size: Tensor, logits: Tensor) -> Tensor:
    """Log-probability, without binomial coefficients, of given successes and failures."""
    return (counts * log_sigmoid(logits) + (size - counts) * log_sigmoid(-logits)).sum(-1)


def _found(urn: Urn) -> dict[str, Tensor]:
    """``log_normaliser``, and what the mean is but for the accuracy of rare ones: ``expected``; not differentiable."""
    found: dict[str, Tensor] = {} if urn.found is None else urn.found
    if "log_normaliser" not in found:
        with torch.no_grad():
            s = urn.spectrum()
            found["log_normaliser"] = s.probability.log()
            found["expected"] = urn.size * s.chance + first_moment(s)[1]
    return found


def log_normaliser(urn: Urn) -> Tensor:
    """log P(S = total), [...], differentiable in the log weights to any order, the tilt held."""
    if not derives_once(urn):
        return urn.spectrum().probability.log()
    found = _found(urn)
    value: Tensor = _LogNormaliser.apply(urn.log_weights, urn, found["log_normaliser"], found["expected"])
    return value


def log_weighing(urn: Urn, counts: Tensor) -> Tensor:
    """sum_j x_j log omega_j - log P_0, up to what depends on the sizes alone, for counts x [..., c]: [...]."""

    def value(log_normaliser: Tensor) -> Tensor:
        return log_mass(counts, urn.size, urn.logits) - log_normaliser - urn.tilt * (counts.sum(-1) - urn.total)

    if not derives_once(urn):
        return value(urn.spectrum().probability.log())
    found = _found(urn)
    with torch.no_grad():
        weighing = value(found["log_normaliser"])
    result: Tensor = _LogWeighing.apply(urn.log_weights, counts, urn, weighing, found["expected"])
    return result


def _expected(urn: Urn, log_weights: Tensor, expected: Tensor) -> Tensor:
    """``expected``, differentiable where that is wanted."""
    if not torch.is_grad_enabled():
        return expected
    s = urn._replace(log_weights=log_weights).spectrum()
    return urn.size * s.chance + first_moment(s)[1]


class _LogWeighing(torch.autograd.Function):
    """Its derivative is x - E[X] in the log weights, and these in the counts."""

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, counts: Tensor, urn: Urn, value: Tensor, expected: Tensor) -> Tensor:
        ctx.urn = urn._replace(found=None)
        ctx.save_for_backward(log_weights, counts, expected)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_weights, counts, expected = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        of_weights = grad * (counts - _expected(ctx.urn, log_weights, expected)) if ctx.needs_input_grad[0] else None
        of_counts = grad * log_weights if ctx.needs_input_grad[1] else None
        fitted = [
            None if found is None else found.sum_to_size(given.shape)
            for found, given in ((of_weights, log_weights), (of_counts, counts))
        ]
        return *fitted, None, None, None


class _LogNormaliser(torch.autograd.Function):
    """d log P(S = n) / d log odds is what the conditional mean has more than that of the binomials."""

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, urn: Urn, value: Tensor, expected: Tensor) -> Tensor:
        ctx.urn = urn._replace(found=None)
        ctx.save_for_backward(log_weights, expected)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        log_weights, expected = ctx.saved_tensors
        urn = ctx.urn._replace(log_weights=log_weights)
        of_binomials = urn.size * torch.sigmoid(urn.logits)
        return grad.unsqueeze(-1) * (_expected(urn, log_weights, expected) - of_binomials), None, None, None
