"""Turns a user's arguments into the distribution's parameters, or says what is wrong with them."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

TensorLike: TypeAlias = Tensor | int | float | Sequence[Any]
CONDITIONALS = ("exact", "merged")


class Parameters(NamedTuple):
    """Broadcast parameters; total_count [...], the others [..., c]; integers are int64."""

    total_count: Tensor
    group_sizes: Tensor
    weights: Tensor | None
    log_weights: Tensor | None


def broadcast_shapes(*shapes: torch.Size) -> torch.Size:
    """As torch.broadcast_shapes, which imports SymPy, a second's work, on its first call."""
    point = torch.zeros(())
    return torch.broadcast_tensors(*(point.expand(shape) for shape in shapes))[0].shape


def describe(values: Tensor, bad: Tensor) -> str:
    """Shape of ``values`` and the first few that ``bad`` marks, for an error message."""
    shown = values.detach()[bad].flatten()[:5].tolist()
    more = ", ..." if int(bad.sum()) > 5 else ""
    return f"shape {tuple(values.shape)}, bad values: {', '.join(f'{v:.12g}' for v in shown)}{more}"


def broadcast_parameters(
    total_count: TensorLike,
    group_sizes: TensorLike,
    weights: TensorLike | None,
    log_weights: TensorLike | None,
    check_values: bool,
) -> Parameters:
    """Checks and broadcasts the parameters of a multivariate hypergeometric law.

    Raises:
        ValueError: naming the argument, its shape and the bad values.
    """
    if weights is not None and log_weights is not None:
        raise ValueError("give weights or log_weights but not both (or neither, for equal weights)")
    name, given = ("weights", weights) if weights is not None else ("log_weights", log_weights)
    device = next((a.device for a in (given, group_sizes, total_count) if isinstance(a, Tensor)), None)
    sizes = _as_tensor("group_sizes", group_sizes, device)
    count = _as_tensor("total_count", total_count, device)
    if given is None:
        importance = torch.zeros((), dtype=torch.get_default_dtype(), device=sizes.device)
    else:
        importance = _as_tensor(name, given, device)
        if importance.is_complex() or importance.dtype == torch.bool:
            raise ValueError(f"{name} must be real numbers, got dtype {importance.dtype}")
        if not importance.is_floating_point():
            importance = importance.to(torch.get_default_dtype())
    if importance.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} must be float32 or float64, got {importance.dtype}, which rounds counts above a few hundred; "
            f"convert with {name}.float()"
        )
    if sizes.dim() == 0:
        raise ValueError("group_sizes must have at least one dimension, the groups: shape [..., c], got a scalar")
    if sizes.shape[-1] == 0:
        raise ValueError(f"group_sizes must name at least one group, got shape {tuple(sizes.shape)}")
    if given is not None and (importance.dim() == 0 or importance.shape[-1] != sizes.shape[-1]):
        raise ValueError(
            f"{name} must have one entry a group in its last dimension: got shape {tuple(importance.shape)} for "
            f"group_sizes of shape {tuple(sizes.shape)}"
        )
    try:
        event = broadcast_shapes(sizes.shape, importance.shape)
        batch = broadcast_shapes(event[:-1], count.shape)
    except RuntimeError:
        raise ValueError(
            f"total_count of shape {tuple(count.shape)}, group_sizes of shape {tuple(sizes.shape)} and {name} of shape "
            f"{tuple(importance.shape)} do not broadcast: total_count goes with the batch, all but the last dimension"
        ) from None
    if check_values:
        _check_integers("total_count", count)
        _check_integers("group_sizes", sizes)
        if given is not None:
            _check_importance(name, importance)
    shape = torch.Size((*batch, event[-1]))
    sizes, count = sizes.long().expand(shape), count.long().expand(batch)
    if importance.shape != shape:  # expanding makes a non-leaf, which cannot be deep-copied
        importance = importance.expand(shape)
    if check_values:
        population = sizes.sum(-1)
        bad = count > population
        if bad.any():
            raise ValueError(
                f"total_count must not exceed the number of elements, sum(group_sizes): {describe(count, bad)}, where "
                f"the sums are {population[bad].flatten()[:5].tolist()}"
            )
    is_weights = weights is not None
    return Parameters(count, sizes, importance if is_weights else None, None if is_weights else importance)


def _as_tensor(name: str, value: TensorLike, device: torch.device | None) -> Tensor:
    try:
        return torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers or a tensor, got {value!r:.80} ({error})") from None


def _check_integers(name: str, values: Tensor) -> None:
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, got dtype {values.dtype}")
    bad = ~((values >= 0) & (values == values.round()) & (values.double() < 2**53))
    if bad.any():
        raise ValueError(f"{name} must be whole numbers from 0 to 2^53 - 1: {describe(values, bad)}")


def _check_importance(name: str, values: Tensor) -> None:
    if name == "weights":
        bad = ~((values > 0) & torch.isfinite(values))
        if bad.any():
            hint = " (a group that is never drawn has size 0, not weight 0)" if (values == 0).any() else ""
            raise ValueError(f"weights must be positive and finite{hint}: {describe(values, bad)}")
    else:
        bad = ~torch.isfinite(values)
        if bad.any():
            raise ValueError(f"log_weights must be finite: {describe(values, bad)}")


def check_conditionals(conditionals: str, group_order: object, num_groups: int) -> tuple[int, ...] | None:
    """The group order as a tuple, or None; raises ValueError for an unknown kind or an order that is no permutation."""
    if conditionals not in CONDITIONALS:
        raise ValueError(f"conditionals must be one of {', '.join(CONDITIONALS)}, got {conditionals!r}")
    if group_order is None:
        return None
    try:
        order = tuple(operator.index(g) for g in group_order)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        order = ()
    if sorted(order) != list(range(num_groups)):
        raise ValueError(
            f"group_order must be None or a permutation of 0..{num_groups - 1}, one entry a group, got {group_order!r}"
        )
    return order


def as_temperature(temperature: TensorLike, like: Tensor, check_values: bool) -> Tensor:
    """The temperature in dtype and on the device of ``like``; ValueError unless it and its inverse are positive."""
    values = _as_tensor("temperature", temperature, like.device).to(like.dtype)
    if check_values:
        bad = ~((values > 0) & torch.isfinite(values) & torch.isfinite(1 / values))
        if bad.any():
            given = torch.as_tensor(temperature, dtype=torch.float64, device=like.device)
            raise ValueError(f"temperature must be positive and finite in {like.dtype}: {describe(given, bad)}")
    return values
