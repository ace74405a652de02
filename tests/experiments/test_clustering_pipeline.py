"""The clustering rows through the one entry point, at the smoke profile: cache, resumption, labels, bad input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.clustering import data as data_module
from experiments.clustering.autoencoder_training import AutoencoderTraining
from experiments.clustering.data import ClusteringData, index_chunks
from experiments.clustering.embedding_mixture import EmbeddingMixture
from experiments.clustering.manifold import Manifold
from experiments.clustering.mnist import Digits
from experiments.clustering.pretraining import Pretraining
from experiments.clustering.training import VaDETraining
from experiments.common.chunked import ChunkedTraining
from experiments.common.configuration import check_overrides
from experiments.common.errors import ExperimentError
from tests.experiments.helpers import csv_bytes, launch

# Clusters of the embedding itself: without the manifold, whose library compiles for half a minute.
FAST = ("experiment.pretraining.manifold=null",)
WIDTHS = [784, 500, 500, 2000, 10]


def test_the_priors_share_one_pretraining_and_all_of_the_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = Pretraining._start

    def counted(self: Pretraining, *arguments: Any) -> Any:
        made.append("made")
        return original(self, *arguments)

    monkeypatch.setattr(Pretraining, "_start", counted)
    runs = [launch(f"clustering/{prior}_60", tmp_path, *FAST) for prior in ("uniform", "categorical", "hypergeometric")]
    assert made == ["made"]
    starts = [run.table("metrics").query("stage == 'start'").drop(columns="prior") for run in runs]
    assert starts[0].equals(starts[1]) and starts[0].equals(starts[2])
    launch("clustering/uniform_60", tmp_path, *FAST, "seed=1")
    launch("clustering/uniform_80", tmp_path, *FAST)
    assert len(made) == 3


@pytest.mark.parametrize("stopped_in", ["training", "pretraining"])
def test_an_interrupted_run_gives_the_numbers_of_an_uninterrupted_one(
    stopped_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*FAST, "experiment.training.max_epochs=4", "experiment.pretraining.finetune_epochs=4")
    whole = launch("clustering/hypergeometric_60", tmp_path / "whole", *settings)
    target: Any = VaDETraining if stopped_in == "training" else AutoencoderTraining
    step = target.step_loss

    def interrupted(self: ChunkedTraining, *arguments: Any) -> Any:
        if self.steps_taken == (5 if stopped_in == "training" else 13):  # within the third or the seventh epoch
            raise RuntimeError("killed")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(target, "step_loss", interrupted)
        with pytest.raises(RuntimeError, match="killed"):
            launch("clustering/hypergeometric_60", tmp_path / "resumed", *settings)
    assert list((tmp_path / "resumed").rglob("last.ckpt"))
    steps = []

    def counted(self: ChunkedTraining, *arguments: Any) -> Any:
        steps.append(self.steps_taken)
        return step(self, *arguments)

    monkeypatch.setattr(target, "step_loss", counted)
    resumed = launch("clustering/hypergeometric_60", tmp_path / "resumed", *settings)
    assert steps[0] == (4 if stopped_in == "training" else 12)
    assert csv_bytes(resumed) == csv_bytes(whole)
    assert not list((tmp_path / "resumed").rglob("*.ckpt")), "a finished run leaves no checkpoint behind"


def test_no_label_is_used_before_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "clustering/hypergeometric_full"
    honest = launch(row, tmp_path / "honest", *FAST)
    load = data_module.load_digits

    def mislabelled(source: str, directory: Path) -> Digits:
        digits = load(source, directory)
        turn = {"train_labels": digits.train_labels.flip(0), "test_labels": digits.test_labels.flip(0)}
        return digits._replace(**turn)

    monkeypatch.setattr(data_module, "load_digits", mislabelled)
    blind = launch(row, tmp_path / "blind", *FAST)
    history = ["epoch", "elbo", "reconstruction", "latent", "assignment", "prior_term"]
    assert blind.table("history")[history].equals(honest.table("history")[history])
    weights = ["cluster", "learned_frequency", "log_weight", "train_fraction"]
    assert blind.table("weights")[weights].equals(honest.table("weights")[weights])
    assert blind.table("latent")[["cluster", "x", "y"]].equals(honest.table("latent")[["cluster", "x", "y"]])
    assert not blind.table("metrics")["nmi"].equals(honest.table("metrics")["nmi"])


def test_the_manifold_separates_clusters_that_a_mixture_in_the_embedding_does_not() -> None:
    """Two interleaved half circles: no mixture of two Gaussians finds them."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(600, generator=generator) * torch.pi
    upper = torch.stack([angle.cos(), angle.sin()], -1)
    moons = torch.where((torch.arange(600) < 300)[:, None], upper, torch.tensor([1.0, 0.4]) - upper)
    moons = moons + 0.03 * torch.randn(600, 2, generator=generator)
    order = torch.randperm(600, generator=generator)
    moons, truth = moons[order], (order >= 300).long()
    mixture = EmbeddingMixture(covariance="full", starts=3, max_digits=600)
    threads = torch.get_num_threads()
    places = Manifold(neighbours=10, dimensions=2).fit(moons, seed=0)
    assert torch.get_num_threads() == threads  # numba would set it for the process, and sums depend on it
    assert torch.equal(places, Manifold(neighbours=10, dimensions=2).fit(moons, seed=0))

    def agreement(values: Tensor) -> float:
        same = float((mixture.fit(values, 2, seed=0).assignments == truth).double().mean())
        return max(same, 1 - same)

    assert agreement(moons) < 0.95
    assert agreement(places) == 1.0


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = VaDETraining.step_loss

    def broken(self: VaDETraining, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        loss, terms = step(self, images, indices)
        if self.steps_taken == 3:
            terms = terms.clone()
            terms[self.term_names.index("latent")] = torch.nan
        return loss, terms

    monkeypatch.setattr(VaDETraining, "step_loss", broken)
    with pytest.raises(ExperimentError, match=r"step 4 \(epoch 2\): the term latent is not finite"):
        launch("clustering/uniform_60", tmp_path, *FAST)
    checkpoint = next((tmp_path / "runs").rglob("last.ckpt"))
    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 0
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_a_weight_that_is_not_finite_is_never_written_into_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = VaDETraining.step_loss

    def broken(self: VaDETraining, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        loss, terms = step(self, images, indices)
        # The last step of the first epoch: no later term of that epoch shows it.
        return loss * (torch.inf if self.steps_taken == self.steps_per_epoch - 1 else 1.0), terms

    monkeypatch.setattr(VaDETraining, "step_loss", broken)
    with pytest.raises(ExperimentError, match="the parameter vade.* is not finite"):
        launch("clustering/uniform_60", tmp_path, *FAST)
    assert not list((tmp_path / "runs").rglob("last.ckpt"))


def test_every_epoch_takes_every_digit_once_in_an_order_of_seed_and_epoch() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        loader = index_chunks(1000, 128, 3, seed)
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        chunks = list(loader)
        assert [len(chunk) for chunk in chunks] == [384, 384, 232]
        return torch.cat(chunks).tolist()

    first = order(0, seed=7)
    assert sorted(first) == list(range(1000))
    assert order(0, seed=7) == first
    assert order(1, seed=7) != first
    assert order(0, seed=8) != first


def write_keras_weights(path: Path, widths: Sequence[int]) -> None:
    generator = np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        names = [f"{half}{layer}" for half in ("encoder", "decoder") for layer in range(1, len(widths))]
        file.attrs["layer_names"] = [name.encode() for name in names]
        shapes = [*pairwise(widths), *pairwise(widths[::-1])]
        for name, (inputs, outputs) in zip(names, shapes):
            group = file.create_group(name)
            weights = [f"{name}_W", f"{name}_b"]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            group[weights[0]] = generator.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
            group[weights[1]] = np.zeros(outputs, np.float32)


def test_the_published_weights_take_the_place_of_the_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "vade" / "ae_mnist_weights.h5"
    write_keras_weights(path, WIDTHS)
    from experiments.clustering import pretraining

    monkeypatch.setattr(pretraining, "original_weights", lambda directory: path)
    settings = (*FAST, "experiment.pretraining.method=original", f"data_directory={tmp_path / 'data'}")
    run = launch("clustering/uniform_full", tmp_path / "results", *settings)
    assert set(run.table("metrics")["pretraining"]) == {"original"}
    cached = [torch.load(file, weights_only=True) for file in (tmp_path / "results" / "cache").rglob("*.pt")]
    weights = next(content["weights"] for content in cached if "weights" in content)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(weights["encoder.2.weight"].numpy().T, file["encoder3"]["encoder3_W"])
        np.testing.assert_array_equal(weights["decoder.0.weight"].numpy().T, file["decoder1"]["decoder1_W"])


def test_weights_from_a_file_take_the_place_of_the_autoencoder(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "weights.h5"
    write_keras_weights(path, WIDTHS)
    settings = (*FAST, "experiment.pretraining.method=file", f"experiment.pretraining.weights={path}")
    run = launch("clustering/uniform_full", tmp_path / "results", *settings)
    assert set(run.table("metrics")["pretraining"]) == {"file"}
    path.unlink()
    with pytest.raises(ExperimentError, match="weights.h5 is not there"):
        launch("clustering/uniform_full", tmp_path / "results", *settings, "seed=1")


@pytest.mark.skipif("MVHG_DATA_DIR" not in os.environ, reason="MVHG_DATA_DIR names no folder with MNIST")
def test_a_row_runs_on_mnist(tmp_path: Path) -> None:
    settings = (*FAST, "profile.clustering.data=mnist", f"data_directory={os.environ['MVHG_DATA_DIR']}")
    run = launch("clustering/uniform_60", tmp_path, *settings)
    assert set(run.table("metrics")["data"]) == {"mnist"}


def test_without_the_files_and_the_network_mnist_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVHG_MIRROR", "http://127.0.0.1:9")
    import experiments.clustering.mnist as mnist

    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",), raising=True)
    with pytest.raises(ExperimentError, match="digits_5000"):
        launch(
            "clustering/uniform_60", tmp_path, *FAST, "profile.clustering.data=mnist", f"data_directory={tmp_path}/none"
        )


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    launch("clustering/uniform_60", tmp_path, *FAST)
    for path in (tmp_path / "cache").rglob("*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ExperimentError, match=r"\.pt can't be read .*delete it"):
        launch("clustering/categorical_60", tmp_path, *FAST)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment.data.ratio=0", "data.ratio must be a finite number above 0 and at most 1, got 0"),
        ("experiment.data.ratio=1.2", "data.ratio must be a finite number above 0 and at most 1, got 1.2"),
        ("profile.clustering.data=fashion", "data.source must be one of mnist, digits_5000, got 'fashion'"),
        ("experiment.data.subsampled_classes=[1,1]", "subsampled_classes must be different digits"),
        ("experiment.data.max_digits=20", "3 digits in a split are fewer than the 10 clusters"),
        ("experiment.prior.num_clusters=1", "num_clusters must be an integer of at least 2"),
        ("experiment.prior.reading=both", "reading must be one of counts, assignments"),
        ("experiment.pretraining.method=none", "method must be one of stacked_denoising, original"),
        ("experiment.pretraining.finetune_epochs=0", "finetune_epochs must be an integer of at least 1"),
        ("experiment.pretraining.mixture.covariance=tied", "mixture.covariance must be one of diag, full"),
        ("experiment.pretraining.layer_dropout=1", r"dropout must lie in \[0, 1\)"),
        ("experiment.pretraining.widths=[784]", "widths must go from 784 pixels"),
        ("experiment.training.batch_size=0", "training.batch_size must be an integer of at least 1"),
        ("experiment.training.learning_rate=-1", "training.learning_rate must be a finite number above 0"),
        ("experiment.training.compile=maybe", "training.compile must be true or false"),
        ("experiment.pretraining.manifold.neighbours=20.5", "manifold.neighbours must be an integer"),
        ("experiment.pretraining.method=file", "weights names a file for the method"),
        ("experiment.training.final_temperature=0", "training.final_temperature must be a finite number above 0"),
    ],
)
def test_bad_settings_are_one_line_and_leave_no_result(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=message):
        launch("clustering/hypergeometric_60", tmp_path, override)
    assert not list(tmp_path.rglob("*.csv"))


def test_more_clusters_than_classes_and_a_tiny_ratio_run(tmp_path: Path) -> None:
    settings = ("experiment.prior.num_clusters=14", "experiment.data.ratio=0.1")
    run = launch("clustering/hypergeometric_60", tmp_path, *FAST, *settings)
    weights = run.table("weights")
    assert len(weights) == 14 and (weights["matched_class"] == -1).sum() >= 4
    np.testing.assert_allclose(weights["learned_frequency"].sum(), 1, rtol=1e-5)
    assert run.table("metrics")["version"].astype(str).unique().tolist() == ["10"]


def test_versions_are_cut_and_named() -> None:
    def splits(ratio: float) -> Any:
        data = ClusteringData(
            source="digits_5000", max_digits=None, subsampled_classes=[0, 1, 2, 3, 4], ratio=ratio, subsampling_seed=0
        )
        return data.load(Path("nowhere"))

    full, cut = splits(1.0), splits(0.6)
    assert (full.version, cut.version) == ("full", "60")
    assert torch.bincount(full.train_labels).tolist() == [400] * 10
    assert torch.bincount(cut.train_labels).tolist() == [240] * 5 + [400] * 5
    assert torch.bincount(cut.test_labels).tolist() == [100] * 10
    assert torch.bincount(cut.test_labels[cut.test_subsampled]).tolist() == [60] * 5 + [100] * 5
    assert full.fingerprint != cut.fingerprint
    assert torch.equal(splits(0.6).train_images, cut.train_images)


def test_what_is_kept_of_a_run_is_no_change_of_it() -> None:
    kept = ["experiment.checkpoint_every=7", "profile.clustering.keep_model=true", "profile.clustering.data=mnist"]
    changed = "experiment.training.learning_rate=0.1"
    assert check_overrides([*kept, changed]) == [changed]
