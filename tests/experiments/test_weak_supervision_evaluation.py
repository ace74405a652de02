"""What is reported of a trained model: bounds, encodings, errors of the number of independent latents, the profile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from experiments.weak_supervision import evaluation as evaluation_module
from experiments.weak_supervision import pair_by_pair
from experiments.weak_supervision.classification import EncodedPairs
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.data.sources import FACTORS
from experiments.weak_supervision.evaluation import (
    Evaluated,
    bound_columns,
    bound_profile,
    count_columns,
    evaluate,
)
from experiments.weak_supervision.group_vae import OBJECTIVES, GroupVAE, Terms
from experiments.weak_supervision.methods.posterior_hgvae import SubsetPosterior, all_sets
from experiments.weak_supervision.pair_by_pair import (
    assigned_latents,
    confusion,
    pair_columns,
    rank_correlation,
    shared_set_accuracy,
    taught_count,
)
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
    assert np.isnan(columns.pop("selection_divergence"))  # there is no law
    assert list(columns) == ["reconstruction", "per_view_bound", "joint_bound"]
    assert list(columns.values()) == [pytest.approx(np.mean(values), rel=1e-5) for values in bounds.values()]
    assert columns["joint_bound"] > columns["per_view_bound"] + 1
    np.testing.assert_allclose(result.means, np.concatenate(means, 1).swapaxes(0, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.aggregated, np.concatenate(aggregated, 1).swapaxes(0, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(result.independent, np.concatenate(kept) == 1)
    np.testing.assert_allclose(result.divergence, np.concatenate(divergences, 1).mean((0, 1)), rtol=1e-4, atol=1e-6)
    first, second = IMAGES.grid.factors_of(pairs.index)
    assert torch.equal(result.encoded.factors, torch.stack([first, second], 1))
    assert torch.equal(result.encoded.shared_factors, first == second)
    assert (result.encoded.shared_factors.sum(1) == 4).all()
    images = IMAGES.images.numpy()[pairs.index.numpy()].astype(int)  # [2, pairs, height, width, channels]
    np.testing.assert_array_equal(result.changed_pixels, ((images[0] - images[1]) != 0).any(-1).sum((1, 2)))


@pytest.mark.parametrize("method", METHODS)
def test_methods_see_the_same_pairs_and_decide_as_a_whole(method: str) -> None:
    model, label_vae = trained(method), trained("label_vae")
    state = torch.get_rng_state()
    result, other = evaluated(model), evaluated(label_vae)
    assert torch.equal(result.encoded.factors, other.encoded.factors)
    assert torch.equal(result.independent.sum(1).float(), result.count)
    assert result.count.shape == result.expected_count.shape == (PAIRS,)
    if method not in ("hgvae", "posterior_hgvae"):
        assert torch.equal(result.count, result.expected_count)
    else:
        assert not torch.equal(result.expected_count, result.expected_count.round())
    assert not result.means.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_equal(bound_columns(result), bound_columns(evaluated(model)))


@pytest.mark.parametrize("method", ["hgvae", "posterior_hgvae"])
def test_the_parts_of_the_representation_are_means_over_the_posterior_of_the_set(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a method without one they are those of the set that is drawn."""
    posteriors: list[Tensor] = []
    draw = SubsetPosterior.draw
    monkeypatch.setattr(SubsetPosterior, "draw", lambda self, by: posteriors.append(self.of_sets) or draw(self, by))
    result = evaluated(trained(method))
    independent = result.independent.double()
    if method == "posterior_hgvae":
        independent = torch.cat(posteriors) @ all_sets(LATENTS).double()
        assert ((independent > 0.01) & (independent < 0.99)).any()
    own = result.means.double()
    torch.testing.assert_close(result.encoded.shared.double(), (1 - independent) * own.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.encoded.independent.double(), independent[:, None] * own, rtol=1e-5, atol=1e-6)


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
    encoded = EncodedPairs(FACTORS, means[:, 0], means, factors, torch.zeros(pairs, 7).bool())
    bounds = tuple(Terms(torch.tensor(-100.0), torch.tensor(value)) for value in (7.0, 4.0))
    numbers = torch.tensor(count), torch.tensor(expected), torch.tensor([7.0, 1.0, 4.0, 4.0][:pairs])
    return Evaluated(
        encoded, independent, means, *numbers, torch.zeros(pairs), bounds, means, torch.zeros(latents), 0.5
    )


@pytest.mark.parametrize("latents", [7, LATENTS])
def test_errors_of_the_number_are_those_of_the_definitions(latents: int) -> None:
    count, expected = [2.0, 3.0, 7.0, 0.0], [2.5, 3.5, 6.25, 1.0]
    errors = count_columns(made_up(count, expected, latents))
    true, mean = np.array([7.0, 1.0, 4.0, 4.0]), sum(expected) / 4
    k, drawn = true.mean(), np.array(count)
    assert {name: errors[name] for name in list(errors)[:7]} == {
        "expected_count": pytest.approx(mean),
        "drawn_count": pytest.approx(3.0),
        "count_error": pytest.approx((mean - k) ** 2),
        "scaled_count_error": pytest.approx((mean * 7 / latents - k) ** 2),
        "draw_count_error": pytest.approx(np.mean((drawn - true) ** 2)),
        # The literal reading: s-hat = d - k-hat against s.
        "shared_error": pytest.approx((latents - mean - (7 - k)) ** 2),
        "draw_shared_error": pytest.approx(np.mean((latents - drawn - (7 - true)) ** 2)),
    }
    if latents == 7:
        assert errors["shared_error"] == pytest.approx(errors["count_error"])
        assert errors["draw_shared_error"] == pytest.approx(errors["draw_count_error"])


def test_the_columns_of_the_bound_are_differences_of_its_terms() -> None:
    columns = bound_columns(made_up([1.0], [1.0]))
    assert columns == {
        "reconstruction": -100.0,
        "per_view_bound": -107.0,
        "joint_bound": -104.0,
        "selection_divergence": 0.5,
    }


def test_active_latents_are_those_whose_means_vary() -> None:
    deviations = np.array([0, 0.05, 0.099, 0.101, 0.5, 2, *[0] * (LATENTS - 6)])  # the square of 0.1 is the limit
    views = np.array([-1.0, 1.0]) * np.sqrt((2 * PAIRS - 1) / (2 * PAIRS))  # variance 1, divided by n - 1
    means = torch.from_numpy(np.tile(views[None, :, None] * deviations + 3, (PAIRS, 1, 1))).float()
    result = made_up([1.0], [1.0])
    true = torch.ones(1)  # and all are independent
    columns = count_columns(replace(result, means=means, true_count=true))
    assert [columns[name] for name in ("active_latents", "active_independent", "active_shared")] == [3, 3, 0]
    assert columns["inactive"] == LATENTS - 3
    assert columns["active_count_error"] == 4


def test_numbers_are_ranked_and_tabulated_pair_by_pair() -> None:
    result = made_up([7.0, 1.0, 4.0, 4.0], [6.6, 2.0, 3.0, 4.4])  # of 7, 1, 4 and 4 factors
    found = rank_correlation(result.expected_count, result.true_count)
    assert found == pytest.approx(spearmanr([7, 1, 4, 4], [6.6, 2.0, 3.0, 4.4]).statistic)
    assert rank_correlation(torch.full((4,), 3.0), result.true_count) == 0
    table = confusion(result)
    assert table[["true_count", "estimated_count", "pairs"]].to_numpy().tolist() == [
        [1, 2, 1], [4, 3, 1], [4, 4, 1], [7, 7, 1]
    ]  # fmt: skip
    np.testing.assert_allclose(table["mean"], [2.0, 3.7, 3.7, 6.6], rtol=1e-6)


def test_a_taught_reader_finds_what_the_posteriors_hold_and_no_more() -> None:
    """k, of 7, is the number of latents whose means are between 1 and 2 apart; no method's choice says anything of it.

    Seed 0, 2,000 pairs to learn from and 1,000 to judge: a rank correlation of 0.99. Of truths that are shuffled among
    the pairs it is within 0.1 of 0, three standard errors.
    """
    source = generator()

    def pairs(number: int) -> Evaluated:
        differ = torch.rand(number, LATENTS, generator=source) < torch.rand(number, 1, generator=source)
        distance = torch.where(differ, 1.0, 2.0) + torch.rand(number, LATENTS, generator=source)
        means = torch.stack([torch.zeros_like(distance), distance], 1)
        return replace(made_up([1.0], [1.0]), means=means, true_count=differ.sum(1), expected_count=torch.ones(number))

    train, test = pairs(2_000), pairs(1_000)
    assert rank_correlation(taught_count(train, test), test.true_count) > 0.95
    shuffled = replace(train, true_count=train.true_count[torch.randperm(2_000, generator=source)])
    assert abs(rank_correlation(taught_count(shuffled, test), test.true_count)) < 0.1
    untold = replace(test, true_count=torch.zeros(1_000))
    assert torch.equal(taught_count(train, untold), taught_count(train, test))


def test_rank_correlations_are_of_pairs_that_differ_in_k(monkeypatch: pytest.MonkeyPatch) -> None:
    result = made_up([7.0, 1.0, 4.0, 4.0], [6.6, 2.0, 3.0, 4.4])
    result = replace(result, changed_pixels=torch.tensor([5.0, 9.0, 7.0, 7.0]))
    monkeypatch.setattr(pair_by_pair, "taught_count", lambda *_: torch.tensor([4.0, 2.0, 1.0, 3.0]))
    columns = pair_columns(result, result, random=True)
    assert columns["rank_correlation"] == pytest.approx(spearmanr([7, 1, 4, 4], [6.6, 2.0, 3.0, 4.4]).statistic)
    assert columns["taught_rank_correlation"] == pytest.approx(spearmanr([7, 1, 4, 4], [4, 2, 1, 3]).statistic)
    assert columns["pixel_rank_correlation"] == pytest.approx(-1)
    fixed = pair_columns(result, result, random=False)
    assert list(fixed) == list(columns)
    assert all(np.isnan(value) for name, value in fixed.items() if name.endswith("rank_correlation"))


def test_the_shared_set_is_judged_by_the_latent_of_each_factor() -> None:
    """Latent 5 is factor 2, latent 1 half factor 4 with noise beyond it; all others are noise of their own."""
    source, pairs = generator(), 400
    factors = torch.randint(3, (pairs, 2, 7), generator=source)
    means = torch.randn(pairs, 2, LATENTS, generator=source)
    means[..., 5] = factors[..., 2].float()
    means[..., 1] += 0.5 * factors[..., 4]
    shared = factors[:, 0] == factors[:, 1]
    independent = torch.rand(pairs, LATENTS, generator=source) < 0.5
    encoded = EncodedPairs(FACTORS, means[:, 0], means, factors, shared)
    result = replace(made_up([1.0], [1.0]), encoded=encoded, means=means)
    assert assigned_latents(result) == {2: 5}
    right = torch.where(torch.arange(LATENTS) == 5, ~shared[:, 2:3], independent)
    for chosen, accuracy in ((right, 1.0), (torch.zeros_like(right), 0.5), (torch.ones_like(right), 0.5)):
        found = replace(result, independent=chosen)
        assert shared_set_accuracy(found, {2: 5}) == accuracy
    assert np.isnan(shared_set_accuracy(result, {}))
