"""What ``mvhg.keras`` is given: numbers, tensors and shapes, checked where a backend knows them."""

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# So near 0 the tilt is found well enough for nothing to underflow.
_MOST_LOG_WEIGHT = 1e6
# Whole numbers up to here are exact in float64.
_MOST_ELEMENTS = 2**53 - 1
# Terms of one convolution of one law; beyond it a batch does not fit anywhere.
_MOST_TERMS = 1 << 24
_said_single = False

_Shape = tuple[int | None, ...]  # None within a function whose batch may change


def working_dtype() -> str:
    """float64, unless JAX has it switched off."""
    if keras.backend.backend() != "jax":
        return "float64"
    import jax

    return "float64" if jax.config.jax_enable_x64 else "float32"


def urn(total_count: Any, group_sizes: Any) -> tuple[int, tuple[int, ...]]:
    """The total and the sizes as Python numbers.

    Raises:
        ValueError: for other numbers than whole ones, more draws than elements, and urns too large for convolutions.
    """
    try:
        sizes, total = tuple(int(size) for size in group_sizes), int(total_count)
        whole = all(a == b for a, b in zip((*sizes, total), (*group_sizes, total_count), strict=True))
    except (TypeError, ValueError, OverflowError):
        whole, sizes, total = False, (), 0
    if not whole or not sizes or min(sizes) < 0 or total < 0:
        raise ValueError(
            f"group_sizes and total_count must be whole Python numbers, 0 or more, got {group_sizes!r:.200} and "
            f"{total_count!r:.200}"
        )
    if sum(sizes) > _MOST_ELEMENTS:
        raise ValueError(f"group_sizes must sum to at most 2^53 - 1 elements, got {group_sizes!r:.200}")
    if total > sum(sizes):
        raise ValueError(f"total_count must not exceed the sum of group_sizes: {total} of {sum(sizes)}")
    terms = (min(max(sizes), total) + 1) * (2 * total + 2)
    if terms > _MOST_TERMS:
        raise ValueError(
            f"total_count {total} and group_sizes up to {max(sizes)} take convolutions of {terms:,} terms a law, more "
            f"than {_MOST_TERMS:,}; the torch classes have no such limit"
        )
    return total, sizes


def weights(log_weights: Any, groups: int) -> Any:
    """Log weights [..., groups] as a tensor of float32 or float64, finite as far as the host knows.

    Raises:
        ValueError: naming their type, shape or values.
    """
    _refuse_symbolic("log_weights", log_weights)
    if isinstance(log_weights, (list, tuple, int, float)):
        try:
            tensors = [leaf for leaf in _leaves(log_weights) if hasattr(leaf, "dtype") and not _is_numpy(leaf)]
            if tensors:  # an array of them would have no gradient
                log_weights = _stacked(log_weights, keras.backend.standardize_dtype(tensors[0].dtype))
            else:
                log_weights = np.asarray(log_weights, dtype=keras.backend.floatx())
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"log_weights must be numbers [..., {groups}], got {log_weights!r:.200}") from None
    if not hasattr(log_weights, "dtype"):
        raise ValueError(f"log_weights must be a tensor [..., {groups}], got {type(log_weights).__name__}")
    dtype = str(log_weights.dtype) if _is_numpy(log_weights) else keras.backend.standardize_dtype(log_weights.dtype)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"log_weights must be float32 or float64, got {log_weights.dtype}")
    if len(log_weights.shape) == 0 or log_weights.shape[-1] != groups or 0 in tuple(log_weights.shape):
        raise ValueError(
            f"log_weights must have one entry a group in the last dimension, and a law at least: got shape "
            f"{tuple(log_weights.shape)} for {groups} group_sizes"
        )
    if isinstance(log_weights, np.ndarray) and log_weights.dtype == np.float64 and working_dtype() == "float32":
        _say_single()
        log_weights = log_weights.astype("float32")
    known = _known(log_weights)
    if known is not None and not (np.abs(known) <= _MOST_LOG_WEIGHT).all():
        limit = f"{_MOST_LOG_WEIGHT:g}"
        raise ValueError(f"log_weights must be finite, between -{limit} and {limit}, got {known.tolist()!r:.200}")
    return ops.convert_to_tensor(log_weights)


def tensor(name: str, value: Any, working: str) -> Any:
    """Numbers as a tensor of the ``working`` dtype; raises ValueError for what is none."""
    _refuse_symbolic(name, value)
    try:
        return ops.cast(ops.convert_to_tensor(value), working)
    except Exception as error:  # each backend has its own
        raise ValueError(f"{name} must be numbers or a tensor, got {value!r:.200} ({error!s:.200})") from None


def _refuse_symbolic(name: str, value: Any) -> None:
    if isinstance(value, keras.KerasTensor):  # its batch would be frozen as None
        raise ValueError(f"{name} must have values, got a keras.Input or what is made of one: use it in a layer's call")


def _leaves(value: Any) -> list[Any]:
    return [leaf for v in value for leaf in _leaves(v)] if isinstance(value, (list, tuple)) else [value]


def _is_numpy(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def _stacked(value: Any, dtype: str) -> Any:
    """Nested lists of tensors and numbers as one tensor."""
    if isinstance(value, (list, tuple)):
        return ops.stack([_stacked(each, dtype) for each in value])
    return ops.cast(ops.convert_to_tensor(value), dtype)


def temperature(given: Any, working: str) -> Any:
    """One number, or a tensor of one as a scalar; positive in the ``working`` dtype as far as its value is at hand.

    Raises:
        ValueError: naming it.
    """
    if hasattr(given, "shape") and not _is_numpy(given):
        if any(side != 1 for side in given.shape):
            raise ValueError(f"temperature must be one number, got a tensor of shape {tuple(given.shape)}")
        result, known = ops.reshape(given, ()), _known(given)
    else:
        try:
            known = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            known = None
        if known is None or known.size != 1 or isinstance(given, bool):
            raise ValueError(f"temperature must be one number, got {given!r:.200}")
        result = known.item()
    limits = np.finfo(working)
    if known is not None and not limits.tiny <= known.item() <= limits.max:
        raise ValueError(f"temperature must be positive and finite in {working}, got {known.item()}")
    return result


def check_counts(shape: _Shape, batch_and_groups: _Shape) -> None:
    """Raises ValueError unless counts of a shape go with the laws."""
    groups = batch_and_groups[-1]
    if not shape or shape[-1] != groups:
        raise ValueError(f"value must be counts [..., {groups}], got shape {shape}")
    pairs = zip(reversed(shape), reversed(batch_and_groups), strict=False)
    if any(None not in pair and 1 not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(f"value of shape {shape} does not broadcast with log_weights of shape {batch_and_groups}")


def sample_size(sample_shape: Sequence[int]) -> tuple[int, ...]:
    """``sample_shape`` as a tuple.

    Raises:
        ValueError: it is no sequence of positive numbers.
    """
    try:
        shape = tuple(operator.index(number) for number in sample_shape)
    except TypeError:
        raise ValueError(f"sample_shape must be a sequence of numbers, such as (3,), got {sample_shape!r}") from None
    if any(number < 1 for number in shape):
        raise ValueError(f"sample_shape must have positive numbers, got {shape}")
    return shape


def noise(given: Any, sample_shape: Sequence[int], batch_and_groups: _Shape, columns: int, working: str) -> Any:
    """Noise as a tensor of the ``working`` dtype: of the shape that is wanted and, as far as is known, within [0, 1).

    Raises:
        ValueError: naming what is wrong.
    """
    numbers = tensor("noise", given, working)
    shape, expected = tuple(numbers.shape), (*sample_shape, *batch_and_groups[:-1], columns)
    fits = len(shape) == len(expected) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(f"noise must have shape [sample_shape, batch, {columns}] = {expected}, got {shape}")
    known = _known(given)
    if known is not None and not ((known >= 0) & (known < 1)).all():
        raise ValueError(f"noise must be within [0, 1), got {known.tolist()!r:.200}")
    return numbers


def _known(values: Any) -> Any:
    """As an array if the host has the values at hand: not of what is traced or on torch's GPU."""
    values = values.value if isinstance(values, keras.Variable) else values
    values = values.detach() if hasattr(values, "detach") else values
    try:
        return np.asarray(values, dtype=np.float64)
    except Exception:  # each backend has its own
        return None


def _say_single() -> None:
    global _said_single
    if not _said_single:
        warnings.warn("JAX has no float64 unless jax_enable_x64 is set: float32 is used in its place", stacklevel=4)
        _said_single = True
