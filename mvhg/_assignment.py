"""Whole assignments of sorted elements to groups, differentiated as those of a relaxed sort (NeuralSort) would be.

Element j of rank r (0 is the highest score) belongs to the group whose stretch of ranks holds r. The relaxed sort is a
matrix with a softmax over the elements for every rank (Grover et al. 2019, Eq. 5). Only the gradient needs it, and
there a block of ranks at a time, so that memory goes with the assignment and not with the square of the elements.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvhg._relaxation import TEMPERATURES

RELAXATIONS = ("normalised", "paper")
# Entries of the relaxed permutation at a time, or as many as the assignment has where that is more.
_LEAST_BLOCK = 1 << 18


def assign(scores: Tensor, counts: Tensor, prefix_mask: Tensor, temperature: float | Tensor, relaxation: str) -> Tensor:
    """Assignments [B, c, N] of 0 and 1 in the dtype of the masks.

    Args:
        scores: float64 [B, N]; the highest are first.
        counts: elements of each group, whole numbers [B, c] that sum to N.
        prefix_mask: indicators of r < count for r = 0..M-1, [B, c, M]; the counts' gradient flows through these.
        temperature: of the relaxed sort, a number or a scalar; not differentiated.
        relaxation: ``"normalised"`` divides each element's weights by their sum; ``"paper"`` cuts them off at 1.
    """
    least, most = TEMPERATURES[prefix_mask.dtype]
    if isinstance(temperature, Tensor):
        temperature = temperature.clamp(least, most)
    else:
        temperature = min(max(temperature, least), most)
    return _Assignment.apply(scores, counts.detach().long(), prefix_mask, temperature, relaxation)[0]


class _Assignment(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        scores: Tensor, counts: Tensor, prefix_mask: Tensor, temperature: float | Tensor, relaxation: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The assignments, the elements in the order of their ranks and the group of each rank, [B, N] both."""
        order = scores.argsort(dim=-1, descending=True, stable=True)
        ranks = torch.arange(scores.shape[-1], device=scores.device)
        # As many groups end before a rank as its own group's number; the last one ends behind all ranks.
        group_of_rank = (counts.cumsum(-1)[:, :-1].unsqueeze(-1) <= ranks).sum(1)
        group = group_of_rank.gather(-1, order.argsort(dim=-1))
        groups = torch.arange(counts.shape[1], device=scores.device)
        result = (group.unsqueeze(1) == groups.unsqueeze(-1)).to(prefix_mask.dtype)
        return result, order, group_of_rank

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        scores, counts, prefix_mask, ctx.temperature, ctx.relaxation = inputs
        ctx.mask_length = prefix_mask.shape[-1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(scores, counts, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        scores, counts, order, group_of_rank = ctx.saved_tensors
        for_scores = for_mask = None
        if ctx.needs_input_grad[2]:
            in_order = grad.gather(-1, order.unsqueeze(1).expand_as(grad))
            for_mask = _mask_gradient(in_order, counts, ctx.mask_length)
        if ctx.needs_input_grad[0]:
            for_scores = _score_gradient(grad, scores, order, group_of_rank, ctx.temperature, ctx.relaxation)
        return for_scores, None, for_mask, None, None


def _mask_gradient(grad: Tensor, counts: Tensor, length: int) -> Tensor:
    """Gradient in the prefix masks [B, c, M], from that in the group of each rank [B, c, N].

    Group i ends where the first i counts end, at their sum: P(the sum exceeds r), the other counts held, is the mask of
    one count at r less the others. So each mask moves its group's end and those of all later groups.
    """
    elements, ends = grad.shape[-1], counts.cumsum(-1)
    at_end = grad[:, :-1] - grad[:, 1:]  # of [r < end of group i], for all but the last group
    places = torch.arange(length, device=grad.device)
    result = [torch.zeros(len(grad), length, dtype=grad.dtype, device=grad.device)] * counts.shape[1]
    for i in range(counts.shape[1] - 1):
        for earlier in range(i + 1):
            rank = places + (ends[:, i] - counts[:, earlier]).unsqueeze(-1)
            inside = rank < elements
            moved = at_end[:, i].gather(-1, rank.clamp(max=elements - 1))
            result[earlier] = result[earlier] + torch.where(inside, moved, 0.0)
    return torch.stack(result, 1)


def _score_gradient(
    grad: Tensor, scores: Tensor, order: Tensor, group_of_rank: Tensor, temperature: float | Tensor, relaxation: str
) -> Tensor:
    """Gradient in the scores [B, N] through the relaxed sort, the counts held."""
    working = grad.dtype
    elements = scores.shape[-1]
    descending, back = (scores - scores.mean(-1, keepdim=True)).gather(-1, order), order.argsort(-1)
    distances = _distances(descending).gather(-1, back)
    centred = (scores - scores.mean(-1, keepdim=True)).to(working)
    distances = distances.to(working)
    blocks = _Blocks(centred, distances, temperature, max(_LEAST_BLOCK, grad.numel()))
    soft = torch.zeros_like(grad)
    for ranks, weights in blocks:
        soft = soft.scatter_add(1, group_of_rank[:, ranks].unsqueeze(-1).expand_as(weights), weights)
    if relaxation == "normalised":
        total = soft.sum(1, keepdim=True).clamp(min=torch.finfo(working).tiny)
        soft = soft / total
        of_soft = (grad - (grad * soft).sum(1, keepdim=True)) / total
        # An element that no rank weighs has no direction.
        of_soft = torch.where(total > torch.finfo(working).eps, of_soft, 0.0)
    else:
        of_soft = torch.where(soft <= 1, grad, 0.0)
    of_scores, of_distances = torch.zeros_like(scores), torch.zeros_like(scores)
    for ranks, weights in blocks:
        above = of_soft.gather(1, group_of_rank[:, ranks].unsqueeze(-1).expand_as(weights))
        of_logits = weights * (above - (weights * above).sum(-1, keepdim=True)) / temperature
        # No product of matrices, which autocast rounds.
        of_scores = of_scores + (blocks.scaling[ranks].unsqueeze(-1) * of_logits).sum(1)
        of_distances = of_distances - of_logits.sum(1)
    # distances_j = sum_k |s_j - s_k|; in descending order the sign of s_j - s_k is that of k's place less j's.
    along = of_distances.gather(-1, order)
    places = torch.arange(elements, dtype=scores.dtype, device=scores.device)
    before = along.cumsum(-1) - along
    after = along.sum(-1, keepdim=True) - before - along
    along = along * (elements - 1 - 2 * places) + after - before
    return of_scores + along.gather(-1, back)


def _distances(descending: Tensor) -> Tensor:
    """sum_k |s_j - s_k| of scores in descending order [B, N]."""
    elements = descending.shape[-1]
    places = torch.arange(elements, dtype=descending.dtype, device=descending.device)
    before = descending.cumsum(-1) - descending
    after = descending.sum(-1, keepdim=True) - before - descending
    return before - places * descending + (elements - 1 - places) * descending - after


class _Blocks:
    """Rows of the relaxed permutation, [B, ranks, N] at a time."""

    def __init__(self, scores: Tensor, distances: Tensor, temperature: float | Tensor, entries: int) -> None:
        self.scores, self.distances, self.temperature = scores, distances, temperature
        elements = scores.shape[-1]
        self.size = max(1, entries // max(1, scores.numel()))
        ranks = torch.arange(1, elements + 1, dtype=scores.dtype, device=scores.device)
        self.scaling = elements + 1 - 2 * ranks

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.scores.shape[-1], self.size):
            ranks = slice(start, start + self.size)
            logits = self.scaling[ranks].unsqueeze(-1) * self.scores.unsqueeze(1) - self.distances.unsqueeze(1)
            yield ranks, (logits / self.temperature).softmax(-1)
