"""Kernels and synchronisations of the library's calls, as a GPU would see them, and whether they compile whole.

Counted on torch's "meta" device, whose tensors have shapes and no values: what would make the host wait for a GPU can't
be answered there. A kernel is an ATen call on the device that is no view; on a GPU it can be several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.speed.calls import URNS, Urn, every_call
from mvhg import MultivariateHypergeometricStraightThrough as StraightThrough

META = torch.device("meta")
READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal")
FREE = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")


WANTED = (200, 450, 450, 1500)  # kernels of a selection at most, by urn


class Calls(TorchDispatchMode):
    """Counts while it is entered: ``kernels``, and ``synchronisations``, reads by the host and copies to and fro."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.synchronisations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[1]
        devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        target = kwargs.get("device")
        here = devices | ({torch.device(target)} if target is not None else set())
        if META in here:
            crossing = name in ("_to_copy", "copy_") and len(here) > 1
            indices = tree_leaves(args[1]) if name in ("index", "index_put", "index_put_") else []
            masked = any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in indices)
            self.synchronisations += name in READS or crossing or masked
            self.kernels += not function.is_view and name not in FREE
        return function(*args, **kwargs)


class Constants(TorchFunctionMode):
    """Adds what the dispatcher does not see: tensors made on the device from the host's numbers."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, target = getattr(function, "__name__", ""), kwargs.get("device")
        made = name in ("tensor", "as_tensor") and target is not None and torch.device(target) == META
        self.calls.synchronisations += name == "new_tensor" or (made and not isinstance(args[0], torch.Tensor))
        return function(*args, **kwargs)


def count(work: Callable[[], object]) -> Calls:
    """Returns what a call asks of the device, up to the value that it wants to read, if so."""
    calls = Calls()
    try:
        with Constants(calls), calls:
            work()
    except (RuntimeError, NotImplementedError):  # a meta tensor has no value to read
        if not calls.synchronisations:
            raise
    return calls


def compiles(urn: Urn, temperature: float) -> bool:
    """Whether a draw of one law is traced as one graph."""

    def draw(log_weights: torch.Tensor) -> torch.Tensor:
        law = StraightThrough(
            temperature, urn.total_count, urn.group_sizes, log_weights=log_weights, validate_args=False
        )
        return law.rsample()

    try:
        torch.compile(draw, fullgraph=True, backend="aot_eager")(torch.zeros(len(urn.group_sizes)))
    except Exception:  # whatever dynamo raises
        return False
    finally:
        torch.compiler.reset()
    return True


def measure_device_view() -> Iterator[dict[str, Any]]:
    """Yields a line per call: urn, temperature, call, kernels, the most that are wanted, synchronisations, and of
    selections whether the draw compiles whole.
    """
    for urn, temperature, call, work in every_call(META):
        seen, selection = count(work), call.startswith("selection")
        line: dict[str, Any] = {"urn": urn.words, "temperature": temperature, "call": call, "kernels": seen.kernels}
        line |= {"wanted": f"<= {WANTED[URNS.index(urn)]}" if selection else ""}
        line |= {"synchronisations": seen.synchronisations}
        yield line | {"compiles": ("yes" if compiles(urn, temperature) else "no") if selection else ""}
