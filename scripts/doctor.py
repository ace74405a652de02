"""Says what is installed and found here, and what is missing, with what it is for and the command that adds it.

Status 0 unless no experiment can run. Nothing is imported that a bare Python lacks, torch neither; no key is printed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("library", "experiments", "renderer", "dev", "disentanglement", "ray")
MNIST = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
NONE = "none"
FETCHED = "fetched when asked for ({}), or see data/README.md"
# What is looked for, as below -> what needs it, what adds it; what stops most comes first.
NEEDS = {
    "extra library": ("everything: import mvhg", "make install"),
    "extra experiments": ("every experiment, table and figure", "make install"),
    "1 GiB of disk": ("make reproduce", "free space, or set MVHG_RESULTS_DIR"),
    "extra dev": ("make test, lint, typecheck", "make install"),
    "extra renderer": ("rendering images: scripts.prepare_mpi3d", "make install"),
    "extra disentanglement": ("make reproduce-fig11", "make install-disentanglement"),
    "extra ray": ("launcher=ray", "make install-ray"),
    "data mnist": ("DATA=mnist, PROFILE=medium", FETCHED.format("11.6 MB")),
    "data mpi3d_toy": ("PROFILE=paper", FETCHED.format("12.7 GB")),
    "30 GiB of disk": ("PROFILE=paper", "free space, or set MVHG_DATA_DIR"),
    "NVIDIA GPU": ("trainer=gpu", "another machine, and make install TORCH=... of its CUDA"),
    "W&B key": ("make wandb-sync, logger=online", "wandb login"),
    "R package BiasedUrn": ("make benchmark beside it", "R, then install.packages('BiasedUrn')"),
}
Row = Sequence[str]


def packages(pyproject: str, constraints: str) -> list[Row]:
    """Returns name, installed version, pinned version and extra of every requirement, from the text of the files."""
    # Read by hand: Python 3.10 has no TOML reader, and nothing else need be installed.
    pins = {name.lower(): pin for name, pin in re.findall(r"^([\w.-]+)==([^;\s]+)", constraints, re.MULTILINE)}
    found: dict[str, Row] = {}
    for extra in EXTRAS:
        key = "dependencies" if extra == "library" else extra
        for text in re.findall(rf"^{key} = \[(.*?)\]$", pyproject, re.MULTILINE | re.DOTALL):
            for name in re.findall(r'"([A-Za-z][\w.-]*)', re.sub(r"#.*", "", text)):
                found.setdefault(name, (name, _installed(name), pins.get(name.lower(), "-"), extra))
    return list(found.values())


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def output(*command: str) -> str:
    """Returns what a program prints; "none" if it isn't there, fails or says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return NONE
    return done.stdout.strip().replace("\n", "; ") or NONE


def find_data(folder: Path) -> dict[str, str]:
    """Returns where data sets lie: by the names of their files, whose content is checked when they are read."""
    places = {"mnist": NONE}
    for place in (folder, folder / "MNIST" / "raw", folder / "mnist"):
        if all((place / name).is_file() or (place / f"{name}.gz").is_file() for name in MNIST):
            places["mnist"] = str(place)
    for name in ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real"):
        files = [
            place / f"{name}{end}" for place in (folder, folder / "mpi3d", folder / name) for end in ("_64.npy", ".npz")
        ]
        places[name] = next((str(path) for path in files if path.is_file()), NONE)
    return {f"data {name}": place for name, place in places.items()}


def survey(installed: Sequence[Row], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns what is found here, in words, and "none" for what isn't."""
    data, results = (  # a user that there is not stays as typed
        Path(os.path.expanduser(environ.get(variable) or ROOT / folder))
        for variable, folder in (("MVHG_DATA_DIR", "data"), ("MVHG_RESULTS_DIR", "results"))
    )
    lacking = {extra for _, there, _, extra in installed if there == "missing"}
    free = shutil.disk_usage(results if results.is_dir() else ROOT).free / 2**30
    key, waiting = NONE, NONE
    if "experiments" not in lacking:
        from experiments.settings import ExperimentError
        from experiments.tracking import logged_in, runs_to_sync

        try:
            key = "a key is there" if logged_in() else NONE
        except ExperimentError as error:
            key = str(error)
        waiting = str(len(runs_to_sync(results)))
    return {
        "Python": platform.python_version() + ("" if (3, 10) <= sys.version_info[:2] <= (3, 13) else " (not tested)"),
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "NVIDIA GPU": output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"),
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"),
        **{f"program {name}": shutil.which(name) or NONE for name in ("make", "git", "conda", "chromium")},
        "R package BiasedUrn": output("Rscript", "-e", "cat(as.character(packageVersion('BiasedUrn')))"),
        "W&B key": key,
        "W&B runs to sync": waiting,
        "data folder": str(data),
        **find_data(data),
        **{f"{size} GiB of disk": f"{free:.0f} GiB free" if free >= size else NONE for size in (1, 30)},
        **{f"extra {extra}": NONE if extra in lacking else "complete" for extra in EXTRAS},
    }


def show(title: str, rows: Sequence[Row]) -> None:
    """Prints a table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(title)
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args(arguments)
    installed = packages((ROOT / "pyproject.toml").read_text(), (ROOT / "constraints.txt").read_text())
    found = survey(installed)
    show("Installed", [("package", "version", "pinned", "asked for by"), *installed])
    show("Found", [("what", "here"), *found.items()])
    missing = [(what, *words) for what, words in NEEDS.items() if found[what] == NONE]
    show("Missing", [("what", "needed for", "what adds it"), *missing])
    if NONE in (found["extra library"], found["extra experiments"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
