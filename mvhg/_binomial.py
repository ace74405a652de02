"""Log-probabilities of binomial laws, accurate far into the tails and for large counts."""

import math

import torch
from torch import Tensor

_STIRLING_FROM = 15.0


def log_binomial(count: Tensor, size: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of ``count`` under Binomial(``size``, sigmoid(``logits``)).

    The lgamma form loses digits for large sizes, since its terms are of the order of the size while their sum is
    not. Loader's form (C. Loader, "Fast and accurate computation of binomial probabilities", 2000) has terms of
    moderate size only: a binomial is a ratio of three Poisson probabilities.

    Args:
        count: number of successes, float64 and differentiable; values outside [0, size] give -inf.
        size: number of trials, float64.
        logits: log odds of success, float64 and differentiable.

    Returns:
        Tensor of the broadcast shape.
    """
    inside = (count >= 0) & (count <= size)
    empty = size == 0
    size = torch.where(empty, torch.ones_like(size), size)
    successes = torch.where(inside, count, torch.zeros_like(count))
    failures = size - successes
    log_size = size.log()
    value = (
        _log_poisson(successes, log_size + log_sigmoid(logits))
        + _log_poisson(failures, log_size + log_sigmoid(-logits))
        - _log_poisson(size, log_size)
    )
    value = torch.where(empty, torch.zeros_like(value), value)
    return torch.where(inside, value, torch.full_like(value, -math.inf))


def log_sigmoid(logits: Tensor) -> Tensor:
    """log sigmoid(logits) to double precision; torch's own is slow for small tensors on a CPU."""
    return -torch.nn.functional.softplus(-logits, threshold=40)


def _log_poisson(count: Tensor, log_rate: Tensor) -> Tensor:
    """x log(rate) - rate - log(x!) for real x >= 0, by Loader's deviance form where x is large."""
    rate = log_rate.exp()
    large = count >= _STIRLING_FROM
    small_count = torch.where(large, torch.zeros_like(count), count)
    small = small_count * log_rate - rate - torch.lgamma(small_count + 1)
    x = torch.where(large, count, torch.full_like(count, _STIRLING_FROM))
    inverse_square = 1 / (x * x)
    stirling_error = (
        1 / 12
        - (1 / 360 - (1 / 1260 - (1 / 1680 - inverse_square / 1188) * inverse_square) * inverse_square) * inverse_square
    ) / x
    offset = (rate - x) / x
    near = offset.abs() < 0.5
    log_ratio = torch.where(near, torch.log1p(torch.where(near, offset, torch.zeros_like(offset))), log_rate - x.log())
    return torch.where(large, x * log_ratio - (rate - x) - stirling_error - 0.5 * torch.log(2 * math.pi * x), small)
