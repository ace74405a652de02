"""Steps through a CUDA graph: on a CPU, where a call of the captured function stands for the graph's replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments import captured_steps
from experiments.context import RunContext
from experiments.store import RunDirectory
from experiments.tracking import Tracker
from experiments.training import ChunkedTraining, adam
from experiments.weak_supervision.training import PairTraining
from tests.experiments.weak_supervision_fits import RecordedTraining, fit, make_training

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES: dict[str, Any] = {"steps": 12, "epoch_steps": 6, "chunk_steps": 3}


class Captured(RecordedTraining):
    """Takes its steps through what stands for a graph."""

    def on_train_start(self) -> None:
        self.capture_steps()


def trained(method: str, kind: type[RecordedTraining] = RecordedTraining) -> RecordedTraining:
    training = make_training(method, **SIZES)
    training.__class__ = kind
    fit(training)
    return training


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands for CUDA: the function is called at every replay, and may ask nothing of the host's that changes."""
    done: list[int] = []

    def capture(step: Callable[[], Tensor], generator: torch.Generator) -> Callable[[], Tensor]:
        def replay() -> Tensor:
            done.append(1)
            with monkeypatch.context() as patch:
                for name in ("steps_taken", "current_epoch"):
                    patch.setattr(ChunkedTraining, name, property(_refused), raising=False)
                patch.setattr(PairTraining, "next_temperature", _refused)
                return step()

        return replay

    monkeypatch.setattr(captured_steps, "capture", capture)
    return done


def _refused(self: ChunkedTraining) -> float:
    raise AssertionError("a graph would keep the number of its first step")


@pytest.mark.parametrize("method", ["hgvae", "label_vae", "ada_vae"])
def test_steps_on_fixed_buffers_are_the_steps_of_the_loop(method: str, replays: list[int]) -> None:
    captured, launched = trained(method, Captured), trained(method)
    assert len(replays) == 12 - captured_steps.WARM_UP  # one of them beside a launched one
    assert captured.recorded == launched.recorded
    for one, other in zip(captured.parameters(), launched.parameters(), strict=True):
        assert torch.equal(one, other)
    assert captured.trainer.global_step == launched.trainer.global_step == 12


def test_a_step_that_can_not_be_captured_is_launched_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def capture(step: Any, generator: torch.Generator) -> Any:
        raise RuntimeError("operation not permitted\nand more")

    monkeypatch.setattr(captured_steps, "capture", capture)
    assert trained("ada_vae", Captured).recorded == trained("ada_vae").recorded
    said = [record.getMessage() for record in caplog.records if "kernel by kernel" in record.getMessage()]
    assert said == ["  steps are launched kernel by kernel: CUDA can't capture one (operation not permitted)"]


@pytest.mark.parametrize("fault", ["terms", "update"])
def test_a_graph_that_does_something_else_is_not_used(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def capture(step: Callable[[], Tensor], generator: torch.Generator) -> Callable[[], Tensor]:
        return (lambda: step() * 1.01) if fault == "terms" else (lambda: torch.zeros(6))  # which moves no parameter

    monkeypatch.setattr(captured_steps, "capture", capture)
    if fault == "update":
        monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    assert trained("ada_vae", Captured).recorded == trained("ada_vae").recorded
    assert "a captured one came to another result" in caplog.text


def test_on_a_gpu_every_group_of_parameters_has_a_learning_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros, parameters = torch.zeros, [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "learning_rate_factor": 50.0}]
    optimizer = adam(groups, torch.device("cuda"))
    monkeypatch.undo()
    training = make_training("label_vae", **SIZES)
    training._launch = lambda *_: zeros(1)  # type: ignore[method-assign]
    training._take_step(optimizer, 0.25, ())  # type: ignore[arg-type]
    assert [(group["capturable"], group["lr"].item()) for group in optimizer.param_groups] == [
        (True, 0.25),
        (True, 12.5),
    ]


def test_steps_of_another_shape_are_launched(replays: list[int]) -> None:
    taken: list[int] = []
    weight = torch.zeros(1)

    def take(values: Tensor) -> Tensor:
        taken.append(len(values))
        weight.add_(values.sum())
        return values.sum().unsqueeze(0)

    steps = captured_steps.CapturedSteps(take, lambda: [weight], torch.Generator())
    results = [steps((torch.ones(size),)).item() for size in (2, 2, 2, 2, 2, 3, 2)]
    assert results == [2, 2, 2, 2, 2, 3, 2]
    assert weight.item() == 15
    assert len(replays) == 3  # one beside a launched step, then the fifth and the seventh


@pytest.mark.parametrize(
    ("graph", "capturable", "device", "captured"),
    [
        (True, True, "cuda", True),
        (False, True, "cuda", False),
        (True, False, "cuda", False),
        (True, True, "cpu", False),
    ],
)
def test_steps_are_captured_on_a_gpu_where_they_can_be_and_the_trainer_says_so(
    graph: bool, capturable: bool, device: str, captured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = RunDirectory(tmp_path, "a", "b"), []
    run.checkpoints.mkdir(parents=True)
    context = RunContext(0, run, Tracker(None), {"accelerator": "cpu", "devices": 1, "graph": graph})
    training, start = make_training("label_vae", **SIZES), ChunkedTraining.on_train_start

    def pretend(self: ChunkedTraining) -> None:
        place = SimpleNamespace(graph=self.graph, capturable=capturable, device=torch.device(device))
        place.capture_steps = lambda: asked.append(True)
        start(place)  # type: ignore[arg-type]

    monkeypatch.setattr(ChunkedTraining, "on_train_start", pretend)
    context.fit(training, training.loader(), max_epochs=1, enable_progress_bar=False)
    assert bool(asked) == captured
