"""Clustering through the one entry point, at the smoke profile: cache, resumption, labels, kept models, bad input."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from experiments.clustering import data as data_module
from experiments.clustering.data import SOURCES, ClusteringData, Splits
from experiments.clustering.mnist import Digits
from experiments.clustering.pretraining import pretraining
from experiments.clustering.pretraining.autoencoder import AutoencoderTraining
from experiments.clustering.pretraining.pretraining import Pretraining
from experiments.clustering.priors import HypergeometricPrior
from experiments.clustering.scores import confusion
from experiments.clustering.training import VaDETraining, assign_all
from experiments.clustering.vade import VaDE
from experiments.settings import ExperimentError
from tests.experiments.helpers import launch

FAST = ("recipe=vade", "experiment.training.batch_size=128")  # without UMAP, which compiles for half a minute
WIDTHS = [784, 500, 500, 2000, 10]
UNIFORM, HYPERGEOMETRIC = "clustering prior=uniform version=60", "clustering prior=hypergeometric version=60"


def smoke_splits(version: str) -> Splits:
    digits = ClusteringData(
        source="digits_5000", overlap=None, max_digits=300, subsampled_classes=list(range(5)), version=version
    )
    return digits.load(Path("nowhere"), 10)


def test_the_priors_share_one_pretraining_and_all_of_the_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = Pretraining._start

    def counted(self: Pretraining, *arguments: Any) -> Any:
        made.append("made")
        return original(self, *arguments)

    monkeypatch.setattr(Pretraining, "_start", counted)
    priors = ("uniform", "categorical", "hypergeometric")
    runs = [launch(f"clustering prior={prior} version=60", tmp_path, *FAST) for prior in priors]
    assert made == ["made"]
    starts = [run.table("metrics").query("stage == 'start'") for run in runs]
    assert starts[0].equals(starts[1]) and starts[0].equals(starts[2])
    launch(UNIFORM, tmp_path, *FAST, "seed=1")
    launch("clustering prior=uniform version=80", tmp_path, *FAST)
    assert len(made) == 3
    launch(UNIFORM, tmp_path, *FAST, "trainer.deterministic=true")
    assert len(made) == 4, "what of the trainer decides the numbers decides the start, too"


def test_an_interrupted_pretraining_is_gone_on_with_or_started_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*FAST, "experiment.pretraining.layer_epochs=0", "experiment.pretraining.finetune_epochs=4")
    begin = AutoencoderTraining.on_train_epoch_start

    def killed(self: AutoencoderTraining) -> None:
        if self.current_epoch == 3:
            raise RuntimeError("killed")
        begin(self)

    runs = {}
    for way in ("again", "afresh"):
        with monkeypatch.context() as patch:
            patch.setattr(AutoencoderTraining, "on_train_epoch_start", killed)
            with pytest.raises(RuntimeError, match="killed"):
                launch(UNIFORM, tmp_path / way, *settings)
        assert len(list((tmp_path / way / "cache").rglob("last.ckpt"))) == 1
        runs[way] = launch(UNIFORM, tmp_path / way, *settings, f"force={way == 'afresh'}")
    facts = {way: json.loads((run.path / "environment.json").read_text()) for way, run in runs.items()}
    assert {way: one["resumed"] for way, one in facts.items()} == {"again": True, "afresh": False}
    metrics = [run.table("metrics") for run in runs.values()]
    assert metrics[0].equals(metrics[1])


def test_no_label_is_used_before_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "clustering prior=hypergeometric version=full"
    honest = launch(row, tmp_path / "honest", *FAST)
    load = SOURCES["digits_5000"]

    def mislabelled(directory: Path) -> Digits:
        digits = load(directory)
        turn = {"train_labels": digits.train_labels.flip(0), "test_labels": digits.test_labels.flip(0)}
        return digits._replace(**turn)

    monkeypatch.setitem(data_module.SOURCES, "digits_5000", mislabelled)
    blind = launch(row, tmp_path / "blind", *FAST)
    history = ["epoch", "elbo", "reconstruction", "latent", "assignment", "prior_term"]
    assert blind.table("history")[history].equals(honest.table("history")[history])
    weights = ["cluster", "learned_frequency", "log_weight", "train_fraction"]
    assert blind.table("weights")[weights].equals(honest.table("weights")[weights])
    assert blind.table("generated")["pixels"].equals(honest.table("generated")["pixels"])
    assert not blind.table("metrics")["nmi"].equals(honest.table("metrics")["nmi"])


@pytest.mark.parametrize("broken", ["term", "weight"])
def test_a_number_that_is_not_finite_stops_the_run_and_no_checkpoint_holds_it(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A term in the second epoch; a weight in the last step of the first one, which no later term of it shows."""
    step = VaDETraining.step_loss

    def break_it(self: VaDETraining, *arguments: Any) -> Any:
        loss, terms = step(self, *arguments)
        if broken == "term" and self.steps_taken == 3:
            terms = terms.clone()
            terms[self.term_names.index("latent")] = torch.inf
        if broken == "weight" and self.steps_taken == self.steps_per_epoch - 1:
            loss = loss * torch.inf
        return loss, terms

    monkeypatch.setattr(VaDETraining, "step_loss", break_it)
    message = r"step 4 \(epoch 2\): the term latent is not" if broken == "term" else "the parameter vade.* is not"
    with pytest.raises(ExperimentError, match=f"{message} finite"):
        launch(UNIFORM, tmp_path, *FAST)
    checkpoints = [torch.load(path, weights_only=True) for path in (tmp_path / "runs").rglob("last.ckpt")]
    assert [state["epoch"] for state in checkpoints] == ([0] if broken == "term" else [])
    assert all(value.isfinite().all() for state in checkpoints for value in state["state_dict"].values())


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


def test_published_weights_take_the_place_of_the_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data" / "weights.h5"
    write_keras_weights(path, WIDTHS)
    monkeypatch.setattr(pretraining, "original_weights", lambda directory: path)
    settings = [*FAST, "experiment.pretraining.method=original"]
    run = launch(UNIFORM, tmp_path / "results", *settings)
    assert set(run.table("metrics")["pretraining"]) == {"original"}
    cached = [torch.load(file, weights_only=True) for file in (tmp_path / "results" / "cache").rglob("*.pt")]
    contents = [content for file in cached for content in file.values()]
    weights = next(content for content in contents if "encoder.2.weight" in content)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(weights["encoder.2.weight"].numpy().T, file["encoder3"]["encoder3_W"])
        np.testing.assert_array_equal(weights["decoder.0.weight"].numpy().T, file["decoder1"]["decoder1_W"])
    path.unlink()
    with pytest.raises(ExperimentError, match=r"weights.h5 does not exist"):
        launch(UNIFORM, tmp_path / "results", *settings, "seed=1")


@pytest.mark.skipif("MVHG_DATA_DIR" not in os.environ, reason="MVHG_DATA_DIR names no folder with MNIST")
def test_a_row_runs_on_mnist(tmp_path: Path) -> None:
    settings = (*FAST, "experiment.data.source=mnist", f"data_directory={os.environ['MVHG_DATA_DIR']}")
    assert launch(UNIFORM, tmp_path, *settings).finished() is not None


def test_a_damaged_or_swapped_cache_is_named(tmp_path: Path) -> None:
    launch(UNIFORM, tmp_path, *FAST)
    paths = sorted((tmp_path / "cache").rglob("*.pt"))
    contents = [path.read_bytes() for path in paths]
    assert len(paths) == 2
    for damaged in ([content[:1000] for content in contents], contents[::-1]):
        for path, content in zip(paths, damaged, strict=True):
            path.write_bytes(content)
        with pytest.raises(ExperimentError, match=r"\.pt can't be read .*delete it"):
            launch(HYPERGEOMETRIC, tmp_path, *FAST)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("version=0", "experiment.data: version must be full, or a share in percent"),
        ("experiment.data.source=fashion", "source must be one of mnist, digits_5000, blobs, got 'fashion'"),
        ("experiment.data.subsampled_classes=[1,1]", "subsampled_classes must be different digits that ascend"),
        ("version=60 experiment.data.subsampled_classes=[4,3]", "subsampled_classes must be different digits that"),
        ("version=99", "digits_5000, version 99: no digit is cut; take version=full"),
        ("experiment.pretraining.start.mixture_digits=9", "mixture_digits must be at least the 10 clusters .* got 9"),
        (
            "recipe=vade experiment.pretraining.start._target_=experiments.clustering.pretraining.starts.KnownStart",
            "KnownStart reads the labels, which digits_5000 is scored by; .* alone, take recipe=n2d or recipe=vade",
        ),
        (
            "experiment.pretraining.start.mixture_digits=301",
            "start.mixture_digits is too large for 300 training digits",
        ),
        ("experiment.prior.group_size=1000001", "prior.group_size: .* less than or equal to 1000000, got 1000001"),
        ("experiment.data.max_digits=4001", "max_digits is 4001, but digits_5000 has 4000 training digits; give null"),
        (
            "recipe=vade experiment.training.decay_epochs=300",
            "decay_epochs must be below the .* epochs, .*learning_rate_decay=1",
        ),
        ("experiment.training.batch_size=301", "experiment.training.batch_size is too large for 300 training digits"),
        ("experiment.pretraining.batch_size=301", "experiment.pretraining.batch_size is too large for 300 training"),
        ("recipe=n2d experiment.pretraining.start.neighbours=300", "start.neighbours is too large for 300 training"),
        ("recipe=n2d experiment.pretraining.start.dimensions=299", "start.dimensions is too large for 300 training"),
        ("version=60 experiment.data.subsampled_classes=[]", "subsampled_classes names no class that version 60 could"),
        ("experiment.training.minimum_learning_rate=5", "minimum_learning_rate 5 is above learning_rate"),
        ("experiment.training.initial_temperature=1e300", "initial_temperature: .* less than or equal to 1000000"),
        (
            "recipe=vade experiment.pretraining.method=original experiment.pretraining.learning_rate=0.01",
            "experiment.pretraining.learning_rate",
        ),
        ("experiment.data.max_digits=20", "3 digits in a split are fewer than the 10 clusters"),
        ("experiment.prior.num_clusters=1", "prior.num_clusters: .* greater than or equal to 2"),
        ("reading=both", "prior.reading: .* 'counts' or 'assignments', got 'both'"),
        ("experiment.pretraining.method=none", "method: .* 'stacked_denoising' or 'original'"),
        ("experiment.pretraining.layer_dropout=1", "pretraining.layer_dropout: .* less than 1"),
        ("experiment.pretraining.widths=[9,5]", "widths must start with the 784 pixels"),
        ("experiment.pretraining.start.neighbours=20.5", "start.neighbours: .* integer"),
        ("experiment.training.final_temperature=0", "training.final_temperature: .* greater than or equal to 0.000001"),
        ("experiment.data.overlap=5", "overlap is a number for the source blobs and null for others"),
        ("trainer.precision=tf32", "trainer: .*precision=tf32 does nothing on a CPU"),
        ("trainer.graph=true", "trainer: .*graph=true does nothing on a CPU"),
        ("experiment.keep_model=maybe", "experiment.keep_model: .* boolean"),
    ],
)
def test_bad_settings_are_one_line_and_leave_no_result(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=message):
        launch("clustering prior=hypergeometric", tmp_path, *override.split())
    assert not list(tmp_path.rglob("*.csv"))


def test_the_start_from_known_classes_takes_a_cluster_for_each_of_them(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"experiment: prior.num_clusters must be 10, one for each .* got 5"):
        launch("clustering_control prior=uniform overlap=2", tmp_path, "experiment.prior.num_clusters=5")
    assert not any(tmp_path.iterdir())


def test_more_clusters_than_classes_and_a_tiny_share_run(tmp_path: Path) -> None:
    settings = ("experiment.prior.num_clusters=14", "version=10")
    weights = launch("clustering prior=hypergeometric", tmp_path, *FAST, *settings).table("weights")
    assert len(weights) == 14 and (weights["matched_class"] == -1).sum() >= 4
    np.testing.assert_allclose(weights["learned_frequency"].sum(), 1, rtol=1e-5)


def test_a_kept_model_gives_the_runs_own_assignments(tmp_path: Path) -> None:
    run = launch(HYPERGEOMETRIC, tmp_path, *FAST, "experiment.keep_model=true")
    vade = VaDE(
        widths=WIDTHS,
        prior=HypergeometricPrior(num_clusters=10),
        minimum_variance=1e-4,
        initial_variance=0.1,
        generator=torch.Generator().manual_seed(99),
    )
    splits = smoke_splits("60")
    before = assign_all(vade, splits.test_images, 128)
    vade.load_state_dict(torch.load(run.path / "model.pt", weights_only=True))
    clusters = assign_all(vade, splits.test_images, 128)
    expected = run.table("confusion").pivot(index="cluster", columns="class", values="digits").to_numpy()
    np.testing.assert_array_equal(confusion(clusters, splits.test_labels, 10), expected)
    assert not torch.equal(before, clusters)
    assert not (launch(UNIFORM, tmp_path, *FAST).path / "model.pt").exists(), "none is kept unasked"


def test_the_control_runs_on_blobs_of_known_sizes(tmp_path: Path) -> None:
    run = launch("clustering_control prior=hypergeometric overlap=2", tmp_path)
    weights = run.table("weights")
    np.testing.assert_allclose(sorted(set(weights["true_frequency"].dropna().round(4))), [0.0182, 0.1818])
    assert set(run.table("metrics")["stage"]) == {"found", "start", "vade"}
