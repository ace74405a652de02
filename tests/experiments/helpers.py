"""Launches rows as the entry point does, within the test's process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from experiments.common.configuration import CONFIGS
from experiments.common.execution import execute
from experiments.common.store import RunDirectory

CHECKOUT = CONFIGS.parent
KS = "kolmogorov_smirnov/weights_exact_sample"


def compose(row: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("config", [f"experiment={row}", *overrides])


def launch(row: str, results: Path, *overrides: str) -> RunDirectory:
    """Runs a row at the smoke profile without W&B, unless told otherwise."""
    arguments = ["profile=smoke", "logger=disabled", f"results={results}", *overrides]
    return execute(compose(row, *arguments), row, arguments)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def csv_bytes(run: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.path.glob("*.csv"))}
