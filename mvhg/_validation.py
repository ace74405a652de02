"""Turns a user's arguments into the distribution's parameters, or says what is wrong with them."""

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
    return f"shape {tuple(values.shape)}, bad values: {', '.join(f'{v:g}' for v in shown)}{more}"


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
    importance = None if given is None else torch.as_tensor(given)
    device = importance.device if importance is not None else None
    sizes = torch.as_tensor(group_sizes, device=device)
    count = torch.as_tensor(total_count, device=sizes.device)
    if importance is None:
        importance = torch.zeros((), dtype=torch.get_default_dtype(), device=sizes.device)
    elif not importance.is_floating_point():
        if importance.is_complex() or importance.dtype == torch.bool:
            raise ValueError(f"{name} must be real numbers, got dtype {importance.dtype}")
        importance = importance.to(torch.get_default_dtype())
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
    sizes, count = sizes.long().expand(*batch, event[-1]), count.long().expand(batch)
    importance = importance.expand(*batch, event[-1])
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


def _check_integers(name: str, values: Tensor) -> None:
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, got dtype {values.dtype}")
    bad = ~((values >= 0) & (values == values.round()) & (values < 2**53))
    if bad.any():
        raise ValueError(f"{name} must be whole numbers, 0 or more: {describe(values, bad)}")


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
        order = tuple(int(g) for g in group_order)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        order = ()
    if sorted(order) != list(range(num_groups)):
        raise ValueError(
            f"group_order must be None or a permutation of 0..{num_groups - 1}, one entry a group, got {group_order!r}"
        )
    return order


def check_temperature(temperature: TensorLike) -> None:
    """Raises ValueError unless every temperature is positive and finite."""
    values = torch.as_tensor(temperature, dtype=torch.float64)
    bad = ~((values > 0) & torch.isfinite(values))
    if bad.any():
        raise ValueError(f"temperature must be positive and finite: {describe(values, bad)}")
