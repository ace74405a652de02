"""The VAEs of image pairs against NumPy: aggregation, bound, and how every method chooses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.weak_supervision.data.sources import FACTORS
from experiments.weak_supervision.group_vae import OBJECTIVES, largest_latents
from tests.experiments import weak_supervision_reference as reference
from tests.experiments.weak_supervision_fits import (
    LATENTS,
    METHODS,
    PAIRS,
    generator,
    lively_model,
    make_context,
    make_model,
    make_posteriors,
    make_views,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def random_weights(pairs: int = PAIRS, latents: int = LATENTS) -> Tensor:
    """Weights in [0, 1] with both ends among them."""
    return (1.4 * torch.rand(pairs, latents, generator=generator(1)) - 0.2).clamp(0, 1)


@pytest.mark.parametrize("averaging", ["arithmetic", "product_of_experts"])
def test_shared_latents_are_averaged_and_independent_ones_kept(averaging: str) -> None:
    mean, log_variance = make_posteriors(PAIRS)
    weights = random_weights()
    assert (weights == 0).any() and (weights == 1).any() and ((weights > 0.3) & (weights < 0.7)).any()
    new_mean, new_log_variance = make_model(averaging=averaging).aggregate(mean, log_variance, weights)
    expected = reference.aggregate(
        mean.double().numpy(), log_variance.exp().double().numpy(), weights.double().numpy(), averaging
    )
    np.testing.assert_allclose(new_mean, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_log_variance.exp(), expected[1], rtol=1e-5)
    own, shared = weights == 1, weights == 0
    assert torch.equal(new_mean[:, own], mean[:, own])
    assert torch.equal(new_log_variance[:, own], log_variance[:, own])
    assert torch.equal(new_mean[0, shared], new_mean[1, shared])
    assert torch.equal(new_log_variance[0, shared], new_log_variance[1, shared])


@pytest.mark.parametrize("averaging", ["arithmetic", "product_of_experts"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_the_terms_of_the_bound_are_those_of_the_formulas(averaging: str, objective: str, hard: bool) -> None:
    model, images = lively_model(averaging=averaging, objective=objective, beta=2.5), make_views()
    weights = random_weights().round() if hard else random_weights()
    noise = torch.randn(2, PAIRS, LATENTS, generator=generator(3))
    with torch.no_grad():
        terms = model.bound(images, *model.encode_pairs(images), noise, weights)
    pixels, draws, mixed = (values.double().numpy() for values in (images, noise, weights))
    expected = reference.bound(reference.parameters_of(model), pixels, draws, mixed, averaging, objective)
    np.testing.assert_allclose([float(term.mean()) for term in terms], expected, rtol=1e-5)
    assert expected.divergence > 3, "large enough to tell the readings apart"
    choice = model.choose(*make_posteriors(PAIRS), make_context(PAIRS))
    assert float(model.loss(terms, choice)) == pytest.approx(2.5 * expected.divergence - expected.reconstruction)


@pytest.mark.parametrize("averaging", ["arithmetic", "product_of_experts"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_where_all_latents_are_independent_neither_average_nor_objective_counts(averaging: str, objective: str) -> None:
    noise = torch.randn(2, PAIRS, LATENTS, generator=generator(3))
    losses = []
    for settings in ({}, {"averaging": averaging, "objective": objective}):
        model = make_model("fixed_k", shared=3, independent=LATENTS, **settings)
        assert {"model.averaging", "model.objective"} < model.idle_settings
        losses.append(model.loss(*model(make_views(), noise, make_context(PAIRS))))
    assert torch.equal(*losses)
    assert not {"model.averaging"} & make_model("fixed_k", shared=3).idle_settings


def test_the_joint_bound_counts_shared_latents_once() -> None:
    model, images = lively_model(), make_views()
    posteriors = model.encode_pairs(images)
    noise = torch.zeros(2, PAIRS, LATENTS)
    terms = {
        (value, name): model.bound(images, *posteriors, noise, torch.full((PAIRS, LATENTS), value), name)
        for value in (0.0, 1.0)
        for name in OBJECTIVES
    }
    assert torch.equal(terms[1.0, "joint"].divergence, terms[1.0, "per_view"].divergence)
    torch.testing.assert_close(terms[0.0, "joint"].divergence, terms[0.0, "per_view"].divergence / 2)
    assert torch.equal(terms[0.0, "joint"].reconstruction, terms[0.0, "per_view"].reconstruction)


@pytest.mark.parametrize("method", METHODS)
def test_a_forward_pass_is_the_bound_for_the_methods_own_choice(method: str) -> None:
    model, images = lively_model(method), make_views()
    noise = torch.randn(2, PAIRS, LATENTS, generator=generator(3))
    terms, choice = model(images, noise, make_context(PAIRS))
    mean, log_variance = model.encode_pairs(images)
    for view in range(2):  # first views come first
        alone = model.encode(images[view * PAIRS : (view + 1) * PAIRS])
        torch.testing.assert_close((mean[view], log_variance[view]), alone, rtol=1e-4, atol=1e-5)
    again = model.choose(mean, log_variance, make_context(PAIRS))
    assert torch.equal(choice.independent, again.independent)
    torch.testing.assert_close(terms, model.bound(images, mean, log_variance, noise, choice.independent))
    assert choice.count.shape == choice.expected_count.shape == (PAIRS,)
    assert tuple(choice.diagnostics) == model.diagnostic_names


def test_methods_of_one_seed_start_from_the_same_networks() -> None:
    states = [make_model(method).state_dict() for method in METHODS]
    for state in states[1:]:
        for name, value in states[0].items():
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_is_in_one_group_of_the_optimizer(method: str) -> None:
    model = make_model(method)
    grouped = [parameter for group in model.parameter_groups() for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))


def test_label_vae_keeps_the_latent_that_the_label_names() -> None:
    context = make_context(50)
    choice = make_model("label_vae").choose(*make_posteriors(50), context)
    assert choice.independent.tolist() == [[float(i == label) for i in range(LATENTS)] for label in context.label]
    assert choice.count.tolist() == choice.expected_count.tolist() == [1] * 50
    assert context.label.unique().tolist() == list(range(len(FACTORS)))


@pytest.mark.parametrize("kind", ["one_sided", "symmetric"])
def test_ada_vae_splits_at_the_middle_of_the_least_and_largest_divergence(kind: str) -> None:
    mean, log_variance = make_posteriors(200)
    means, variances = mean.double().numpy(), log_variance.double().exp().numpy()
    if kind == "symmetric":
        divergences = reference.symmetric_divergence(means, variances)
    else:
        divergences = reference.normal_divergence(means[0], variances[0], means[1], variances[1])
    expected = []
    for pair in divergences:
        middle = (min(pair) + max(pair)) / 2
        expected.append([1.0 if value >= middle else 0.0 for value in pair])
    choice = make_model("ada_vae", divergence=kind).choose(mean, log_variance, make_context(200))
    assert choice.independent.tolist() == expected
    counts = [sum(pair) for pair in expected]
    assert choice.count.tolist() == choice.expected_count.tolist() == counts
    assert len(set(counts)) > 4


def test_ada_vae_keeps_all_latents_whose_divergences_are_equal_and_blocks_their_gradient() -> None:
    mean, log_variance = (values[:1].expand(2, -1, -1).clone().requires_grad_() for values in make_posteriors(3))
    choice = make_model("ada_vae").choose(mean, log_variance, make_context(3))
    assert choice.count.tolist() == [LATENTS] * 3
    assert not choice.independent.requires_grad


@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_fixed_k_takes_the_k_latents_of_largest_divergence(count: int) -> None:
    mean, log_variance = make_posteriors(40)
    choice = make_model(shared=7 - count, method="fixed_k").choose(mean, log_variance, make_context(40))
    divergences = reference.symmetric_divergence(mean.double().numpy(), log_variance.double().exp().numpy())
    expected = [[float(sum(other > value for other in pair) < count) for value in pair] for pair in divergences]
    assert choice.independent.tolist() == expected
    assert choice.count.tolist() == choice.expected_count.tolist() == [count] * 40


def test_largest_latents_are_exactly_as_many_as_asked_for_even_if_all_are_equal() -> None:
    count = torch.tensor([0.0, 3.0, 10.0])
    assert largest_latents(torch.ones(3, LATENTS), count).sum(1).tolist() == [0, 3, 10]
    marked = largest_latents(torch.tensor([[1.0, 5, 2], [4, 0, 3]]), torch.tensor([1, 2]))
    assert marked.tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hard", [True, False])
def test_a_choice_depends_on_its_generator_and_on_no_other(method: str, hard: bool) -> None:
    model, posteriors = make_model(method), make_posteriors(30)
    state = torch.get_rng_state()
    first, again = (model.choose(*posteriors, make_context(30, hard=hard)) for _ in range(2))
    assert torch.equal(first.independent, again.independent) and torch.equal(first.count, again.count)
    assert torch.equal(torch.get_rng_state(), state)
    if method == "hgvae":
        other = make_context(30, seed=8, hard=hard)._replace(label=make_context(30).label)
        assert not torch.equal(model.choose(*posteriors, other).count, first.count)


@pytest.mark.parametrize("method", METHODS)
def test_hard_choices_are_whole(method: str) -> None:
    choice = make_model(method).choose(*make_posteriors(50), make_context(50, 5.0, hard=True))
    assert set(choice.independent.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(choice.independent.sum(1), choice.count)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("label_vae", {"num_latents": 0}, "num_latents\n +Input should be greater than 0"),
        ("label_vae", {"image_size": 48}, "image_size\n +Input should be 64 or 32"),
        ("label_vae", {"averaging": "median"}, "averaging\n +Input should be 'arithmetic' or 'product_of_experts'"),
        ("ada_vae", {"objective": "both"}, "objective\n +Input should be 'per_view' or 'joint'"),
        ("ada_vae", {"beta": -1}, "beta\n +Input should be greater than or equal to 0"),
        ("ada_vae", {"beta": math.nan}, "beta\n +Input should be a finite number"),
        ("ada_vae", {"divergence": "wasserstein"}, "divergence\n +Input should be 'symmetric' or 'one_sided'"),
        ("fixed_k", {"shared": 0, "num_latents": 6}, "7 latents should be independent .*, but model.num_latents is 6"),
        ("hgvae", {"sort_scores": "means"}, "sort_scores\n +Input should be 'divergence' or 'log_divergence'"),
        ("hgvae", {"weights_learning_rate_factor": math.inf}, "weights_learning_rate_factor\n +Input should be a fini"),
        ("hgvae", {"selection": "random_partition", "sort_noise": 0.5}, "sort_noise must be 1, got 0.5"),
        ("hgvae", {"sort_nose": 1.0}, "sort_nose\n +Unexpected keyword argument"),
    ],
)
def test_settings_that_are_not_allowed_are_named(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(method, **settings)
