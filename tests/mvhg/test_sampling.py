"""Draws of ``sample`` and of the straight-through ``rsample`` against the exact law.

Each test here rejects a right sampler with probability 1e-5 over the choice of its seed. Smallest effect found with
probability 0.99 (``detectable_effect``; the effect is sqrt(sum (q - p)^2 / p)): 0.020 with 20 cells and 200,000 draws,
0.030 with 200 cells; for the Kolmogorov-Smirnov distance at 1,000,000 draws the critical value is 0.0025.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln

from tests import oracle
from tests.mvhg.helpers import (
    EXACT,
    FAILURE_RATE,
    HARD,
    chi_square_p_value,
    detectable_effect,
    draw_in_chunks,
    generator,
    kolmogorov_smirnov_critical,
    kolmogorov_smirnov_distance,
    make,
)
from tests.urns import BY_NAME, MEDIUM, SMALL, Urn

DRAWS = 200_000
STRAIGHT_THROUGH = {"kind": HARD, "temperature": 0.5}


def joint_table(urn: Urn) -> tuple[np.ndarray, np.ndarray]:
    """Support and pmf of three groups of some hundreds, all but 1e-12 of the mass."""
    law = oracle.tilted_law(*urn.arguments)
    spread = 8 * np.sqrt(np.diag(law.covariance)) + 10
    ranges = [
        np.arange(max(0, int(mu - d)), min(m, int(mu + d)) + 1)
        for mu, d, m in zip(law.mean[:2], spread, urn.group_sizes)
    ]
    first, second = (axis.ravel() for axis in np.meshgrid(*ranges, indexing="ij"))
    support = np.stack([first, second, urn.total_count - first - second], axis=1)
    sizes = np.array(urn.group_sizes)
    support = support[(support >= 0).all(axis=1) & (support <= sizes).all(axis=1)]
    logits = (gammaln(sizes + 1.0) - gammaln(support + 1.0) - gammaln(sizes - support + 1.0)).sum(axis=1)
    pmf = np.exp(logits + support @ np.array(urn.log_weights) - law.log_partition)
    assert abs(pmf.sum() - 1.0) < 1e-10
    return support, pmf


def check_law(samples: np.ndarray, urn: Urn) -> None:
    """Pooled chi-square of the joint law, and of every group's marginal."""
    assert (samples == np.round(samples)).all() and (samples.sum(axis=1) == urn.total_count).all()
    samples = samples.astype(np.int64)
    if urn in SMALL:
        law = oracle.enumerate_law(*urn.arguments)
        assert chi_square_p_value(samples, law.support, law.pmf) > FAILURE_RATE
    elif urn.groups == 3:
        support, pmf = joint_table(urn)
        inside = (samples[:, :2] >= support[:, :2].min(0)).all(1) & (samples[:, :2] <= support[:, :2].max(0)).all(1)
        assert inside.all()
        assert chi_square_p_value(samples, support, pmf) > FAILURE_RATE
    for group, log_marginal in enumerate(oracle.log_marginals(*urn.arguments)):
        points = np.flatnonzero(np.isfinite(log_marginal))
        assert chi_square_p_value(samples[:, [group]], points[:, None], np.exp(log_marginal[points])) > FAILURE_RATE


@pytest.mark.parametrize("group_order", [None, "reversed"])
@pytest.mark.parametrize("urn", [*SMALL, *MEDIUM], ids=str)
def test_sample_follows_the_law(urn: Urn, group_order: str | None) -> None:
    order = tuple(reversed(range(urn.groups))) if group_order else None
    distribution = make(urn, group_order=order)
    check_law(distribution.sample((DRAWS if urn.groups < 10 else 20_000,), generator=generator(11)).numpy(), urn)


@pytest.mark.parametrize(
    "urn, draws, order",
    [(urn, 50_000, order) for urn in SMALL for order in (None, "reversed")]
    + [(BY_NAME[name], 10_000, None) for name in ("more-than-half", "deep-tails", "many-groups")]
    + [(BY_NAME["paper"], 20_000, None)],
    ids=str,
)
def test_straight_through_rsample_follows_the_law(urn: Urn, draws: int, order: str | None) -> None:
    group_order = tuple(reversed(range(urn.groups))) if order else None
    distribution, g = make(urn, group_order=group_order, **STRAIGHT_THROUGH), generator(12)
    check_law(draw_in_chunks(lambda shape: distribution.rsample(shape, generator=g), draws, 25_000), urn)


@pytest.mark.parametrize(
    "name, method",
    [(name, "sample") for name in ("paper", "paper-last-heavy", "middle-heavy", "ten-thousand", "five-groups")]
    + [("twenty-each", "rsample")],
)
def test_kolmogorov_smirnov_of_a_million_draws(name: str, method: str) -> None:
    urn, g = BY_NAME[name], generator(14)
    distribution = make(urn, torch.float32, **(STRAIGHT_THROUGH if method == "rsample" else {}))
    with torch.no_grad():
        draw = getattr(distribution, method)
        samples = draw_in_chunks(lambda shape: draw(shape, generator=g), 1_000_000, 100_000)
    for group, log_marginal in enumerate(oracle.log_marginals(*urn.arguments)):
        distance = kolmogorov_smirnov_distance(samples[:, group], np.exp(log_marginal))
        assert distance < kolmogorov_smirnov_critical(1_000_000)


@pytest.mark.parametrize("temperature", [0.01, 10.0])
def test_straight_through_counts_do_not_depend_on_the_temperature(temperature: float) -> None:
    urn = BY_NAME["middle-heavy"]
    distribution = make(urn, kind=HARD, temperature=temperature)
    check_law(distribution.rsample((50_000,), generator=generator(16)).numpy(), urn)


@pytest.mark.parametrize("straight_through", [False, True], ids=["sample", "rsample"])
def test_a_batch_of_different_urns_follows_its_laws(straight_through: bool) -> None:
    urns = [
        BY_NAME[name]
        for name in (
            "equal",
            "middle-heavy",
            "rising",
            "nothing-drawn",
            "all-drawn",
            "one-left",
            "plateau",
            "twenty-each",
        )
    ]
    arguments = {
        "total_count": torch.tensor([urn.total_count for urn in urns]),
        "group_sizes": torch.tensor([urn.group_sizes for urn in urns]),
        "log_weights": torch.tensor([urn.log_weights for urn in urns], dtype=torch.float64),
    }
    if straight_through:
        distribution = HARD(0.5, **arguments)
        samples = distribution.rsample((30_000,), generator=generator(18))
    else:
        samples = EXACT(**arguments).sample((30_000,), generator=generator(18))
    assert samples.shape == (30_000, len(urns), 3)
    for i, urn in enumerate(urns):
        check_law(samples[:, i].numpy(), urn)


def test_one_draw_from_each_of_many_batch_elements_follows_the_law() -> None:
    """Weights per batch element, as a network gives them: no table is shared between draws."""
    urn = BY_NAME["rising"]
    logits = torch.tensor(urn.log_weights, dtype=torch.float64).expand(50_000, 3).clone()
    check_law(make(urn, log_weights=logits).sample(generator=generator(19)).numpy(), urn)
    check_law(make(urn, log_weights=logits, **STRAIGHT_THROUGH).rsample(generator=generator(20)).numpy(), urn)


def test_draws_are_independent_of_one_another() -> None:
    """Correlation of neighbouring draws and of neighbouring batch elements: five standard errors, two-sided 6e-7."""
    samples = make(BY_NAME["twenty-each"], log_weights=torch.zeros(4, 3, dtype=torch.float64)).sample(
        (50_000,), generator=generator(21)
    )
    x = samples[..., 0].numpy()
    for a, b in ((x[:-1, 0], x[1:, 0]), (x[:, 0], x[:, 1]), (x[:, 1], x[:, 3])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(len(a))


@pytest.mark.parametrize("straight_through", [False, True], ids=["sample", "rsample"])
@pytest.mark.parametrize("order", [None, (2, 1, 0), (0, 2, 1)])
def test_merged_draws_follow_the_merged_law_and_are_told_from_the_exact_one(
    order: tuple[int, ...] | None, straight_through: bool
) -> None:
    urn = BY_NAME["middle-heavy"]
    merged, exact = oracle.merged_law(*urn.arguments, order or (0, 1, 2)), oracle.enumerate_law(*urn.arguments)
    distribution = make(urn, conditionals="merged", group_order=order, **(STRAIGHT_THROUGH if straight_through else {}))
    draw = distribution.rsample if straight_through else distribution.sample
    samples = draw((50_000,), generator=generator(22)).numpy().astype(np.int64)
    assert chi_square_p_value(samples, merged.support, merged.pmf) > FAILURE_RATE
    # the same test has the power to tell the two laws apart: the effect is far above the smallest detectable one
    effect = math.sqrt(((merged.pmf - exact.pmf) ** 2 / exact.pmf).sum())
    assert effect > 3 * detectable_effect(len(exact.pmf), 50_000)
    assert chi_square_p_value(samples, exact.support, exact.pmf) < 1e-12


def test_the_statistics_have_the_stated_power() -> None:
    assert detectable_effect(20, 200_000) < 0.020 and detectable_effect(200, 200_000) < 0.030
    assert kolmogorov_smirnov_critical(1_000_000) < 0.0025
    law = oracle.enumerate_law(*BY_NAME["middle-heavy"].arguments)
    rng = np.random.default_rng(3)
    direction = np.where(np.arange(len(law.pmf)) % 2, 1.0, -1.0)
    direction -= law.pmf @ direction
    direction /= math.sqrt(law.pmf @ direction**2)
    effect = detectable_effect(len(law.pmf), DRAWS)
    shifted = law.pmf * (1 + 1.3 * effect * direction)
    wrong = law.support[rng.choice(len(shifted), size=DRAWS, p=shifted / shifted.sum())]
    right = law.support[rng.choice(len(shifted), size=DRAWS, p=law.pmf / law.pmf.sum())]
    assert chi_square_p_value(wrong, law.support, law.pmf) < FAILURE_RATE
    assert chi_square_p_value(right, law.support, law.pmf) > FAILURE_RATE
