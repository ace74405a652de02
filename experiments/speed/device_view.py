"""Kernels and synchronisations of the library's calls, as a GPU would see them, and whether they compile whole.

Counted on torch's "meta" device, whose tensors have shapes and no values: what would make the host wait for a GPU can't
be answered there. A kernel is an ATen call on the device that is no view; on a GPU it can be several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvhg import MultivariateHypergeometric as Law
from mvhg import MultivariateHypergeometricStraightThrough as StraightThrough

META = torch.device("meta")
READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal")
FREE = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")


class Case(NamedTuple):
    """An urn, the shape of its log weights, how many draws, and the most kernels that are wanted of a selection."""

    group_sizes: list[int]
    total_count: int
    shape: tuple[int, ...]
    draws: tuple[int, ...]
    kernels: int


CASES = {
    "m = 10 x 2, n = 10, batch 64": Case([10] * 2, 10, (64, 2), (), 200),
    "m = 3, 5, 4, n = 5, batch 64": Case([3, 5, 4], 5, (64, 3), (), 450),
    "m = 200 x 3, n = 180, one law, 10,000 draws": Case([200] * 3, 180, (3,), (10_000,), 450),
    "m = 128 x 10, n = 128, one law": Case([128] * 10, 128, (10,), (), 1500),
}


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


def calls_of(case: Case, temperature: float) -> dict[str, Callable[[], object]]:
    """Work by name."""
    urn: dict[str, Any] = {"total_count": case.total_count, "group_sizes": case.group_sizes, "validate_args": False}
    counts = torch.empty((*case.draws, *case.shape), device=META)

    def law() -> Law:
        return Law(log_weights=torch.empty(case.shape, device=META, requires_grad=True), **urn)

    def straight_through() -> StraightThrough:
        log_weights = torch.empty(case.shape, device=META, requires_grad=True)
        return StraightThrough(temperature, log_weights=log_weights, **urn)

    def selection() -> None:
        drawn = straight_through().rsample_selection(case.draws)
        (drawn.counts.sum() + drawn.prefix_mask.square().sum()).backward()

    return {
        "selection, backward": selection,
        "rsample, backward": lambda: straight_through().rsample(case.draws).square().sum().backward(),
        "sample": lambda: law().sample(case.draws),
        "log_prob, backward": lambda: law().log_prob(counts).sum().backward(),
        "mean, backward": lambda: law().mean.square().sum().backward(),
    }


def compiles(case: Case, temperature: float) -> bool:
    """Whether a draw is traced as one graph."""

    def draw(log_weights: torch.Tensor) -> torch.Tensor:
        urn = StraightThrough(
            temperature, case.total_count, case.group_sizes, log_weights=log_weights, validate_args=False
        )
        return urn.rsample()

    try:
        torch.compile(draw, fullgraph=True, backend="aot_eager")(torch.zeros(len(case.group_sizes)))
    except Exception:  # whatever dynamo raises
        return False
    finally:
        torch.compiler.reset()
    return True


def measure_device_view(log: Callable[[str], None]) -> pd.DataFrame:
    """Counts every call of every case at temperature 0.5, and what is differentiable at 2 as well.

    Returns:
        A line per call: urn, temperature, call, kernels, the most that are wanted, synchronisations, and of selections
        whether the draw compiles whole.
    """
    lines = []
    for urn, case in CASES.items():
        for temperature in (0.5, 2.0):
            for call, work in calls_of(case, temperature).items():
                selection = call.startswith("selection")
                if temperature != 0.5 and not selection and not call.startswith("rsample"):
                    continue
                seen = count(work)
                line: dict[str, Any] = {"urn": urn, "temperature": temperature, "call": call, "kernels": seen.kernels}
                line |= {"wanted": f"<= {case.kernels}" if selection else "", "synchronisations": seen.synchronisations}
                lines.append(line | {"compiles": ("yes" if compiles(case, temperature) else "no") if selection else ""})
                asked = f"{seen.kernels} kernels, {seen.synchronisations} synchronisations"
                log(f"{urn}, temperature {temperature:g}, {call}: {asked}")
    return pd.DataFrame(lines)
