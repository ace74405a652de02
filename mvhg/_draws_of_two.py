"""Single draws from urns of two groups."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mvhg._kept import CPU
from mvhg._once import refuse_second_derivative
from mvhg._surrogate import Forms, through_softmax, values_of_counts

if TYPE_CHECKING:
    from mvhg._single_plan import Plan


class Pair(NamedTuple):
    """Two groups in the order in which they are drawn: the first has x beyond its least count, the second the rest.

    Attributes:
        order: the groups.
        row: log-weights of x but for the part linear in them, [X, 1].
        sign: by which the log weights enter that part, float64 [2, 1].
        counting: that part's slope in the log weights at each x, float64 [2, X].
        forms: of the draw at each x.
        first, second: the first place of a row of values 0..M that belongs to an x, and the first in reverse.
    """

    order: tuple[int, int]
    row: Tensor
    sign: Tensor
    counting: Tensor
    forms: Forms
    first: int
    second: int


def pairs_of(sizes: tuple[int, ...], least: list[int], total: int, coefficients: Tensor) -> tuple[Pair, ...]:
    """In both orders, of log-binomials [2, X], or [1, X] if the sizes are one."""
    pairs, width = [], coefficients.shape[1]
    steps, ladder = (torch.arange(count, device=CPU) for count in (width, max(sizes) + 1))
    for a, b in ((0, 1), (1, 0)):
        sign = torch.tensor([[1.0 - 2 * a], [1.0 - 2 * b]], dtype=torch.float64, device=CPU)
        row = coefficients[a % len(coefficients)] + coefficients[b % len(coefficients)].flip(0)
        drawn = torch.empty(width, 2, dtype=torch.int64, device=CPU)
        drawn[:, a], drawn[:, b] = least[a] + steps, least[b] + total - steps
        pairs.append(Pair((a, b), row.unsqueeze(1), sign, sign * steps, Forms(drawn, ladder), least[a], least[b]))
    return tuple(pairs)


class DrawsOfTwo(torch.autograd.Function):
    """One draw an urn. The first group is drawn, and its softmax, reversed, is that of the second as well."""

    @staticmethod
    def forward(
        ctx: Any,
        log_weights: Tensor,
        urn: "Plan",
        noise: Tensor,
        inverse: float | Tensor,
        dtype: torch.dtype,
        selected: bool,
        second_first: bool,
    ) -> tuple[Tensor, Any, Any]:
        pair = urn.pairs[second_first]
        first, second = log_weights.reshape(-1, 2).double().unbind(1)
        slope = second - first if second_first else first - second
        # The Gumbel noise is -log(-log(u)).
        perturbed = torch.addcmul(pair.row, urn.ramp, slope).sub_(noise.log_().neg_().log_())
        count = perturbed.max(0)[1]  # along short columns faster than argmax
        soft = torch.softmax(perturbed.mul_(inverse), 0)
        ctx.urn, ctx.pair, ctx.inverse = urn, pair, inverse
        ctx.save_for_backward(log_weights, soft)
        ctx.set_materialize_grads(False)
        return pair.forms.at(count, log_weights.shape, dtype, selected)

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        log_weights, soft = ctx.saved_tensors
        with torch.no_grad():
            grad = _gradient(ctx, soft, counts_grad, one_hot_grad, mask_grad)
            grad = grad.to(log_weights.dtype).view(log_weights.shape)
        if torch.is_grad_enabled():
            grad = refuse_second_derivative(grad, log_weights)
        return grad, None, None, None, None, None, None


def _gradient(ctx: Any, soft: Tensor, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the log weights, float64 [B, 2]."""
    urn, pair = ctx.urn, ctx.pair
    width, batch = soft.shape
    values = values_of_counts(one_hot_grad, mask_grad, counts_grad, urn.ladder)
    if values is None:
        return soft.new_zeros(batch, 2)
    values = values.reshape(batch, 2, -1)
    first, second = values.select(1, pair.order[0]), values.select(1, pair.order[1])
    gains = first[:, pair.first : pair.first + width] + second[:, pair.second : pair.second + width].flip(1)
    grad = through_softmax(gains.t().double(), soft)
    return (pair.counting @ grad).mul_(ctx.inverse).t()
