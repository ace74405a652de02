"""The VAEs of image pairs against NumPy: aggregation, bound, and how every method chooses."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.weak_supervision.data.sources import FACTORS
from experiments.weak_supervision.group_vae import OBJECTIVES, GroupVAE, divergence, largest_latents
from experiments.weak_supervision.methods.hgvae import HGVAE, log_exponential_like, neural_sort
from mvhg import MultivariateHypergeometricStraightThrough
from tests.experiments import weak_supervision_reference as reference
from tests.experiments.weak_supervision_fits import (
    LATENTS,
    METHODS,
    generator,
    make_context,
    make_model,
    make_posteriors,
)

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = 6


def random_weights(pairs: int = PAIRS, latents: int = LATENTS) -> Tensor:
    """Weights in [0, 1] with both ends among them."""
    return (1.4 * torch.rand(pairs, latents, generator=generator(1)) - 0.2).clamp(0, 1)


def make_views(pairs: int = PAIRS) -> Tensor:
    """[2 * pairs, 3, 32, 32], far enough apart that the posteriors differ; a few pixels are exactly 0 or 1."""
    images = 1.4 * torch.rand(2 * pairs, 3, 2, 2, generator=generator(2)) - 0.2
    return images.clamp(0, 1).repeat_interleave(16, 2).repeat_interleave(16, 3)


def lively_model(method: str = "fixed_k", **settings: Any) -> GroupVAE:
    """Biases, and heads whose outputs aren't all near 0, so that a misplaced term shows."""
    model = make_model(method, **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2, generator=generator())
        model.encoder.heads.weight.mul_(5)
    return model


def law_mean(odds: float) -> float:
    law = reference.law_of_counts(LATENTS, Fraction(odds))
    return float(sum(k * probability for k, probability in enumerate(law)))


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


def with_law(bias: tuple[float, float], scale: float = 0.0, **settings: Any) -> HGVAE:
    """An HGVAE with given log weights (independent, shared), which depend on the divergences if ``scale`` > 0."""
    model = make_model("hgvae", **settings)
    assert isinstance(model, HGVAE)
    with torch.no_grad():
        model.weights.weight.mul_(scale)
        model.weights.bias.copy_(torch.tensor(bias))
    return model


@pytest.mark.parametrize("odds", [Fraction(1, 8), Fraction(3)])
@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_hgvae_draws_the_number_from_the_urn_of_the_paper(odds: Fraction, hard: bool) -> None:
    """d marbles of both kinds, d drawn. The chi-square test fails once in 10,000 and sees a mean that is off by 0.1."""
    pairs = 3000
    model = with_law((math.log(odds) + 0.7, 0.7))
    context = make_context(pairs, temperature=0.3, hard=hard)
    with torch.no_grad():
        choice = model.choose(*make_posteriors(pairs), context)
    law = reference.law_of_counts(LATENTS, odds)
    assert choice.expected_count.numpy() == pytest.approx(law_mean(float(odds)), rel=1e-5)
    assert choice.diagnostics["log_weight_difference"].item() == pytest.approx(math.log(odds), abs=1e-5)
    assert torch.equal(choice.count, choice.count.round())
    seen = torch.bincount(choice.count.long(), minlength=LATENTS + 1).double().numpy()
    expected = pairs * np.array([float(probability) for probability in law])
    common = expected > 5
    seen, expected = (np.append(values[common], values[~common].sum() + 1e-9) for values in (seen, expected))
    assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_hgvae_weighs_by_one_dense_layer_on_the_symmetric_divergences() -> None:
    mean, log_variance = make_posteriors(5)
    model = with_law((0.3, -0.2), scale=0.5)
    weight, bias = (values.detach().double().numpy() for values in (model.weights.weight, model.weights.bias))
    divergences = reference.symmetric_divergence(mean.double().numpy(), log_variance.double().exp().numpy())
    logits = divergences @ weight.T + bias
    expected = [law_mean(math.exp(first - second)) for first, second in logits]
    choice = model.choose(mean, log_variance, make_context(5))
    np.testing.assert_allclose(choice.expected_count.detach(), expected, rtol=1e-4)
    assert np.ptp(expected) > 1
    assert choice.diagnostics["log_weight_difference"].item() == pytest.approx((logits[:, 0] - logits[:, 1]).mean())


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "cold"])
@pytest.mark.parametrize("scores", ["divergence", "log_divergence"])
def test_hgvae_takes_the_k_latents_of_largest_divergence(hard: bool, scores: str) -> None:
    mean, log_variance = make_posteriors(300)
    model = with_law((0.0, 0.0), sort_noise=0.0, sort_scores=scores)
    choice = model.choose(mean, log_variance, make_context(300, temperature=1e-5, hard=hard))
    divergences = reference.symmetric_divergence(mean.double().numpy(), log_variance.double().exp().numpy())
    expected = [
        [float(sum(other > value for other in pair) < count) for value in pair]
        for pair, count in zip(divergences, choice.count.tolist())
    ]
    close = np.diff(np.sort(np.log(divergences) if scores == "log_divergence" else divergences)).min(-1) < 1e-3
    clear = torch.from_numpy(~close)  # without latents so close that the temperature mixes them
    assert clear.sum() > 150
    np.testing.assert_allclose(choice.independent.detach()[clear], np.array(expected)[~close], atol=1e-4)
    assert len(set(choice.count.tolist())) > 4


def test_hgvae_sorts_with_noise_in_training_and_without_in_evaluation() -> None:
    mean, log_variance = make_posteriors(400)

    def overlap(noise: float, hard: bool) -> float:
        """Share of the chosen latents that are among the k largest."""
        model = with_law((0.0, 0.0), sort_noise=noise)
        choice = model.choose(mean, log_variance, make_context(400, temperature=1e-4, hard=hard))
        divergences = torch.from_numpy(reference.symmetric_divergence(mean.numpy(), log_variance.exp().numpy()))
        largest = largest_latents(divergences, choice.count)
        return float((choice.independent.detach() * largest).sum() / choice.count.sum())

    assert overlap(1.0, hard=True) == 1
    assert overlap(0.0, hard=False) == pytest.approx(1, abs=0.01)
    law = reference.law_of_counts(LATENTS, Fraction(1))
    chance = sum(k**2 * probability for k, probability in enumerate(law)) / 5 / LATENTS
    assert overlap(1e5, hard=False) == pytest.approx(float(chance), abs=0.05)  # four standard errors
    assert 0.7 < overlap(1.0, hard=False) < 0.98


@pytest.mark.parametrize("temperature", [10.0, 0.01])
@pytest.mark.parametrize("scores", ["divergence", "log_divergence"])
def test_hgvaes_gradients_reach_the_dense_layer_and_the_encoder_and_are_finite(temperature: float, scores: str) -> None:
    """Through the choice alone: the posteriors that are mixed by it carry none."""
    pairs = 64
    model = make_model("hgvae", sort_scores=scores)
    with torch.no_grad():
        model.encoder.heads.weight.mul_(5)
    images = make_views(pairs)
    mean, log_variance = model.encode_pairs(images)
    choice = model.choose(mean, log_variance, make_context(pairs, temperature))
    noise = torch.zeros(2, pairs, LATENTS)
    terms = model.bound(images, mean.detach(), log_variance.detach(), noise, choice.independent)
    model.loss(terms, choice).backward()
    for name in ("weights.weight", "weights.bias", "encoder.heads.weight", "encoder.convolutions.0.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None and gradient.isfinite().all(), name
        assert gradient.norm() > (1e-5 if temperature == 10 else 0), name
    assert model.gradient_terms().tolist() == [model.get_parameter("weights.weight").grad.norm().item()]  # type: ignore[union-attr]


@pytest.mark.parametrize("temperature", [10.0, 1.0, 0.1])
def test_a_larger_weight_makes_hgvae_keep_more_latents(temperature: float) -> None:
    pairs = 2000
    model = with_law((0.0, 0.0))
    choice = model.choose(*make_posteriors(pairs), make_context(pairs, temperature))
    choice.independent.sum(1).mean().backward()
    independent, shared = model.weights.bias.grad.tolist()  # type: ignore[union-attr]
    assert independent > 0.05
    assert shared == pytest.approx(-independent, rel=1e-3)


def test_hgvae_stays_finite_for_equal_views_and_for_views_far_apart() -> None:
    mean, log_variance = make_posteriors(20)
    equal = mean[:1].expand(2, -1, -1), log_variance[:1].expand(2, -1, -1)
    for views in (equal, (100 * mean, 3 * log_variance)):
        for scores in ("divergence", "log_divergence"):
            model = make_model("hgvae", sort_scores=scores)
            leaves = [values.clone().requires_grad_() for values in views]
            choice = model.choose(leaves[0], leaves[1], make_context(20, 0.01))
            choice.independent.square().sum().backward()
            assert choice.independent.isfinite().all() and choice.expected_count.isfinite().all()
            assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)
            assert ((choice.expected_count >= 0) & (choice.expected_count <= LATENTS)).all()


def test_hgvae_as_written_takes_its_soft_mask_times_the_relaxed_sort() -> None:
    """To the last bit, with the numbers drawn in this order."""
    mean, log_variance = make_posteriors(50)
    model, context = make_model("hgvae"), make_context(50, temperature=0.7)
    assert isinstance(model, HGVAE)
    found = model.choose(mean, log_variance, context).independent
    source, divergences = generator(5), divergence(mean, log_variance, "symmetric")
    scores = divergences - log_exponential_like(divergences, source)
    urn = MultivariateHypergeometricStraightThrough(
        context.temperature, LATENTS, [LATENTS] * 2, log_weights=model.weights(divergences)
    )
    mask = urn.rsample_selection(generator=source).prefix_mask[:, 0]
    assert torch.equal(found, torch.einsum("pr,prl->pl", mask, neural_sort(scores, context.temperature)))


@pytest.mark.parametrize("scores", ["divergence", "log_divergence"])
def test_hgvae_can_select_by_a_random_partition(scores: str) -> None:
    """Whole decisions of the law's numbers; their gradients reach both layers."""
    mean, log_variance = make_posteriors(3000)
    model = with_law((1.0, 0.0), selection="random_partition", sort_scores=scores)
    leaves = mean.clone().requires_grad_(), log_variance.clone().requires_grad_()
    choice = model.choose(*leaves, make_context(3000, temperature=0.3))
    assert choice.independent.detach().eq(0).logical_or(choice.independent.detach() == 1).all()
    assert torch.equal(choice.independent.sum(1), choice.count)
    law = reference.law_of_counts(LATENTS, Fraction(math.e).limit_denominator(1000))
    spread = sum(k**2 * float(p) for k, p in enumerate(law)) - law_mean(math.e) ** 2
    assert choice.count.mean().item() == pytest.approx(law_mean(math.e), abs=4.5 * (spread / 3000) ** 0.5)
    (choice.independent * torch.arange(LATENTS)).sum().backward()
    for gradient in (leaves[0].grad, leaves[1].grad, model.weights.bias.grad):
        assert gradient is not None and gradient.isfinite().all() and gradient.norm() > 0


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
    "selection",
    [
        pytest.param(
            "neural_sort",
            marks=pytest.mark.xfail(
                strict=True, reason="rows of NeuralSort sum to 1, columns don't: above 1 it extrapolates"
            ),
        ),
        "random_partition",
    ],
)
@pytest.mark.parametrize("temperature", [10.0, 1.0, 0.1])
def test_hgvaes_weights_lie_between_0_and_1(temperature: float, selection: str) -> None:
    mean, log_variance = make_posteriors(2000)
    model = make_model("hgvae", selection=selection)
    weights = model.choose(mean, log_variance, make_context(2000, temperature)).independent
    assert weights.min() >= -1e-5 and weights.max() <= 1 + 1e-5


@pytest.mark.parametrize("averaging", ["arithmetic", "product_of_experts"])
def test_weights_above_1_leave_posteriors_and_a_finite_bound(averaging: str) -> None:
    """Those of NeuralSort reach 2 and more: variances mixed by them could fall below 0."""
    model, images = lively_model("hgvae", averaging=averaging), make_views()
    mean, log_variance = model.encode_pairs(images)
    log_variance = log_variance + torch.tensor([-1.5, 1.5])[:, None, None]
    weights = torch.full((PAIRS, LATENTS), 3.0)
    _, mixed = model.aggregate(mean, log_variance, weights)
    variance, averaged = log_variance.exp(), model.aggregate(mean, log_variance, torch.zeros_like(weights))[1].exp()
    assert (torch.lerp(averaged, variance, weights) < 0).any() == (averaging == "arithmetic")
    torch.testing.assert_close(mixed.exp(), variance**3 / averaged**2)
    terms = model.bound(images, mean, log_variance, torch.randn(mean.shape, generator=generator(3)), weights)
    assert all(term.isfinite().all() for term in terms)


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
