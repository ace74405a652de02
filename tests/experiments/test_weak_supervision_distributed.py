"""Two processes that divide every batch train as one does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.weak_supervision.shard import Shard
from tests.experiments.helpers import CHECKOUT, environment
from tests.experiments.weak_supervision_fits import fit, make_training, record

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("hgvae", "label_vae")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes over gloo, both methods; the folder of what each has recorded."""
    folder, port = tmp_path_factory.mktemp("processes"), str(free_port())
    command = [sys.executable, "-m", "tests.experiments.weak_supervision_fits", "2", str(folder), *METHODS]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0"}
    started = [
        subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment() | place | {"LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode == 0 for process in started), "\n".join(outputs)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_the_losses_of_one(method: str, processes: Path) -> None:
    whole = make_training(method)
    fit(whole)
    expected = record(whole)
    assert len(expected["steps"]) == 20
    first, second = (json.loads((processes / f"{method}_{rank}.json").read_text()) for rank in range(2))
    assert first == second, "every process has all of the numbers and the same weights"
    np.testing.assert_allclose(first["steps"], expected["steps"], rtol=1e-4, atol=1e-6)
    for ours, one in zip(first["history"], expected["history"], strict=True):
        np.testing.assert_allclose(list(ours.values()), list(one.values()), rtol=1e-4, atol=1e-6)
    for name, value in expected["weights"].items():
        assert first["weights"][name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    bounds = np.array(expected["steps"])[:, whole.term_names.index("bound")]
    assert np.ptp(bounds) > 100 * 1e-4 * abs(bounds.mean()), "the steps differ by far more than the tolerance"


def test_a_batch_that_can_not_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    training = make_training("label_vae", batch_size=5)
    monkeypatch.setattr(type(training), "trainer", type("Two", (), {"world_size": 2}))
    with pytest.raises(Exception, match="training.batch_size 5 pairs can't be divided among 2 processes"):
        training.on_fit_start()


def test_the_parts_of_a_batch_make_the_whole() -> None:
    batch = torch.arange(24).reshape(6, 4)
    for dim, size in ((0, 6), (1, 4)):
        for world in (1, 2):
            parts = [Shard(rank, world).part(batch, dim) for rank in range(world)]
            assert all(part.shape[dim] == size // world for part in parts)
            assert torch.equal(torch.cat(parts, dim), batch)
