"""log P(S = total) of the sum of the tilted binomials, whose derivative is a moment that the same spectrum gives."""

from typing import Any

import torch
from torch import Tensor

from mvhg._bernoulli_sum import first_moment
from mvhg._urn import Urn, derives_once


def log_normaliser(urn: Urn) -> Tensor:
    """log P(S = total), [...], differentiable in the log weights to any order, the tilt held."""
    if not derives_once(urn):
        return urn.spectrum().probability.log()
    found = {} if urn.found is None else urn.found
    if "log_normaliser" not in found:
        with torch.no_grad():
            s = urn.spectrum()
            found["log_normaliser"], found["shift"] = s.probability.log(), first_moment(s)[1]
    value: Tensor = _LogNormaliser.apply(urn.log_weights, urn, found["log_normaliser"], found["shift"])
    return value


class _LogNormaliser(torch.autograd.Function):
    """d log P(S = n) / d log odds is what the conditional mean has more than that of the binomials."""

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, urn: Urn, value: Tensor, shift: Tensor) -> Tensor:
        ctx.urn = urn._replace(log_weights=None)
        ctx.save_for_backward(log_weights, shift)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        log_weights, shift = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            shift = first_moment(ctx.urn._replace(log_weights=log_weights).spectrum())[1]
        return grad.unsqueeze(-1) * shift, None, None, None
