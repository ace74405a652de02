"""Devices that are not there, too small, or not the one where a run was started: one line each, and no lost result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.settings import ExperimentError
from experiments.store import RunDirectory
from tests.experiments.helpers import KS, launch

pytestmark = pytest.mark.usefixtures("one_thread")
ROOMS = {
    KS: (),
    "urn estimator=exact": (),
    "clustering prior=uniform version=60": ("recipe=vade",),
    "weak_supervision method=label_vae shared=3": (
        "experiment.evaluation_train_pairs=40",
        "experiment.evaluation_test_pairs=30",
        "experiment.profile_pairs=20",
        "experiment.training.batch_size=2",
    ),
}


def told_another_device(value: Any) -> Any:
    """A checkpoint's content, made on a GPU as far as it says."""
    if isinstance(value, dict):
        return {key: "cuda" if key == "device" else told_another_device(inner) for key, inner in value.items()}
    return value


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_goes_on_from_the_checkpoint_of_another_device(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "finish", fail)
        with pytest.raises(RuntimeError, match="killed"):
            launch(room, tmp_path, *ROOMS[room])
    [path] = tmp_path.rglob("last.ckpt")
    torch.save(told_another_device(torch.load(path, weights_only=True)), path)
    before = path.read_bytes()
    with pytest.raises(ExperimentError, match=r"was started on cuda, whose random numbers.*go on there.*force=true"):
        launch(room, tmp_path, *ROOMS[room])
    assert path.read_bytes() == before
    assert launch(room, tmp_path, *ROOMS[room], "force=true").finished() is not None


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ExperimentError, match="^trainer=gpu: torch finds no GPU here, .* trainer=cpu needs none$"):
        launch(KS, tmp_path, "trainer=gpu")
