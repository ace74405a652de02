"""A pretended accelerator: on a CPU, what a GPU would be asked to do and how often the host would wait for it.

Tensors on the device "pretended" hold CPU tensors and compute real values. Each ATen call on them that is no view is
counted as a kernel; what hands a value or a shape to the host, or host data to the device, as a synchronisation. Mixing
devices raises, as on a GPU. What ATen does within one call is not seen: a kernel here can be several on a GPU.

    with watched() as seen:
        law.log_prob(pretend(counts))
    seen.kernels, seen.synchronisations
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.backend_registration as registration
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
_READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "equal")
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
_FREE = (
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "permute", "slice", "select", "unsqueeze"),
    *("squeeze", "detach", "alias", "t", "transpose", "as_strided", "unfold", "split", "split_with_sizes", "chunk"),
    *("diagonal", "lift_fresh", "unbind", "view_as_real", "view_as_complex", "unflatten", "movedim"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
)


class _Module(registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def is_autocast_enabled(self) -> bool:
        return False


def _device() -> torch.device:
    """Registers the device at its first use; a process can have one of its kind."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    return torch.device(f"{NAME}:0")


class Seen:
    """What was asked for.

    Attributes:
        calls: ATen name -> how often, views left out.
        waits: Why the host waited -> how often.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    @property
    def kernels(self) -> int:
        """Number of calls."""
        return sum(self.calls.values())

    @property
    def synchronisations(self) -> int:
        """Number of waits."""
        return sum(self.waits.values())


_seen: list[Seen] = []


def _wait(reason: str) -> None:
    if _seen:
        _seen[-1].waits[reason] += 1


class PretendedTensor(torch.Tensor):
    """A tensor of the pretended device.

    Args:
        values: On the CPU.
    """

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=_device(),
        )
        assert isinstance(made, PretendedTensor)
        made.held = values
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(function, arguments, dict(keywords or {}))


def pretend(tensor: Tensor) -> Tensor:
    """A leaf on the pretended device with the values of a CPU tensor."""
    return PretendedTensor(tensor.detach().clone())


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(function: Any, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
    name = function._schema.name.split("::")[1]
    tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendedTensor)]
    others = [tensor for tensor in tensors if not isinstance(tensor, PretendedTensor) and tensor.dim() > 0]
    device = keywords.get("device")
    here = _is_pretended(device) if device is not None else bool(ours)
    if name in ("_to_copy", "copy_"):
        source = arguments[1] if name == "copy_" else arguments[0]
        target = isinstance(arguments[0], PretendedTensor) if name == "copy_" else here
        if isinstance(source, PretendedTensor) != target:
            _wait(f"{name} between host and device")
    elif ours and others:
        if name not in _INDEXING:
            raise RuntimeError(f"expected all tensors on the same device: {name} got one on the CPU")
        _wait(f"{name} by an index on the host")
    elif name in _READS or (name == "repeat_interleave" and ours):
        _wait(name)
    elif name in _INDEXING and any(t.dtype == torch.bool for t in arguments[1] if isinstance(t, Tensor)):
        _wait(f"{name} by a mask")
    if _seen and (here or ours) and name not in _FREE:
        _seen[-1].calls[name] += 1

    def unwrapped(leaf: Any) -> Any:
        return leaf.held if isinstance(leaf, PretendedTensor) else leaf

    inside: dict[str, Any] = tree_map(unwrapped, keywords)
    if _is_pretended(device):
        inside["device"] = torch.device("cpu")
    result = function(*tree_map(unwrapped, arguments), **inside)
    if not here:
        return result
    result = tree_map(lambda leaf: PretendedTensor(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(function, arguments, keywords, result) if ours else result


class _Factories(TorchDispatchMode):
    """Takes what is made on the device from nothing."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(keywords or {})
        leaves = tree_leaves((arguments, keywords))
        if any(isinstance(leaf, PretendedTensor) for leaf in leaves) or _is_pretended(keywords.get("device")):
            return _run(function, arguments, keywords)
        return function(*arguments, **keywords)


class _HostData(TorchFunctionMode):
    """Takes what goes around the dispatcher: tensors made on the device from the host's data, and lists of values."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        keywords, name = dict(keywords or {}), getattr(function, "__name__", "")
        if name in ("tensor", "as_tensor") and _is_pretended(keywords.get("device")):
            if isinstance(arguments[0], PretendedTensor):
                return arguments[0].to(keywords["dtype"]) if keywords.get("dtype") else arguments[0]
            _wait(f"torch.{name} of the host's data")
            return pretend(function(*arguments, **(keywords | {"device": "cpu"})))
        if name == "new_tensor" and isinstance(arguments[0], PretendedTensor):
            _wait("new_tensor of the host's data")
            return pretend(torch.tensor(arguments[1], dtype=keywords.get("dtype") or arguments[0].dtype))
        if name == "tolist" and isinstance(arguments[0], PretendedTensor):
            _wait("tolist")
            return arguments[0].held.tolist()
        return function(*arguments, **keywords)


@contextmanager
def watched() -> Iterator[Seen]:
    """Counts what the block asks of the pretended device."""
    _device()
    seen = Seen()
    _seen.append(seen)
    try:
        with _HostData(), _Factories():
            yield seen
    finally:
        _seen.pop()
