"""A row of Figure 11, on a small model whose run is put into the store by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from experiments.common.configuration import build_experiment, resolve
from experiments.common.context import RunContext
from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import derive_seed
from experiments.common.store import RunDirectory
from experiments.common.tracking import Tracker
from experiments.disentanglement import experiment
from experiments.disentanglement.experiment import DisentanglementScores, encode_all
from experiments.disentanglement.representations import GridRepresentations
from experiments.disentanglement.scores import disentanglement_scores
from experiments.weak_supervision.classification import downstream_accuracy
from experiments.weak_supervision.experiment import WeakSupervision
from experiments.weak_supervision.group_vae import GroupVAE
from experiments.weak_supervision.images import FactorImages
from tests.experiments.helpers import compose

ROW, RUN = "weak_supervision/hgvae_s3", "0123456789ab"
SMALL = ("profile=smoke", "experiment.data.levels=4", "experiment.model.num_latents=4")
TRAINED: dict[str, Any] = resolve(compose(ROW, *SMALL))["experiment"]


@pytest.fixture(scope="module")
def images() -> FactorImages:
    trained = build_experiment(TRAINED)
    assert isinstance(trained, WeakSupervision)
    return trained.data.load_images(Path("nowhere"))


def make_model() -> GroupVAE:
    trained = build_experiment(TRAINED)
    assert isinstance(trained, WeakSupervision)
    torch.manual_seed(3)
    return trained.model()


def encode_one_by_one(model: GroupVAE, images: FactorImages, indices: list[int]) -> Tensor:
    model.eval()
    with torch.no_grad():
        pictures = [images.gather(torch.tensor([index]))[0].permute(2, 0, 1) / 255 for index in indices]
        return torch.cat([model.encode(picture[None])[0] for picture in pictures])


def finish_trained_run(results: Path) -> GroupVAE:
    model = make_model()
    run = RunDirectory(results, ROW, RUN)
    with run.claim():
        torch.save(model.state_dict(), run.new_model)
        config = OmegaConf.to_yaml(OmegaConf.create({"experiment": TRAINED}))
        run.finish({"metrics": pd.DataFrame({"method": ["hgvae"]})}, {}, config)
    return model


def make_context(results: Path, seed: int = 0) -> RunContext:
    run = RunDirectory(results, "disentanglement/hgvae_s3", "ba9876543210")
    return RunContext(seed, run, Tracker(None), {"accelerator": "cpu"}, data_directory=results / "data")


def make_row(**settings: Any) -> DisentanglementScores:
    defaults = {"row": ROW, "trained_run": RUN, "profile": "quick", "data": {"source": "mpi3d_sim"}}
    return DisentanglementScores(**(defaults | {"num_samples": 600, "dci_samples": 40} | settings))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[GridRepresentations, dict[str, int]]]:
    """Stands in for disentanglement_lib, and keeps what it was given."""
    calls: list[tuple[GridRepresentations, dict[str, int]]] = []

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


def test_a_row_scores_the_trained_model(
    tmp_path: Path, scored: list[tuple[GridRepresentations, dict[str, int]]], images: FactorImages
) -> None:
    model = finish_trained_run(tmp_path)
    metrics = make_row().run(make_context(tmp_path, seed=5))["metrics"]
    ((data, settings),) = scored
    assert settings == {"seed": derive_seed(5, 0), "num_samples": 600, "dci_samples": 40}
    indices = [3, 1000, 4000]
    represented = torch.from_numpy(data.represent(torch.tensor(indices).numpy())).float()
    assert torch.allclose(represented, encode_one_by_one(model, images, indices), atol=1e-5)
    columns = ["method", "shared", "data", "trained_run", "score", "value", "samples"]
    assert metrics.columns.tolist() == columns
    assert metrics[columns[:4]].drop_duplicates().to_numpy().tolist() == [["hgvae", 3, "mpi3d_sim", RUN]]
    assert metrics["score"].tolist() == ["mig", "downstream"]
    assert metrics["samples"].tolist() == [600, 600]
    assert metrics["value"].between(-0.2, 1).all()


def test_the_downstream_classifier_is_scored_on_images_that_training_has_not_seen(
    tmp_path: Path,
    scored: list[tuple[GridRepresentations, dict[str, int]]],
    images: FactorImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = finish_trained_run(tmp_path)
    calls: list[tuple[Tensor, ...]] = []

    def record(*parts: Tensor) -> float:
        calls.append(parts)
        return downstream_accuracy(*parts)

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


def test_what_is_said_when_the_model_is_not_there(
    tmp_path: Path, scored: list[tuple[GridRepresentations, dict[str, int]]]
) -> None:
    command = f"python -m experiments.run experiment={ROW} profile=quick seed=2"
    with pytest.raises(ExperimentError, match=f"has no finished run .*first run: {command}$"):
        make_row().run(make_context(tmp_path, seed=2))
    assert not scored


def test_a_run_on_other_data_is_refused(
    tmp_path: Path, scored: list[tuple[GridRepresentations, dict[str, int]]]
) -> None:
    finish_trained_run(tmp_path)
    with pytest.raises(ExperimentError, match="was trained on mpi3d_sim, not on data.source mpi3d_toy"):
        make_row(data={"source": "mpi3d_toy"}).run(make_context(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 10}, "num_samples must be an integer of at least 20, got 10"),
        ({"dci_samples": 0}, "dci_samples must be an integer of at least 20, got 0"),
        ({"data": {}}, "data must hold source alone, got nothing"),
        ({"data": {"source": "mpi3d_sim", "levels": "4"}}, "data must hold source alone, got source, levels"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_row(**settings)


@pytest.mark.skipif(
    importlib.util.find_spec("disentanglement_lib") is not None, reason="disentanglement_lib is installed"
)
def test_without_the_extra_nothing_is_encoded(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"pip install -e '\.\[disentanglement\]'"):
        make_row().run(make_context(tmp_path))


@pytest.mark.skipif(
    importlib.util.find_spec("disentanglement_lib") is None,
    reason="disentanglement_lib is not installed: pip install -e '.[disentanglement]'",
)
def test_a_row_gives_the_librarys_scores_of_the_model(tmp_path: Path, images: FactorImages) -> None:
    model = finish_trained_run(tmp_path)
    metrics = make_row(num_samples=100).run(make_context(tmp_path))["metrics"]
    data = GridRepresentations(images.grid, encode_all(model, images, torch.device("cpu")))
    expected = disentanglement_scores(data, seed=derive_seed(0, 0), num_samples=100, dci_samples=40)
    found = metrics[metrics["score"] != "downstream"]
    pd.testing.assert_frame_equal(found[expected.columns].reset_index(drop=True), expected)
    assert len(metrics) == 9
