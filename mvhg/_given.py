"""Numbers as users give them, lists, NumPy's arrays or tensors, as tensors of the same precision and gradient.

What is no tensor is on the CPU, whatever torch's default device is: the host knows it.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mvhg._kept import CPU

TensorLike: TypeAlias = Tensor | int | float | Sequence[Any]


def as_reals(name: str, value: TensorLike) -> tuple[Tensor, torch.dtype]:
    """The numbers as a tensor, float64 unless given as one, whatever torch's default is; and the dtype of results."""
    if isinstance(value, Tensor):
        check_layout(name, value)
        values, dtype = value, value.dtype
    else:
        try:
            values = _as_tensor(name, value)
        except ValueError:  # whole numbers beyond an int64
            return _as_tensor(name, value, torch.float64), torch.get_default_dtype()
        dtype = values.dtype
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be real numbers, got dtype {values.dtype}")
    if not values.is_floating_point():
        return values.double(), torch.get_default_dtype()
    if not isinstance(value, Tensor) and not values.requires_grad:
        values = _as_tensor(name, value, torch.float64)
    return values, dtype


def as_integers(name: str, value: TensorLike) -> Tensor:
    """The numbers as a tensor of the dtype they have; float64 for Python's floats, whatever torch's default is."""
    values = value if isinstance(value, Tensor) else _as_tensor(name, value)
    check_layout(name, values)
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, got dtype {values.dtype}")
    if values.requires_grad:
        raise ValueError(f"{name} must be whole numbers, which have no gradient; got a tensor that requires one")
    if values.is_floating_point() and not isinstance(value, Tensor):
        values = _as_tensor(name, value, torch.float64)
    return values


def check_layout(name: str, values: Tensor) -> None:
    """Raises ValueError for tensors that are not dense, of which few operations know."""
    if values.layout != torch.strided or values.is_nested:
        layout = "a nested tensor" if values.is_nested else f"layout {values.layout}"
        raise ValueError(f"{name} must be a dense tensor, got {layout}")


def is_8_bit(dtype: torch.dtype) -> bool:
    """Whether the dtype is a float of 8 bits, with which torch does not compute."""
    return dtype.is_floating_point and dtype.itemsize == 1


def _as_tensor(name: str, value: TensorLike, dtype: torch.dtype | None = None) -> Tensor:
    try:
        if _holds_tensor(value):  # torch.as_tensor would drop their gradients
            first = next((leaf for leaf in _leaves(value) if isinstance(leaf, Tensor)), None)
            dtype, device = (dtype, None) if first is None else (first.dtype, first.device)
            parts = [v if isinstance(v, Tensor) else _as_tensor(name, v, dtype) for v in value]  # type: ignore[union-attr]
            return torch.stack([part.to(device) for part in parts])
        return _of_array(value, dtype) if _is_array(value) else torch.as_tensor(value, dtype=dtype, device=CPU)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} must be numbers or a tensor, got {value!r:.80} ({error})") from None


def _leaves(value: Any) -> list[Any]:
    return [leaf for v in value for leaf in _leaves(v)] if isinstance(value, (list, tuple)) else [value]


def _holds_tensor(value: Any) -> bool:
    """Whether a list holds tensors, or arrays or NumPy's numbers that torch cannot read in a list."""
    if not isinstance(value, (list, tuple)):
        return False
    return any(
        isinstance(v, Tensor) or (_is_array(v) and (v.ndim or v.dtype.kind == "u" or v.dtype.itemsize > 8))
        for v in _leaves(value)
    )


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "dtype")


def _of_array(value: Any, dtype: torch.dtype | None) -> Tensor:
    """A copy of a NumPy array or number, whatever its strides, byte order and width, to which torch objects."""
    kind, width = value.dtype.kind, value.dtype.itemsize
    if kind == "f" and width > 8:
        value = value.astype("float64")
    elif kind == "u":
        value = value.astype("int64" if width < 8 else "float64")  # which is exact as far as sizes are allowed to go
    elif kind in "if":
        value = value.astype(value.dtype.newbyteorder("="))
    copied = torch.from_numpy(value.reshape(value.shape or (1,)).copy()).reshape(value.shape)
    return copied if dtype is None else copied.to(dtype)
