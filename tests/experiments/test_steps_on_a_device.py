"""Training steps as a GPU would see them: nothing is read back, and how many kernels a step takes before fusion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# A tenth above what was counted; the loss terms, gradients and finiteness are read once a chunk.
MOST_KERNELS = {
    "label_vae": 130, "ada_vae": 140, "hgvae": 400, "uniform": 180, "categorical": 200, "hypergeometric": 1600,
}  # fmt: skip


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.experiments.steps_on_a_device"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("model", MOST_KERNELS)
def test_a_step_reads_nothing_back_from_the_device(model: str, counted: dict[str, Any]) -> None:
    assert counted[model]["waits"] == {}
    assert 50 < counted[model]["kernels"] <= MOST_KERNELS[model]
