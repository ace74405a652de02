"""Gradients that cannot be differentiated again say so, instead of passing for constants."""

from typing import Any

import torch
from torch import Tensor


def once_only(result: Tensor, grad: Tensor) -> Tensor:
    """``result``, a gradient computed from ``grad`` without a graph, whose own differentiation raises RuntimeError.

    torch's ``once_differentiable`` raises only where the path of the second derivative leads through the node that it
    adds, and is silent where ``torch.autograd.grad`` asks for the derivative in an input.
    """
    return _OnceOnly.apply(result.detach(), grad) if torch.is_grad_enabled() else result.detach()


class _OnceOnly(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(result: Tensor, grad: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("draws of a hypergeometric distribution can be differentiated only once")
