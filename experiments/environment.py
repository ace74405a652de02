"""The facts of the machine that made a number."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.store import file_digest

ROOT = Path(__file__).resolve().parents[1]
FIRST_VERSION = "0.1.0"  # runs of before the version was recorded
PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "numpy", "scipy", "pandas", "scikit-learn")
_SOURCES = ("experiments", "scripts", "mvhg", "results/paper.yaml", "results/benchmark")  # of what is drawn
_DRAWING = ("matplotlib", "pandas", "numpy", "scipy")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


# Variables of a surrounding job (Slurm's, MPI's, LSF's, torchrun's) by which Lightning would take this process for one
# of a group, though a run is one process, and Lightning's own (PL_TRAINER_...), which would change its numbers.
_GROUP = re.compile(
    r"(SLURM|SLURMD|PMI|PMIX|OMPI|MV2|JSM|LSB|TORCHELASTIC|GROUP|ROLE)_.*|(LOCAL_|NODE_)?RANK|"
    r"(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)|XRT_.*|PL_.*"
)


def leave_process_group() -> None:
    """Forgets the variables of a surrounding job; to be called before Lightning is imported."""
    for name in [name for name in os.environ if _GROUP.fullmatch(name)]:
        with suppress(KeyError):  # another thread is at it: a pop with a default looks first, and then deletes
            del os.environ[name]


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def commit() -> str:
    """Returns the checkout's commit, or "unknown" outside a git checkout."""
    return _git("rev-parse", "HEAD") or "unknown"


def project_version() -> str:
    """Returns ``mvhg.__version__``, read from the source: importing it takes torch, and seconds."""
    source = (ROOT / "mvhg" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert found, "mvhg/__init__.py has no line __version__"
    return found[1]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def code_facts() -> dict[str, Any]:
    """Returns commit and dirty flag of the checkout; to be asked before the work, which may outlive it."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit(), "dirty": None if status is None else bool(status)}


def environment_facts(accelerator: str, devices: int | str | list[int] = 1) -> dict[str, Any]:
    """Returns what a reader needs to judge a number: code, versions, device.

    Args:
        accelerator: The trainer's accelerator; the GPU is named only where it is used.
    """
    import torch

    return {
        **code_facts(),
        "version": project_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(_index(devices)) if _on_gpu(accelerator) else _processor(),
        "threads": torch.get_num_threads(),
    }


def peak_memory_mib() -> float:
    """Highest resident memory of this process so far; ru_maxrss, where Linux' VmHWM is not there."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def reset_peak_memory(accelerator: str, devices: int | str | list[int] = 1) -> None:
    """Begins what ``peak_memory`` says, since a process may serve several runs; where only Linux can, of the host."""
    import torch

    with suppress(OSError):
        CLEAR.write_text("5")
    if _on_gpu(accelerator):
        torch.cuda.reset_peak_memory_stats(_index(devices))


def peak_memory(accelerator: str, devices: int | str | list[int] = 1) -> dict[str, float]:
    """Returns the most memory that was taken since it was reset, in MiB, and of the GPU where it is used."""
    import torch

    facts = {"peak_memory_mib": round(peak_memory_mib(), 1)}
    if _on_gpu(accelerator):
        facts["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(_index(devices)) / 2**20, 1)
    return facts


def _index(devices: int | str | list[int]) -> int | None:
    """The GPU that a trainer's ``devices`` names; None: the present one."""
    return int(devices[0]) if isinstance(devices, list) else None


def _on_gpu(accelerator: str) -> bool:
    import torch

    return accelerator != "cpu" and torch.cuda.is_available()


def digest_of(paths: Iterable[Path], words: str = "") -> str:
    """Returns the hash of some folders, files and words, of the code and of the packages that draw.

    As long as it is the same, what is made from them need not be made again.
    """
    total = hashlib.sha256(words.encode())
    for package in _DRAWING:
        total.update(f"{package} {version(package)}\n".encode())
    for folder in [*paths, *(ROOT / source for source in _SOURCES)]:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()
