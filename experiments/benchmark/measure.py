"""Wall-clock time and peak memory of a call, measured inside the process that makes it. Standard library only."""

import contextlib
import ctypes
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

STATUS_FILE = Path("/proc/self/status")
CLEAR_REFS_FILE = Path("/proc/self/clear_refs")


def _status_kib(key: str) -> int:
    for line in STATUS_FILE.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"{STATUS_FILE} has no line {key}.")


def peak_memory_mib() -> float:
    """Highest resident memory of this process so far, in MiB.

    Linux's VmHWM belongs to this program alone, whereas ru_maxrss starts from the memory of the process that forked
    it; ru_maxrss is the fallback elsewhere.
    """
    if STATUS_FILE.exists():
        return _status_kib("VmHWM") / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _return_freed_memory() -> None:
    """Gives back what the allocator keeps of freed memory: a call that reused it would seem to need none."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)


def memory_growth_mib(call: Callable[[], object]) -> float:
    """Growth of the peak resident memory, in MiB, that one run of ``call`` causes."""
    _return_freed_memory()
    with contextlib.suppress(OSError):  # not Linux, or not permitted: growth is then counted from the highest point
        CLEAR_REFS_FILE.write_text("5")  # sets VmHWM back to the present resident memory
    before = peak_memory_mib()
    call()
    return max(peak_memory_mib() - before, 0.0)


def time_calls(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` runs of ``call``."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def time_briefly(call: Callable[[], object], repeats: int, shortest: float = 0.02) -> float:
    """Median seconds of one ``call``; short calls are looped until one measurement takes ``shortest`` seconds."""
    call()
    start = time.perf_counter()
    call()
    loops = max(1, round(shortest / max(time.perf_counter() - start, 1e-9)))

    def looped() -> None:
        for _ in range(loops):
            call()

    return statistics.median(time_calls(looped, repeats)) / loops
