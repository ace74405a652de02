"""A training that is interrupted gives the numbers of an uninterrupted one; what other code left is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.clustering.pretraining.autoencoder import AutoencoderTraining
from experiments.clustering.training import VaDETraining
from experiments.settings import ExperimentError
from experiments.training import ChunkedTraining
from experiments.urn.training import UrnModel
from experiments.weak_supervision.training import PairTraining
from tests.experiments.helpers import KS, csv_bytes, launch, started, wait_for

MERGED, EXACT = "urn estimator=merged", "urn estimator=exact"
SAMPLES = ("experiment.problem.num_samples=20", "experiment.max_epochs=3", "experiment.record_every=10")
SLOW_ENOUGH = ["experiment.draws=50000", "experiment.batch_size=1000", "experiment.max_settings=3"]
PAIRS = "weak_supervision method=posterior_hgvae shared=3"  # whose model is fitted at steps 5, 10, 15 and 20
DIGITS = "clustering prior=hypergeometric version=60"
EPOCHS = ("experiment.training.max_epochs=4", "experiment.pretraining.finetune_epochs=4")
FAST = ("recipe=vade", "experiment.training.batch_size=128", *EPOCHS)  # without UMAP, which compiles for half a minute


@pytest.mark.parametrize(
    ("row", "settings", "kind", "stopped", "checkpoint"),  # steps, the first within an epoch
    [
        (MERGED, (*SAMPLES, "experiment.group_order=random"), UrnModel, 41, 32),
        (EXACT, SAMPLES, UrnModel, 41, 32),
        (PAIRS, (), PairTraining, 13, 10),
        (DIGITS, FAST, VaDETraining, 5, 4),
        (DIGITS, FAST, AutoencoderTraining, 13, 12),
    ],
)
def test_an_interrupted_training_gives_the_numbers_of_an_uninterrupted_one(
    row: str,
    settings: tuple[str, ...],
    kind: type[ChunkedTraining],
    stopped: int,
    checkpoint: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = launch(row, tmp_path / "whole", *settings)
    step_loss, steps = kind.step_loss, list[int]()

    def killed_once(self: ChunkedTraining, *arguments: Any) -> Any:
        steps.append(self.steps_taken)
        if len(steps) == stopped + 1:
            raise RuntimeError("killed")
        return step_loss(self, *arguments)

    monkeypatch.setattr(kind, "step_loss", killed_once)
    with pytest.raises(RuntimeError, match="killed"):
        launch(row, tmp_path / "resumed", *settings)
    assert list((tmp_path / "resumed").rglob("last.ckpt"))
    resumed = launch(row, tmp_path / "resumed", *settings)
    assert steps == [*range(stopped + 1), *range(checkpoint, steps[-1] + 1)]
    assert csv_bytes(resumed) == csv_bytes(whole)
    assert not list((tmp_path / "resumed").rglob("*.ckpt")), "a finished run leaves no checkpoint behind"


@pytest.mark.parametrize("part", ["state_dict", "optimizer_states"])
def test_a_checkpoint_of_other_code_is_refused(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = UrnModel.on_train_epoch_start

    def killed(self: UrnModel) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("killed")
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(UrnModel, "on_train_epoch_start", killed)
        with pytest.raises(RuntimeError, match="killed"):
            launch(MERGED, tmp_path, *SAMPLES)
    (path,) = tmp_path.rglob("last.ckpt")
    state = torch.load(path, weights_only=True)
    if part == "state_dict":
        state[part] = {f"former_{name}": value for name, value in state[part].items()}
    else:
        state[part][0]["param_groups"] *= 2
    torch.save(state, path)
    with pytest.raises(ExperimentError, match=r"last\.ckpt was made by other code .* start over with force=true"):
        launch(MERGED, tmp_path, *SAMPLES)
    launch(MERGED, tmp_path, *SAMPLES, "force=true")


def test_a_result_names_the_code_of_all_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    one, other = 40 * "a", 40 * "b"
    for commit, dirty in ((one, True), (one, True), (other, False)):
        code = {"commit": commit, "dirty": dirty}
        monkeypatch.setattr("experiments.environment.code_facts", lambda code=code: code)
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            patch.setattr("experiments.kolmogorov_smirnov.experiment.exact_marginals", killed)
            launch(KS, tmp_path)
    facts = launch(KS, tmp_path).environment()
    assert (facts["commit"], facts["dirty"]) == (f"{one} {other}", True)
    assert caplog.text.count("begun at commit aaaaaaaaaa, and goes on at bbbbbbbbbb: the result names both") == 1
    facts = launch(KS, tmp_path, "force=true").environment()
    assert (facts["commit"], facts["dirty"]) == (other, False)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_continues_and_gives_the_numbers_of_an_uninterrupted_one(
    how: signal.Signals, tmp_path: Path, alone: Path
) -> None:
    row = "kolmogorov_smirnov sampler=straight_through"
    overrides = [*SLOW_ENOUGH, "experiment.references=[exact]"]
    arguments = [*f"experiment={row}".split(), "profile=smoke", "logger=disabled", f"results={tmp_path}", *overrides]
    with started(*arguments) as process:
        wait_for(lambda: list(tmp_path.glob("runs/*/*/*/checkpoints/last.ckpt")))
        process.send_signal(how)
        said = "".join(process.communicate(timeout=60))
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    assert ("the same command continues from the last checkpoint" in said) == (how != signal.SIGKILL)
    assert "Traceback" not in said
    [folder] = (tmp_path / "runs").glob("kolmogorov_smirnov/*/*")
    assert not (folder / "finished.json").exists()
    assert not list(folder.glob("*.csv"))

    run = launch(row, tmp_path, *overrides)
    assert run.path == folder
    assert json.loads((folder / "environment.json").read_text())["resumed"] is True
    assert csv_bytes(run) == csv_bytes(launch(row, alone, *overrides))
