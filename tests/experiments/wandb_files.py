"""Reads what W&B has written offline, by its own tool."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def _run(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def inspect(file: Path, *options: str) -> str:
    return _run(file, *options).stdout


def complaint(file: Path) -> str:
    """What it says of a file that is not whole."""
    return _run(file).stderr


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in inspect(file).splitlines()]


def history(file: Path) -> list[dict[str, Any]]:
    return [record["history"] for record in records(file) if record["type"] == "history"]


def summary(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(inspect(file, "--summary"))
    return content


def the_file(results: Path, run_id: str = "*") -> Path:
    [file] = (results / "wandb").glob(f"offline-run-*-{run_id}/run-*.wandb")
    return file
