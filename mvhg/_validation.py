"""Turns a user's arguments into the distribution's parameters, or says what is wrong with them."""

import functools
import math
import operator
import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributions import Distribution

from mvhg._bounds import Bounds
from mvhg._given import TensorLike, as_integers, as_reals, is_8_bit
from mvhg._kept import CPU, constant

CONDITIONALS = ("exact", "merged")
# Whole numbers up to here are exact in float64, in which everything is computed.
_MOST_ELEMENTS = 2**53 - 1
# Above this a float64 does not resolve log weights to 1e-4, nor ratios of weights to as much.
MOST_LOG_WEIGHT = 1e12
# Numbers up to which a loop over them is faster than operations on tensors.
FEW = 128


class Parameters(NamedTuple):
    """Broadcast parameters; integers are int64."""

    total_count: Tensor | None  # [...]; None for a plain urn, to be made of the bounds when it is asked for
    group_sizes: Tensor | None  # [..., c]; likewise
    importance: Tensor  # [..., c]: weights or log weights as given; float64 if not given as a tensor
    dtype: torch.dtype  # of results
    bounds: Bounds | None  # None where the sizes or totals are tensors that the host would have to read


def broadcast_shapes(*shapes: torch.Size) -> torch.Size:
    """As torch.broadcast_shapes, which imports SymPy, a second's work, on its first call."""
    longest = max(shapes, key=len)
    if all(shape == longest or not shape for shape in shapes):
        return longest
    point = torch.zeros(())
    return torch.broadcast_tensors(*(point.expand(shape) for shape in shapes))[0].shape


def can_look(*tensors: Tensor) -> bool:
    """Whether the values are on the host, outside torch.compile and torch.func.vmap: looking at them costs nothing."""
    if torch.compiler.is_compiling():
        return False
    return all(t.device.type == "cpu" and not isinstance(t, FakeTensor) and not _is_batched(t) for t in tensors)


def can_list(*tensors: Tensor) -> bool:
    """Whether ``tolist`` gives the values at no cost: as ``can_look``, and outside all of torch.func's transforms."""
    return can_look(*tensors) and not torch._C._are_functorch_transforms_active()


def can_read(*tensors: Tensor) -> bool:
    """Whether there are values to look at, at the cost of a wait: not within torch.compile nor on the meta device."""
    if torch.compiler.is_compiling():
        return False
    return not any(t.device.type == "meta" or isinstance(t, FakeTensor) for t in tensors)


def is_true(flag: Tensor) -> bool:
    """A flag found by a check of values, which is read.

    Raises:
        ValueError: within torch.func.vmap, where it is a batch of flags that can't be read.
    """
    if _is_batched(flag):
        raise ValueError("values can't be checked: within torch.func.vmap pass validate_args=False")
    return bool(flag)


def require_values(*tensors: Tensor, names: str = "group_sizes and total_count") -> None:
    """Raises ValueError for tensors that must be read, and have no values that can be."""
    if torch.compiler.is_compiling():
        return
    if not can_read(*tensors) or any(_is_batched(t) for t in tensors):
        where = "batched by torch.func.vmap" if can_read(*tensors) else "on the meta device"
        raise ValueError(f"{names} must have values here, got tensors {where}: give numbers, or tensors on the CPU")


def _is_batched(tensor: Tensor) -> bool:
    """Whether ``tensor`` is a batch of values within torch.func.vmap."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def validates(asked: bool | None, default: bool | None) -> bool:
    """Whether to check values: as asked, else by our own default, else by torch's unless dynamo has switched that off.

    The first torch.compile of a process sets the default of all torch.distributions to False; a user's own
    ``Distribution.set_default_validate_args(False)`` can be told from it only before that.
    """
    if asked is not None or default is not None:
        return bool(default if asked is None else asked)
    if not __debug__ or torch.compiler.is_compiling() or Distribution._validate_args:
        return __debug__
    patcher = getattr(sys.modules.get("torch._dynamo.eval_frame"), "TorchPatcher", None)
    return patcher is not None and patcher.patch.cache_info().currsize > 0


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
    temperature: Tensor | None = None,
) -> Parameters:
    """Checks and broadcasts the parameters of a multivariate hypergeometric law.

    What the host knows is always checked; values on an accelerator with ``check_values`` alone, by one read, and by the
    same one a ``temperature`` that is there.

    Raises:
        ValueError: naming the argument, its shape and the bad values.
    """
    if weights is not None and log_weights is not None:
        raise ValueError("give weights or log_weights but not both (or neither, for equal weights)")
    name, given = ("weights", weights) if weights is not None else ("log_weights", log_weights)
    bounds = _plain_urn(group_sizes, total_count)
    if bounds is not None and isinstance(given, Tensor):
        plain = _plain_parameters(name, given, bounds, check_values, temperature)
        if plain is not None:
            return plain
    if bounds is None or bounds.sizes is None or bounds.totals is None:
        sizes, count = as_integers("group_sizes", group_sizes), as_integers("total_count", total_count)
    else:
        sizes = constant(bounds.sizes, CPU, torch.int64)
        count = torch.full((), bounds.totals, device=CPU)
    elsewhere = count.device if sizes.device.type == "cpu" else sizes.device
    if elsewhere.type == "cpu" and not isinstance(group_sizes, Tensor) and not isinstance(total_count, Tensor):
        elsewhere = torch.empty(0).device  # torch's default
    if given is None:
        dtype = torch.get_default_dtype()
        importance = torch.zeros((), dtype=dtype, device=elsewhere)
    else:
        importance, dtype = as_reals(name, given)
        if not isinstance(given, Tensor):
            importance = importance.to(elsewhere) if importance.device.type == "cpu" else importance
    if dtype not in (torch.float32, torch.float64):
        advice = f"convert with {name}.float()"
        if not isinstance(given, Tensor) and dtype == torch.get_default_dtype():
            advice = "it is torch's default dtype, as there is no tensor to go by: give one"
        raise ValueError(
            f"{name} must be float32 or float64, got {dtype}, which rounds counts above a few hundred; {advice}"
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
        batch = broadcast_shapes(sizes.shape[:-1], importance.shape[:-1], count.shape)
    except RuntimeError:
        raise ValueError(
            f"total_count of shape {tuple(count.shape)}, group_sizes of shape {tuple(sizes.shape)} and {name} of shape "
            f"{tuple(importance.shape)} do not broadcast: total_count goes with the batch, all but the last dimension"
        ) from None
    shape = torch.Size((*batch, sizes.shape[-1]))
    if bounds is None and can_look(sizes, count):
        _check_urn(sizes, count)
        bounds = Bounds.of_tensors(sizes.long(), count.long() if count.numel() else sizes.long().sum(-1))
    if given is not None and can_look(importance):
        _check_importance(name, importance)
    if check_values and can_read(*(a for a in (sizes, count, importance, temperature) if a is not None)):
        bad = [] if bounds is not None else [_bad_urn(sizes.double(), count.double())]
        if given is not None and not can_look(importance):
            bad.append(_bad_importance(name, importance).any())
        if temperature is not None and not can_look(temperature):
            bad.append(_bad_temperature(temperature).any())
        if bad and is_true(functools.reduce(operator.or_, bad)):
            _check_urn(sizes, count)
            _check_importance(name, importance)
            if temperature is not None:
                check_temperature(temperature)
    if importance.shape != shape:  # expanding makes a non-leaf, which cannot be deep-copied
        importance = importance.expand(shape)
    if bounds is not None and bounds.sizes is not None:
        sizes = constant(bounds.sizes, importance.device, torch.int64).clone()
    if bounds is not None and bounds.totals is not None:
        count = torch.full((), bounds.totals, device=importance.device)
    if can_read(importance):
        require_values(*(a for a in (sizes, count) if not can_read(a)))
    # Copies, since what is known of them would not follow a change in place.
    sizes, count = (a.to(importance.device, torch.int64, copy=can_look(a)) for a in (sizes, count))
    return Parameters(count.expand(batch), sizes.expand(shape), importance, dtype, bounds)


def _plain_parameters(
    name: str, given: Tensor, bounds: Bounds, check_values: bool, temperature: Tensor | None
) -> Parameters | None:
    """Of one plain urn and weights of the batch's own shape, the common case; None if there is more to it."""
    shape, sizes = given.shape, bounds.sizes
    if sizes is None or bounds.totals is None or not shape or shape[-1] != len(sizes):
        return None
    if given.dtype not in (torch.float32, torch.float64) or given.layout != torch.strided:
        return None
    if check_values and not all(can_look(a) or not can_read(a) for a in (given, temperature) if a is not None):
        return None
    if can_look(given):
        _check_importance(name, given)
    return Parameters(None, None, given, given.dtype, bounds)


def _plain_urn(group_sizes: TensorLike, total_count: TensorLike) -> Bounds | None:
    """Bounds of one urn of plain whole numbers, plainly legal; None where it takes tensors to tell or to complain."""
    sizes, total = _plain(group_sizes), _plain(total_count)
    if not isinstance(sizes, tuple) or not sizes or type(total) is not int or set(map(type, sizes)) != {int}:
        return None
    legal = min(sizes) >= 0 and 0 <= total <= sum(sizes) <= _MOST_ELEMENTS
    return Bounds.of_urn(sizes, total) if legal else None


def _plain(value: TensorLike) -> Any:
    if isinstance(value, Tensor):
        small = value.dim() <= 1 and value.numel() <= 4096 and not value.is_floating_point() and can_look(value)
        small = small and value.layout == torch.strided
        if not small:
            return None
        if torch._C._are_functorch_transforms_active():  # where ``tolist`` of torch 2.6 finds no values
            return tuple(each.item() for each in value) if value.dim() else value.item()
        plain = value.tolist()
        return tuple(plain) if isinstance(plain, list) else plain
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _bad_integers(values: Tensor) -> Tensor:
    return ~((values >= 0) & (values == values.round()) & (values <= _MOST_ELEMENTS))


def _bad_urn(sizes: Tensor, count: Tensor) -> Tensor:
    """Whether anything is wrong with float64 sizes or totals, one bool on their device."""
    population = sizes.sum(-1)
    return (
        _bad_integers(sizes).any()
        | _bad_integers(count).any()
        | (population > _MOST_ELEMENTS).any()
        | (count > population).any()
    )


def _check_urn(sizes: Tensor, count: Tensor) -> None:
    sizes, count = sizes.double(), count.double()
    for name, values in (("total_count", count), ("group_sizes", sizes)):
        bad = _bad_integers(values)
        if bad.any():
            raise ValueError(f"{name} must be whole numbers from 0 to 2^53 - 1: {describe(values, bad)}")
    population = sizes.sum(-1)
    if (population > _MOST_ELEMENTS).any():
        raise ValueError(
            f"group_sizes must sum to at most 2^53 - 1 elements, got shape {tuple(sizes.shape)} with a sum of "
            f"{float(population.max()):.6g}"
        )
    bad = count > population
    if bad.any():
        raise ValueError(
            f"total_count must not exceed the number of elements, sum(group_sizes): {describe(count, bad)}, where "
            f"the sums are {[int(p) for p in population.expand(bad.shape)[bad].flatten()[:5].tolist()]}"
        )


def _bad_importance(name: str, values: Tensor) -> Tensor:
    if name == "weights":
        return ~((values > 0) & torch.isfinite(values))
    return ~(values.abs() <= MOST_LOG_WEIGHT)


def _check_importance(name: str, values: Tensor) -> None:
    if values.numel() == 0:
        return
    least, most = (float(v) for v in values.detach().aminmax())  # not a number where any value is not
    below, above = (0.0, math.inf) if name == "weights" else (-MOST_LOG_WEIGHT, MOST_LOG_WEIGHT)
    if below < least and most < above:
        return
    bad = _bad_importance(name, values)
    if not bad.any():
        return
    if name == "weights":
        hint = " (a group that is never drawn has size 0, not weight 0)" if (values == 0).any() else ""
        raise ValueError(f"weights must be positive and finite{hint}: {describe(values, bad)}")
    raise ValueError(
        f"log_weights must be finite, between -{MOST_LOG_WEIGHT:g} and {MOST_LOG_WEIGHT:g}: {describe(values, bad)}"
    )


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


def as_temperature(temperature: TensorLike) -> tuple[Tensor | None, float | None]:
    """The temperature as it was given, None for a number, and the highest one where the host knows it.

    Raises:
        ValueError: unless it and its inverse are positive and finite, as far as the host knows.
    """
    if isinstance(temperature, (int, float)) and not isinstance(temperature, bool):
        try:
            number = float(temperature)
        except OverflowError:
            number = math.inf
        if not (0 < number < math.inf and 1 / number < math.inf):
            raise ValueError(f"temperature must be positive and finite, and so must its inverse: got {number}")
        return None, number
    given, _ = as_reals("temperature", temperature)
    if is_8_bit(given.dtype):
        raise ValueError(f"temperature must be a number or of 16 bits or more, got {given.dtype}")
    if not can_look(given):
        return given, None
    check_temperature(given)
    return given, float(given.detach().max()) if given.numel() else None


def _bad_temperature(values: Tensor) -> Tensor:
    values = values.double()
    return ~((values > 0) & torch.isfinite(values) & torch.isfinite(1 / values))


def check_temperature(values: Tensor) -> None:
    """Raises ValueError for values that are no temperatures; looks at them."""
    bad = _bad_temperature(values)
    if bad.any():
        raise ValueError(f"temperature must be positive and finite, and so must its inverse: {describe(values, bad)}")
