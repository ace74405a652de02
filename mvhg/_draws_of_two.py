"""Single draws from urns of two groups."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mvhg._once import refuse_second_derivative
from mvhg._surrogate import forms, values_of_counts

if TYPE_CHECKING:
    from mvhg._single_plan import Plan


class Pair(NamedTuple):
    """Two groups in the order in which they are drawn.

    Attributes:
        order: the groups.
        least: their least counts.
        row: log-weights of the first one's counts, but for the part linear in them, [X].
        sign: by which the log weights enter that part, float64 [2, 1].
        counting: that part's slope in the log weights at each count, float64 [X, 2].
        start, direction: the groups' counts, in the caller's order, if the first is x: start + x direction, int64 [2].
    """

    order: tuple[int, int]
    least: tuple[int, int]
    row: Tensor
    sign: Tensor
    counting: Tensor
    start: Tensor
    direction: Tensor


def pairs_of(least: list[int], total: int, coefficients: Tensor) -> tuple[Pair, ...]:
    """In both orders, of log-binomials [2, X], or [1, X] if the sizes are one."""
    pairs, steps = [], torch.arange(coefficients.shape[1], dtype=torch.float64)
    for order in ((0, 1), (1, 0)):
        signs = [1 - 2 * g for g in order]
        sign = torch.tensor(signs, dtype=torch.float64)
        start = torch.tensor([k + (total if s < 0 else 0) for k, s in zip(least, signs, strict=True)])
        row = coefficients[order[0] % len(coefficients)] + coefficients[order[1] % len(coefficients)].flip(0)
        in_order = (least[order[0]], least[order[1]])
        pairs.append(
            Pair(order, in_order, row, sign.unsqueeze(1), steps.unsqueeze(1) * sign, start, torch.tensor(signs))
        )
    return tuple(pairs)


class DrawsOfTwo(torch.autograd.Function):
    """Of two groups. The first is drawn, and its softmax, reversed, is that of the second as well."""

    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: "Plan",
        noise: Tensor,
        temperature: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
        second_first: bool,
    ) -> tuple[Tensor, Any, Any]:
        pair = urn.pairs[second_first]
        logits = log_weights.reshape(-1, 2).double() @ pair.sign
        # The Gumbel noise is -log(-log(u)).
        perturbed = torch.addcmul(pair.row, logits, urn.steps).sub_(noise.log_().neg_().log_())
        highest, count = perturbed.max(1, keepdim=True)
        soft = perturbed.sub_(highest).div_(temperature).to(dtype).exp_()
        soft /= soft.sum(1, keepdim=True)
        ctx.urn, ctx.pair, ctx.temperature, ctx.selected = urn, pair, temperature, selected
        ctx.save_for_backward(log_weights, soft)
        ctx.set_materialize_grads(False)
        return forms(
            torch.addcmul(pair.start, count, pair.direction).view(log_weights.shape), urn.ladder, dtype, selected
        )

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights, soft = ctx.saved_tensors
        with torch.no_grad():
            grad = _pair_gradient(ctx, soft, counts_grad, one_hot_grad, mask_grad).view(log_weights.shape)
            grad = grad.to(log_weights.dtype)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _pair_gradient(ctx: Any, soft: Tensor, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights [B, 2]."""
    urn, pair, width = ctx.urn, ctx.pair, ctx.urn.width
    gains: Any = None
    values = values_of_counts(one_hot_grad, mask_grad) if ctx.selected else None
    if values is not None:
        (a, b), (k, m) = pair.order, pair.least
        values = values.reshape(-1, 2, values.shape[-1])
        gains = values[:, a, k : k + width] + values[:, b, m : m + width].flip(1)
    if counts_grad is not None:
        slope = (counts_grad.reshape(-1, 2) * pair.direction).sum(1, keepdim=True)
        gains = slope * urn.steps.to(soft.dtype) + (0 if gains is None else gains)
    if gains is None:
        return soft.new_zeros(len(soft), 2)
    rise = soft * gains
    rise = torch.addcmul(rise, soft, rise.sum(1, keepdim=True), value=-1)
    return (rise.double() @ pair.counting).div_(ctx.temperature)
