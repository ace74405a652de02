"""Wall-clock time and peak memory of a call. Sides that are compared take turns, since a machine's speed drifts."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch.utils.benchmark import Timer

from experiments.environment import CLEAR, peak_memory_mib


def seconds_of(call: Callable[[], object], shortest: float = 0.0, threads: int = 1) -> float:
    """Seconds of one call, which is repeated until the measurement takes ``shortest`` seconds."""
    timer = Timer("call()", globals={"call": call}, num_threads=threads)
    seconds = timer.timeit(1).mean
    return seconds if seconds >= shortest else timer.timeit(int(shortest / seconds) + 1).mean


def in_turns(
    sides: Mapping[str, Callable[[], object]], rounds: int, shortest: float = 0.0, threads: int = 1
) -> dict[str, list[float]]:
    """Seconds of every side in every round; there and back again, so that a drift of the speed favours no side.

    Args:
        sides: Name -> its call, called once beforehand.
        rounds: How often every side has its turn.
        shortest: Seconds that a turn takes at least.
        threads: Of torch.
    """
    for call in sides.values():
        call()
    return alternate({name: partial(seconds_of, call, shortest, threads) for name, call in sides.items()}, rounds)


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What every side gives in every round; there and back again."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(sides[name]())
    return found


def median_ratio(theirs: list[float], ours: list[float]) -> float:
    """The median of the rounds' ratios theirs / ours."""
    return statistics.median(other / mine for other, mine in zip(theirs, ours, strict=True))


def comparison(
    work: str, ours: float, unit: str, other_side: str, other: float, ratio: float, target: str = "", note: str = ""
) -> dict[str, Any]:
    """A line of ``benchmark.csv``; ``ratio`` is what ``target``, such as ">= 80", is about."""
    reached = ""
    if target:
        relation, bound = target.split()
        reached = "yes" if (ratio >= float(bound) if relation == ">=" else ratio <= float(bound)) else "no"
    line = {"work": work, "ours": ours, "other_side": other_side, "other": other, "unit": unit, "ratio": ratio}
    return line | {"target": target, "reached": reached, "note": note}


def memory_growth_mib(call: Callable[[], object]) -> float:
    """Growth of the peak resident memory that one run of ``call`` causes, in MiB."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc: else freed memory is used again, unseen
    if trim is not None:
        trim(0)
    with contextlib.suppress(OSError):  # not Linux, or not permitted: growth is then counted from the highest point
        CLEAR.write_text("5")  # sets VmHWM back to the present resident memory
    before = peak_memory_mib()
    call()
    return max(peak_memory_mib() - before, 0.0)
