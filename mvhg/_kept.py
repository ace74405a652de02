"""What is worked out of sizes and totals alone is kept between calls."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

CPU = torch.device("cpu")
_Value = TypeVar("_Value")


class Memory(Generic[_Value]):
    """Values by what they depend on and the device that they are on; the oldest go where there are too many.

    Threads may share it. On a GPU a value serves the stream that made it, since others do not wait for that one; what a
    CUDA graph reads in its capture, before which everything is waited for, is kept for good: replays read it again.

    Args:
        most: values that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._values: dict[Hashable, _Value] = {}
        self._captured: dict[Hashable, _Value] = {}

    def get(self, key: Hashable, device: torch.device) -> _Value | None:
        """The value that was kept under ``key``, or None."""
        if device.type != "cuda":
            return self._values.get((key, device))
        if not torch.cuda.is_current_stream_capturing():
            return self._values.get((key, device, torch.cuda.current_stream(device).cuda_stream))
        found = self._captured.get((key, device))
        if found is None:
            found = self._values.get((key, device))
            if found is not None:
                self._captured[key, device] = found
        return found

    def keep(self, key: Hashable, device: torch.device, value: _Value) -> None:
        """Keeps a value; of what ``may_be_kept`` alone."""
        with self._lock:
            while len(self._values) >= self._most:
                del self._values[next(iter(self._values))]
            self._values[key, device] = value
            if device.type == "cuda":
                self._values[key, device, torch.cuda.current_stream(device).cuda_stream] = value


def may_be_kept(tensor: Tensor | None) -> bool:
    """Whether constants made here may serve later calls: not while traced, batched, captured or in inference mode."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return False
    if tensor is None:
        return True
    passing = isinstance(tensor, FakeTensor) or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return not passing and not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


_CONSTANTS: Memory[Tensor] = Memory(256)


def constant(values: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The values [c] on a device, made once there, without a copy from the host that would wait for the device."""
    if torch.compiler.is_compiling():
        return torch.tensor(values, dtype=dtype, device=device)
    found = _CONSTANTS.get((values, dtype), device)
    if found is None:
        if device.type == "cpu":
            found = torch.tensor(values, dtype=dtype, device=device)
        elif len(set(values)) == 1:
            found = torch.full((len(values),), values[0], dtype=dtype, device=device)
        else:
            found = torch.stack([torch.full((), v, dtype=dtype, device=device) for v in values])
        if may_be_kept(found) and not found.is_inference():
            _CONSTANTS.keep((values, dtype), device, found)
    return found
