"""Settings that nothing reads beside the others: refused by name, and truly without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.clustering.priors import CategoricalPrior, HypergeometricPrior, Prior, UniformPrior
from experiments.run import refuse_idle_settings
from experiments.settings import ExperimentError, build
from tests.experiments.helpers import cell, launch
from tests.experiments.weak_supervision_fits import METHODS, PAIRS, generator, make_context, make_model, make_posteriors

UNBIASED = "experiment.model.gradient=score_function"
BLOBS, DIGITS = "clustering_control overlap=2 prior=categorical", "clustering prior=uniform recipe=n2d"


@pytest.mark.parametrize(
    ("row", "setting"),
    [
        ("weak_supervision method=label_vae", "training.final_temperature=0.1"),
        ("weak_supervision method=ada_vae", "training.annealing_steps=3"),
        ("weak_supervision method=fixed_k", "training.initial_temperature=3"),
        ("weak_supervision method=posterior_hgvae", "training.final_temperature=0.1"),
        (f"weak_supervision {UNBIASED}", "model.selection=random_partition"),
        (f"weak_supervision {UNBIASED}", "model.detach_divergences=true"),
        (f"weak_supervision {UNBIASED}", "training.final_temperature=0.1"),
        ("weak_supervision shared=0", "data.pairing=fixed_set"),
        (DIGITS, "training.final_temperature=0.1"),
        (DIGITS, "training.prior_learning_rate_factor=3"),
        (DIGITS, "training.decay_epochs=3"),
        (DIGITS, "training.minimum_learning_rate=0.0001"),
        ("clustering recipe=vade experiment.training.max_epochs=9", "training.minimum_learning_rate=0.0001"),
        ("clustering experiment.training.initial_temperature=0.5", "training.annealing_share=0.2"),
        ("clustering recipe=vade experiment.training.max_epochs=10", "training.learning_rate_decay=0.5"),
        ("clustering recipe=vade experiment.training.decay_epochs=1", "training.minimum_learning_rate=0.0001"),
        ("clustering recipe=vade profile=quick", "training.minimum_learning_rate=0"),
        (f"weak_supervision {UNBIASED} experiment.model.sort_noise=0", "model.sort_scores=log_divergence"),
        ("weak_supervision method=hgvae experiment.model.num_latents=1", "model.sort_noise=0"),
        ("weak_supervision method=ada_vae experiment.model.num_latents=1", "model.divergence=symmetric"),
        ("weak_supervision method=fixed_k_joint shared=0", "model.averaging=product_of_experts"),
        (f"{DIGITS} experiment.training.minimum_learning_rate=2e-4", "training.learning_rate_decay=0.5"),
        ("weak_supervision method=hgvae experiment.training.final_temperature=10", "training.annealing_steps=3"),
        (DIGITS, "data.subsampled_classes=[0,1]"),
        (DIGITS, "pretraining.layer_dropout=0.5"),
        (f"{DIGITS} experiment.pretraining.start.guided_epochs=0", "pretraining.start.guidance_weight=1"),
        ("clustering recipe=vade experiment.pretraining.method=original", "pretraining.finetune_epochs=3"),
        (BLOBS, "pretraining.start.mixture_starts=3"),
        ("urn estimator=exact experiment.max_epochs=1", "learning_rate_decay=0.5"),
        ("kolmogorov_smirnov series=draws", "max_settings=10"),
        ("kolmogorov_smirnov series=draws", "series.draws.total_count=7"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(row: str, setting: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"^experiment\.\S+: nothing reads it in .*; leave it out") as caught:
        launch(row, tmp_path, f"experiment.{setting}")
    assert f"experiment.{setting}: " in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("row", ["kolmogorov_smirnov", "accuracy", "urn estimator=maximum_likelihood"])
@pytest.mark.parametrize("setting", ["trainer.precision=bf16", "trainer.deterministic=true"])
def test_the_trainer_s_are_refused_where_nothing_is_trained(row: str, setting: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=rf"^{setting}: nothing reads it in .*; leave it out"):
        launch(row, tmp_path, setting)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "row",
    [
        "weak_supervision method=hgvae experiment.training.final_temperature=0.1",
        "weak_supervision method=hgvae experiment.model.selection=random_partition",
        "clustering prior=hypergeometric experiment.training.final_temperature=0.1",
        "clustering prior=categorical experiment.training.prior_learning_rate_factor=3",
        "clustering recipe=vade experiment.training.decay_epochs=3",
        "clustering recipe=vade experiment.training.minimum_learning_rate=0.002",
        "clustering recipe=vade experiment.training.learning_rate_decay=1",
        "clustering recipe=vade experiment.training.learning_rate=0.001 experiment.training.batch_size=128 "
        "experiment.training.learning_rate_decay=1",
        "clustering_control overlap=2 experiment.training.learning_rate=0.001 experiment.training.batch_size=64",
        "clustering recipe=vade experiment.training.max_epochs=300 experiment.training.minimum_learning_rate=0",
        "clustering recipe=vade experiment.training.max_epochs=11 experiment.training.learning_rate_decay=0.5",
        f"weak_supervision {UNBIASED} experiment.model.sort_noise=0",
        "weak_supervision method=hgvae experiment.model.sort_scores=log_divergence experiment.model.sort_noise=0",
        "weak_supervision method=posterior_hgvae experiment.training.annealing_steps=3",
        "clustering recipe=vade experiment.training.max_epochs=300 experiment.training.minimum_learning_rate=1e-3",
        "clustering prior=hypergeometric experiment.training.annealing_share=0.2",
        "clustering version=60 experiment.data.subsampled_classes=[0,1]",
        f"{BLOBS} experiment.pretraining.layer_epochs=1 experiment.pretraining.layer_dropout=0.5",
    ],
)
def test_one_that_is_read_is_not(row: str) -> None:
    one = cell(row)
    assert one.row.changes
    refuse_idle_settings(build(one.plain["experiment"]), one)


@pytest.mark.parametrize(
    ("method", "settings"), [*((method, {}) for method in METHODS), ("hgvae", {"gradient": "score_function"})]
)
def test_methods_without_a_relaxation_do_not_depend_on_the_temperature(method: str, settings: dict[str, Any]) -> None:
    model = make_model(method, **settings)
    drawn = []
    for temperature in (0.1, 10.0):
        choice = model.choose(*make_posteriors(PAIRS), make_context(PAIRS, temperature=temperature))
        drawn.append(choice.independent.detach())
    assert torch.equal(*drawn) == ("training.final_temperature" in model.idle_settings)


@pytest.mark.parametrize("prior", [UniformPrior(num_clusters=3), CategoricalPrior(num_clusters=3)])
def test_priors_without_a_relaxation_do_not_depend_on_the_temperature(prior: Prior) -> None:
    def slope(prior: Prior, temperature: float) -> torch.Tensor:
        values = torch.randn(8, 3, generator=generator()).requires_grad_()
        noise = torch.randn(8, 3, generator=generator(6))
        law = prior.law(8)
        law.expected_log_prob(values.log_softmax(-1), noise, torch.tensor(temperature)).backward()
        assert values.grad is not None
        return values.grad

    assert "training.final_temperature" in prior.idle_settings
    assert torch.equal(slope(prior, 0.1), slope(prior, 10.0))
    law = HypergeometricPrior(num_clusters=3)
    assert not law.idle_settings
    assert not torch.equal(slope(law, 0.1), slope(law, 10.0))
