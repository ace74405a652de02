"""Draws that cannot be differentiated again say so, instead of passing for constants."""

from typing import Any

import torch
from torch import Tensor


def once_only(parameter: Tensor) -> Tensor:
    """``parameter``, such that the gradient in it, differentiated again, raises RuntimeError.

    torch's ``once_differentiable`` raises only where the path of the second derivative leads through the node that it
    adds, and is silent where ``torch.autograd.grad`` asks for the derivative in an input.
    """
    return _OnceOnly.apply(parameter)


class _OnceOnly(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(parameter: Tensor) -> Tensor:
        return parameter.view_as(parameter)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return refuse_second_derivative(grad, *ctx.saved_tensors) if torch.is_grad_enabled() else grad


def refuse_second_derivative(gradient: Tensor, parameter: Tensor) -> Tensor:
    """``gradient``, whose own derivative in ``parameter`` raises RuntimeError."""
    return _Constant.apply(gradient.detach(), parameter)


class _Constant(torch.autograd.Function):
    """A gradient that hangs on its parameter, so that its own derivative is asked for here and refused."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, parameter: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("draws, and log-probabilities of random partitions, can be differentiated only once")
