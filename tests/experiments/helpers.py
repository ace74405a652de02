"""Launches runs as the entry point does, within the test's process or in one of their own.

A row is given by its label, for example ``weak_supervision method=hgvae shared=3``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from omegaconf import DictConfig

from experiments import configuration
from experiments.axes import Cell, cell_of
from experiments.run import execute
from experiments.store import RunDirectory, find_runs

CHECKOUT = configuration.CONFIGS.parent
KS = "kolmogorov_smirnov series=weights conditionals=exact sampler=sample"


def arguments_of(row: str) -> list[str]:
    """The part of the command line that asks for a row."""
    return f"experiment={row}".split()


def compose(row: str, *overrides: str) -> DictConfig:
    return configuration.compose(*arguments_of(row), *overrides)


def cell(row: str, *overrides: str) -> Cell:
    return cell_of(compose(row, *overrides), row.split()[0], [*arguments_of(row), *overrides])


def launch(row: str, results: Path, *overrides: str) -> RunDirectory:
    """Runs a row at the smoke profile without W&B, unless told otherwise."""
    overrides = ("profile=smoke", "logger=disabled", f"results={results}", *overrides)
    return execute(cell(row, *overrides))


def add_config(patch: pytest.MonkeyPatch, folder: Path, name: str, text: str) -> None:
    """Takes the configurations from a copy in a folder, which has a file more: what adding something touches."""
    configs = shutil.copytree(configuration.CONFIGS, folder / "configs")
    (configs / name).write_text(text)
    patch.setattr(configuration, "CONFIGS", configs)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def started(*arguments: str, path: str = "") -> Iterator[subprocess.Popen[str]]:
    """A command at work, in a process group of its own, which is killed in the end; ``path`` comes before PATH."""
    process = subprocess.Popen(
        command(*arguments), cwd=CHECKOUT, env=environment() | {"PATH": path + os.environ["PATH"]}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # Tests in the background of a shell would hand on that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def csv_bytes(run: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.path.glob("*.csv"))}


def finished_runs(results: Path) -> list[RunDirectory]:
    """Every finished run, by name, after checking its files against its marker."""
    return [run for _, run in find_runs(results) if run.finished() is not None]
