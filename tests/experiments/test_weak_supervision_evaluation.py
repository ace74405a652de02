"""What is reported of a trained model: bounds, encodings, errors of the number of independent latents, the profile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from experiments.weak_supervision import evaluation as evaluation_module
from experiments.weak_supervision.classification import EncodedPairs
from experiments.weak_supervision.data.mpi3d_factors import FACTORS
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.evaluation import (
    Evaluated,
    active_latents,
    bound_columns,
    bound_profile,
    count_errors,
    evaluate,
)
from experiments.weak_supervision.group_vae import OBJECTIVES, GroupVAE, Terms
from tests.experiments import weak_supervision_reference as reference
from tests.experiments.weak_supervision_fits import LATENTS, METHODS, generator, make_images, make_model

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = make_images()
SAMPLER = PairSampler(IMAGES.grid, torch.arange(IMAGES.grid.num_images), 4)
PAIRS, BATCH = 10, 4  # batches of 4, 4 and 2


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_module, "_BATCH", BATCH)


def trained(method: str = "fixed_k", **settings: Any) -> GroupVAE:
    """Heads as if it had learned: posteriors that differ between images."""
    model = make_model(method, **settings)
    with torch.no_grad():
        model.encoder.heads.weight.mul_(20)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2, generator=generator())
    return model


def evaluated(model: GroupVAE, pairs: int = PAIRS) -> Evaluated:
    return evaluate(model, IMAGES, SAMPLER, pairs, 0.3, generator())


def test_all_that_is_said_of_a_model_is_what_the_formulas_say() -> None:
    model = trained(shared=4)
    result, parameters = evaluated(model), reference.parameters_of(model)
    source = generator()
    pairs = SAMPLER.sample(PAIRS, source)
    bounds: dict[str, list[float]] = {name: [] for name in ("reconstruction", *OBJECTIVES)}
    means, aggregated, kept, divergences = [], [], [], []
    for start in range(0, PAIRS, BATCH):
        index = pairs.index[:, start : start + BATCH]
        noise = torch.randn(2, index.shape[1], LATENTS, generator=source).double().numpy()
        views = IMAGES.images.numpy()[index.flatten().numpy()].transpose(0, 3, 1, 2) / 255
        mean, variance = (values.reshape(2, -1, LATENTS) for values in reference.encode(parameters, views))
        gamma = reference.symmetric_divergence(mean, variance)
        independent = (gamma >= np.sort(gamma, axis=1)[:, [-3]]).astype(float)
        new_mean, _ = reference.aggregate(mean, variance, independent, "arithmetic")
        for objective in OBJECTIVES:
            terms = reference.bound(parameters, views, noise, independent, "arithmetic", objective)
            bounds[objective] += index.shape[1] * [terms.reconstruction - terms.divergence]
        bounds["reconstruction"] += index.shape[1] * [terms.reconstruction]
        means.append(mean)
        aggregated.append(new_mean)
        kept.append(independent)
        divergences.append(reference.normal_divergence(mean, variance, np.zeros(1), np.ones(1)))
    columns = bound_columns(result)
    assert list(columns) == ["reconstruction", "per_view_bound", "joint_bound"]
    assert list(columns.values()) == [pytest.approx(np.mean(values), rel=1e-5) for values in bounds.values()]
    assert columns["joint_bound"] > columns["per_view_bound"] + 1
    np.testing.assert_allclose(result.means, np.concatenate(means, 1).swapaxes(0, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.encoded.means, np.concatenate(aggregated, 1).swapaxes(0, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(result.encoded.independent, np.concatenate(kept) == 1)
    np.testing.assert_allclose(result.divergence, np.concatenate(divergences, 1).mean((0, 1)), rtol=1e-4, atol=1e-6)
    first, second = IMAGES.grid.factors_of(pairs.index)
    assert torch.equal(result.encoded.factors, torch.stack([first, second], 1))
    assert torch.equal(result.encoded.shared_factors, first == second)
    assert (result.encoded.shared_factors.sum(1) == 4).all()


@pytest.mark.parametrize("method", METHODS)
def test_methods_see_the_same_pairs_and_decide_as_a_whole(method: str) -> None:
    model, label_vae = trained(method), trained("label_vae")
    state = torch.get_rng_state()
    result, other = evaluated(model), evaluated(label_vae)
    assert torch.equal(result.encoded.factors, other.encoded.factors)
    assert torch.equal(result.encoded.independent.sum(1).float(), result.count)
    assert result.count.shape == result.expected_count.shape == (PAIRS,)
    if method != "hgvae":
        assert torch.equal(result.count, result.expected_count)
    else:
        assert not torch.equal(result.expected_count, result.expected_count.round())
    assert not result.means.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert bound_columns(result) == bound_columns(evaluated(model))


def test_the_profile_at_a_models_own_k_is_its_bound() -> None:
    profile = bound_profile(trained("hgvae"), IMAGES, SAMPLER, PAIRS, generator())
    assert profile["independent"].tolist() == list(range(LATENTS + 1))
    for count in (0, 3, 7):
        own = bound_columns(evaluated(trained(shared=7 - count)))  # the same networks
        for objective in OBJECTIVES:
            # In single precision, batch by batch.
            assert profile.loc[count, objective] == pytest.approx(own[f"{objective}_bound"], rel=1e-6)
    assert profile.loc[LATENTS, "joint"] == pytest.approx(profile.loc[LATENTS, "per_view"], rel=1e-6)
    assert profile["per_view"].nunique() == LATENTS + 1
    assert (profile["joint"][:LATENTS] > profile["per_view"][:LATENTS]).all()


def made_up(count: list[float], expected: list[float], latents: int = LATENTS) -> Evaluated:
    pairs = len(count)
    factors = torch.zeros(pairs, 2, 7, dtype=torch.int64)
    means, independent = torch.zeros(pairs, 2, latents), torch.ones(pairs, latents).bool()
    encoded = EncodedPairs(FACTORS, means, independent, factors, torch.zeros(pairs, 7).bool())
    bounds = tuple(Terms(torch.tensor(-100.0), torch.tensor(value)) for value in (7.0, 4.0))
    return Evaluated(encoded, torch.tensor(count), torch.tensor(expected), bounds, encoded.means, torch.zeros(latents))


@pytest.mark.parametrize("shared", range(7))
@pytest.mark.parametrize("latents", [7, LATENTS])
def test_errors_of_the_number_are_those_of_the_definitions(shared: int, latents: int) -> None:
    count, expected = [2.0, 3.0, 7.0, 0.0], [2.5, 3.5, 6.25, 1.0]
    errors = count_errors(made_up(count, expected, latents), shared)
    k, mean = 7 - shared, sum(expected) / 4
    assert errors == {
        "expected_count": pytest.approx(mean),
        "drawn_count": pytest.approx(3.0),
        "count_error": pytest.approx((mean - k) ** 2),
        "draw_count_error": pytest.approx(np.mean([(value - k) ** 2 for value in count])),
        # The literal reading: s-hat = d - k-hat against s.
        "shared_error": pytest.approx((latents - mean - shared) ** 2),
        "draw_shared_error": pytest.approx(np.mean([(latents - value - shared) ** 2 for value in count])),
    }
    if latents == 7:
        assert errors["shared_error"] == pytest.approx(errors["count_error"])
        assert errors["draw_shared_error"] == pytest.approx(errors["draw_count_error"])


def test_the_columns_of_the_bound_are_differences_of_its_terms() -> None:
    columns = bound_columns(made_up([1.0], [1.0]))
    assert columns == {"reconstruction": -100.0, "per_view_bound": -107.0, "joint_bound": -104.0}


def test_active_latents_are_those_whose_means_vary() -> None:
    deviations = np.array([0, 0.05, 0.099, 0.101, 0.5, 2])  # the square of 0.1 is the limit
    views = np.array([-1.0, 1.0]) * np.sqrt((2 * PAIRS - 1) / (2 * PAIRS))  # variance 1, divided by n - 1
    means = torch.from_numpy(np.tile(views[None, :, None] * deviations + 3, (PAIRS, 1, 1))).float()
    result = made_up([1.0], [1.0])
    assert active_latents(Evaluated(result.encoded, result.count, result.count, (), means, result.divergence)) == 3
