"""A row of Figure 11, on a small model whose run is put into the store by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.context import RunContext
from experiments.disentanglement import experiment, shims
from experiments.disentanglement.experiment import DisentanglementScores, encode_all
from experiments.disentanglement.scores import GridRepresentations
from experiments.settings import ExperimentError, build
from experiments.store import RunDirectory
from experiments.tracking import Tracker
from experiments.training import derive_seed
from experiments.weak_supervision.classification import downstream_accuracy
from experiments.weak_supervision.data.images import FactorImages
from experiments.weak_supervision.group_vae import GroupVAE
from tests.experiments.helpers import cell

AXES: dict[str, str | int] = {"method": "hgvae", "shared": 3}
FOLDER, RUN = "weak_supervision/method=hgvae,shared=3", "0123456789ab"
Calls = list[tuple[GridRepresentations, dict[str, int]]]
SMALL = ("profile=smoke", "experiment.data.levels=4", "experiment.model.num_latents=4")


def make_row(**settings: Any) -> DisentanglementScores:
    section = cell("disentanglement method=hgvae shared=3", *SMALL).plain["experiment"]
    made = build(section | {"trained_run": RUN, "num_samples": 600, "dci_samples": 40} | settings)
    assert isinstance(made, DisentanglementScores)
    return made


@pytest.fixture(scope="module")
def images() -> FactorImages:
    return make_row().data.load_images(Path("nowhere"))


def make_model() -> GroupVAE:
    torch.manual_seed(3)
    return make_row().model()


def encode_one_by_one(model: GroupVAE, images: FactorImages, indices: list[int]) -> Tensor:
    model.eval()
    with torch.no_grad():
        pictures = [images.gather(torch.tensor([index]))[0].permute(2, 0, 1) / 255 for index in indices]
        return torch.cat([model.encode(picture[None])[0] for picture in pictures])


def finish_trained_run(results: Path, weights: bool = True) -> GroupVAE:
    model = make_model()
    run = RunDirectory(results, FOLDER, RUN)
    with run.claim():
        if weights:
            torch.save(model.state_dict(), run.new_model)
        run.finish({"metrics": pd.DataFrame({"method": ["hgvae"]})}, {}, "experiment: {}\n")
    return model


def make_context(results: Path, seed: int = 0) -> RunContext:
    run = RunDirectory(results, "disentanglement/method=hgvae,shared=3", "ba9876543210")
    return RunContext(seed, run, Tracker(None), {"accelerator": "cpu"}, results / "data", AXES)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stands in for disentanglement_lib, and keeps what it was given."""
    calls: Calls = []

    def record(data: GridRepresentations, **settings: int) -> pd.DataFrame:
        calls.append((data, settings))
        return pd.DataFrame({"score": ["mig"], "value": [0.25], "samples": [settings["num_samples"]]})

    monkeypatch.setattr(experiment, "load_metrics", lambda: None)
    monkeypatch.setattr(experiment, "disentanglement_scores", record)
    return calls


def test_the_whole_grid_is_encoded_in_its_order(images: FactorImages) -> None:
    model = make_model()
    means = encode_all(model, images, torch.device("cpu"))
    assert means.shape == (4 * 4 * 2 * 3 * 3 * 8 * 8, 4)
    indices = [0, 1, 255, 256, 700, len(means) - 1]
    assert torch.allclose(means[indices], encode_one_by_one(model, images, indices), atol=1e-5)
    assert means.std(0).min() > 1e-3  # the images differ


def test_a_row_scores_the_trained_model(tmp_path: Path, scored: Calls, images: FactorImages) -> None:
    model = finish_trained_run(tmp_path)
    metrics = make_row().run(make_context(tmp_path, seed=5))["metrics"]
    ((data, settings),) = scored
    assert settings == {"seed": derive_seed(5, 0), "num_samples": 600, "dci_samples": 40}
    indices = [3, 1000, 4000]
    represented = torch.from_numpy(data.represent(torch.tensor(indices).numpy())).float()
    assert torch.allclose(represented, encode_one_by_one(model, images, indices), atol=1e-5)
    assert metrics.columns.tolist() == ["trained_run", "score", "value", "samples"]
    assert set(metrics["trained_run"]) == {RUN}
    assert metrics["score"].tolist() == ["mig", "downstream"]
    assert metrics["samples"].tolist() == [600, 600]
    assert metrics["value"].between(-0.2, 1).all()


def test_the_downstream_classifier_is_scored_on_images_that_training_has_not_seen(
    tmp_path: Path,
    scored: Calls,
    images: FactorImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = finish_trained_run(tmp_path)
    calls: list[tuple[Tensor, ...]] = []

    def record(names: tuple[str, ...], *parts: Tensor) -> float:
        calls.append(parts)
        return downstream_accuracy(names, *parts)

    monkeypatch.setattr(experiment, "downstream_accuracy", record)
    make_row(num_samples=100_000).run(make_context(tmp_path))  # more than there are: all
    ((train_means, train_factors, test_means, test_factors),) = calls
    train, test = (set(images.grid.index_of(factors).tolist()) for factors in (train_factors, test_factors))
    assert len(test) == round(0.2 * images.grid.num_images)
    assert train | test == set(range(images.grid.num_images))
    assert not train & test
    for means, factors in ((train_means, train_factors), (test_means, test_factors)):
        some = images.grid.index_of(factors[:3]).tolist()
        assert torch.allclose(means[:3], encode_one_by_one(model, images, some), atol=1e-5)


def test_what_is_said_when_the_model_is_not_there(tmp_path: Path, scored: Calls) -> None:
    command = "first run: python -m experiments.run experiment=weak_supervision method=hgvae shared=3 seed=2"
    with pytest.raises(ExperimentError, match=f"has no finished run .*{command}"):
        make_row().run(make_context(tmp_path, seed=2))
    finish_trained_run(tmp_path, weights=False)
    with pytest.raises(ExperimentError, match=r"holds no model.pt.*force=true"):
        make_row().run(make_context(tmp_path))
    (RunDirectory(tmp_path, FOLDER, RUN).path / "model.pt").write_bytes(b"half a file")
    with pytest.raises(ExperimentError, match=r"model.pt can't be read"):
        make_row().run(make_context(tmp_path))
    assert not scored


@pytest.mark.parametrize("setting", ["num_samples", "dci_samples"])
def test_too_few_samples_are_refused(setting: str) -> None:
    with pytest.raises(ExperimentError, match=f"experiment.{setting}: input should be greater than or equal to 20"):
        make_row(**{setting: 10})


def test_without_the_extra_nothing_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gin", None)  # an import of it fails
    shims.load_metrics.cache_clear()
    with pytest.raises(ExperimentError, match=r"pip install -e '\.\[disentanglement\]'"):
        make_row().run(make_context(tmp_path))  # the model's run, which is not there, would be missed first
