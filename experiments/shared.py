"""What the runs that share a process hold together, as long as one of them holds it: data, and images on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from experiments import cell_process

T = TypeVar("T")


class Same:
    """As a part of a key: this object itself, kept as long as what was made from it."""

    def __init__(self, source: object) -> None:
        self.source = source

    def __hash__(self) -> int:
        return id(self.source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.source is self.source


class Shared(Generic[T]):
    """Keeps what was made under a key; a run that is alone in its process makes its own."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[Hashable, T] = WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns what lies under the key, or makes it; others wait for that."""
        if cell_process.calls_at_once == 1:
            return make()
        with self._lock:
            found = self._made.get(key)
            if found is None:
                found = self._made[key] = make()
            return found


_ON_DEVICES: Shared[Tensor] = Shared()


def on_device(source: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, where runs that share the process, and have it from the same source, share it."""
    if source.device == device:
        return source
    return _ON_DEVICES.get((Same(source), device), lambda: source.to(device))
