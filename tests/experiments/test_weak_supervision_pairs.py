"""Pairs of images: exactly s shared factors, the laws of both pairings, splits, refusals.

Statistical tests fail for one seed in 10,000 if all is right; the seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from math import comb, prod
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.settings import ExperimentError
from experiments.weak_supervision.data import pairs as pairs_module
from experiments.weak_supervision.data.images import FactorGrid
from experiments.weak_supervision.data.pairs import PairSampler, split_images
from experiments.weak_supervision.data.sources import FACTORS
from tests.experiments.weak_supervision_fits import generator

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (3, 2, 2, 3, 2, 4, 5)
GRID = FactorGrid(FACTORS, SIZES)
EVERYTHING = torch.arange(GRID.num_images)
SPLIT = split_images(GRID.num_images, 0.3, seed=4)
FAILURE = 1e-4
ALL_SHARED = range(7)


def fits(counts: Sequence[float], expected: Sequence[float]) -> bool:
    """Chi-square; cells that expect fewer than five are taken together."""
    seen, wanted = np.asarray(counts, dtype=float), np.asarray(expected, dtype=float)
    assert not seen[wanted == 0].any(), "something impossible was drawn"
    rare = wanted < 5
    if rare.any():
        seen = np.append(seen[~rare], seen[rare].sum())
        wanted = np.append(wanted[~rare], wanted[rare].sum())
        seen, wanted = seen[wanted > 0], wanted[wanted > 0]
    return bool(stats.chisquare(seen, wanted).pvalue > FAILURE)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("shared", ALL_SHARED)
def test_exactly_s_factors_are_shared_and_both_images_lie_in_the_split(shared: int, part: str) -> None:
    images = getattr(SPLIT, part)
    pairs = PairSampler(GRID, images, shared).sample(2000, generator())
    assert pairs.index.shape == (2, 2000)
    assert torch.isin(pairs.index, images).all()
    first, second = GRID.factors_of(pairs.index)
    assert torch.equal(pairs.changed, first != second), "what is said to have changed differs, and nothing else"
    assert (pairs.changed.sum(1) == 7 - shared).all()
    assert pairs.changed.gather(1, pairs.label[:, None]).all(), "the label is a factor that changed"


@pytest.mark.parametrize(
    ("shared", "pairing", "message"),
    [
        (7, "exact", "must be random or an integer in 0..6, got 7"),
        (-1, "published", "must be random or an integer in 0..6, got -1"),
        (1.5, "exact", "must be random or an integer in 0..6, got 1.5"),
        ("Random", "exact", "must be random or an integer in 0..6, got 'Random'"),
        ("random", "fixed_set", "needs pairing=exact, got pairing=fixed_set"),
        (3, "fixed-set", "pairing must be one of exact, fixed_set, published, got 'fixed-set'"),
    ],
)
def test_pairs_that_there_are_not_are_refused_by_name(shared: Any, pairing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairSampler(GRID, EVERYTHING, shared, pairing)


def test_splits_share_no_image_and_leave_none_out() -> None:
    for share, seed in ((0.3, 0), (0.3, 1), (0.02, 0)):
        train, test = split_images(1000, share, seed)
        assert len(test) == round(1000 * share)
        assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(1000))
    same, other = split_images(1000, 0.3, 0), split_images(1000, 0.3, 1)
    assert torch.equal(same.test, split_images(1000, 0.3, 0).test)
    assert not torch.equal(same.test, other.test)
    # Neighbouring images are divided at random: of 300, about 90 have their successor in the split too.
    assert 50 < torch.isin(same.test + 1, same.test).sum() < 130


def test_the_exact_pairing_is_uniform_over_factors_and_values() -> None:
    """Every pair within a split by its probability; seen if one pair is drawn 1.6 times as often as it should be."""
    grid = FactorGrid(FACTORS, (2, 2, 2, 2, 2, 3, 2))
    images = split_images(grid.num_images, 0.2, 0).test  # 38 images
    # The first is uniform, the changed factors are, and so is each of their other values.
    weights = [
        prod(1 / (size - 1) for size, x, y in zip(grid.sizes, a, b) if x != y)
        if sum(x == y for x, y in zip(a, b)) == 4
        else 0
        for a, b in product(grid.factors_of(images).tolist(), repeat=2)
    ]
    draws = 100_000
    pairs = PairSampler(grid, images, 4).sample(draws, generator())
    first, second = torch.searchsorted(images, pairs.index)
    seen = torch.bincount(first * len(images) + second, minlength=len(images) ** 2)
    assert sum(weight > 0 for weight in weights) > 200
    assert fits(seen.tolist(), [draws * weight / sum(weights) for weight in weights])


@pytest.mark.parametrize("shared", [0, 3, 5])
def test_the_label_is_any_of_the_changed_factors(shared: int) -> None:
    """Seen if one factor is named 5 % too often."""
    pairs = PairSampler(GRID, EVERYTHING, shared).sample(70_000, generator())
    assert fits(torch.bincount(pairs.label, minlength=7).tolist(), [10_000] * 7)
    # Also among the pairs whose first factor is one of those that changed.
    labels = pairs.label[pairs.changed[:, 0]]
    others = len(labels) * (6 - shared) / 6 / (7 - shared)
    assert fits(torch.bincount(labels, minlength=7).tolist(), [len(labels) / (7 - shared)] + 6 * [others])


def published_law(shared: int) -> dict[tuple[bool, ...], float]:
    """Probability of every pattern of changed factors, by enumeration of what may be drawn anew."""
    numbers: list[tuple[int, float]] = [(1, 0.5)]
    if shared:
        numbers.append((7 - shared, 0.5))
    else:
        numbers += [(number, 0.5 / 6) for number in range(1, 7)]
    law = dict.fromkeys(product((False, True), repeat=7), 0.0)
    for number, probability in numbers:
        for redrawn in combinations(range(7), number):
            for outcome in product((False, True), repeat=number):
                pattern = [False] * 7
                weight = probability / comb(7, number)
                for factor, differs in zip(redrawn, outcome):
                    pattern[factor] = differs
                    weight *= 1 - 1 / SIZES[factor] if differs else 1 / SIZES[factor]
                law[tuple(pattern)] += weight
    return law


@pytest.mark.parametrize("shared", [0, 1, 3, 5, 6])
def test_the_published_pairing_redraws_one_or_k_factors_and_values_may_repeat(shared: int) -> None:
    """All 128 patterns of changed factors; seen if the odds of one and of k are 0.513 to 0.487."""
    draws = 100_000
    pairs = PairSampler(GRID, EVERYTHING, shared, "published").sample(draws, generator())
    codes = (pairs.changed * 2 ** torch.arange(6, -1, -1)).sum(1)
    law = published_law(shared)
    assert sum(law.values()) == pytest.approx(1)
    assert fits(torch.bincount(codes, minlength=128).tolist(), [draws * weight for weight in law.values()])
    first, second = GRID.factors_of(pairs.index)
    assert torch.equal(pairs.changed, first != second)
    assert (~pairs.changed.any(1)).any(), "values may repeat"
    assert fits(torch.bincount(pairs.label, minlength=7).tolist(), [draws / 7] * 7)
    # A value that is drawn anew is uniform; of those that differ, given the old one, too.
    changed = first[:, 6] * 5 + second[:, 6]
    counts = torch.bincount(changed[pairs.changed[:, 6]], minlength=25)
    assert fits(counts.tolist(), (int(counts.sum()) / 20 * (1 - np.eye(5))).ravel().tolist())


@pytest.mark.parametrize("shared", [0, 1, 3])
def test_a_small_set_holds_no_more_unchanged_pairs_than_the_published_pairing_draws(shared: int) -> None:
    """Three in ten images; if they were all kept there would be about three times as many (within a tenth here)."""
    changed = PairSampler(GRID, SPLIT.test, shared, "published").sample(60_000, generator()).changed
    law = published_law(shared)
    assert (~changed.any(1)).double().mean() == pytest.approx(law[(False,) * 7], rel=0.1)
    expected = sum(sum(pattern) * weight for pattern, weight in law.items())
    assert changed.sum(1).double().mean() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("shared", [0, 2, 5])
def test_a_fixed_set_is_that_of_the_first_factors(shared: int) -> None:
    pairs = PairSampler(GRID, EVERYTHING, shared, "fixed_set").sample(7000, generator())
    assert torch.equal(pairs.changed, (torch.arange(7) >= shared).expand(7000, -1))
    wanted = [0] * shared + [7000 / (7 - shared)] * (7 - shared)
    assert fits(torch.bincount(pairs.label, minlength=7).tolist(), wanted)


def test_a_random_number_is_uniform_and_so_are_its_sets() -> None:
    """All 127 patterns; seen if one of the seven numbers is drawn 3 % too often."""
    draws = 70_000
    changed = PairSampler(GRID, EVERYTHING, "random").sample(draws, generator()).changed
    codes = (changed * 2 ** torch.arange(7)).sum(1)
    expected = [draws / 7 / comb(7, code.bit_count()) if code else 0 for code in range(128)]
    assert fits(torch.bincount(codes, minlength=128).tolist(), expected)


@pytest.mark.parametrize("pairing", ["exact", "fixed_set", "published"])
def test_the_same_generator_draws_the_same_pairs(pairing: str) -> None:
    sampler = PairSampler(GRID, SPLIT.train, 2, pairing)
    first, again = sampler.sample(500, generator()), sampler.to("cpu").sample(500, generator())
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("index", "changed", "label"))
    assert not torch.equal(first.index, sampler.sample(500, generator(6)).index)
    source = generator()
    assert not torch.equal(sampler.sample(500, source).index, sampler.sample(500, source).index)
    part = first[slice(10, 20)]
    assert torch.equal(part.index, first.index[:, 10:20]) and torch.equal(part.label, first.label[10:20])


def test_factors_of_one_value_are_refused() -> None:
    grid = FactorGrid(FACTORS, (3, 2, 2, 3, 2, 1, 1))
    with pytest.raises(ValueError, match=f"{FACTORS[5]}, {FACTORS[6]} has one"):
        PairSampler(grid, torch.arange(grid.num_images), 3)


def test_pairs_of_another_number_of_factors() -> None:
    """Three factors, of which one or two are shared; no code knows of seven."""
    grid = FactorGrid(("hue", "shape", "size"), (4, 3, 5))
    for shared in (0, 1, 2):
        pairs = PairSampler(grid, torch.arange(60), shared).sample(500, generator())
        assert (pairs.changed.sum(1) == 3 - shared).all()
        assert pairs.changed.gather(1, pairs.label[:, None]).all()


@pytest.mark.parametrize("shared", [0, 6])
def test_a_split_without_such_pairs_is_refused_after_a_bounded_effort(
    shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest, most = 2000, 20_000
    monkeypatch.setattr(pairs_module, "_CANDIDATES_PER_ROUND", largest)
    monkeypatch.setattr(pairs_module, "_CANDIDATES", most)
    sampler = PairSampler(GRID, torch.tensor([0, 7]), shared)  # they differ in two factors
    tried, original = [], sampler._candidates

    def counted(number: int, source: torch.Generator) -> pairs_module.Pairs:
        tried.append(number)
        return original(number, source)

    monkeypatch.setattr(sampler, "_candidates", counted)
    message = f"only 0 of 100 pairs with {shared} shared factors were found among 2 images; take more images"
    with pytest.raises(ExperimentError, match=message):
        sampler.sample(100, generator())
    assert max(tried) <= largest and sum(tried) <= most + largest


def test_a_thin_split_with_such_pairs_is_drawn_from() -> None:
    images = torch.tensor([0, 1, 7, 700])
    pairs = PairSampler(GRID, images, 6).sample(50, generator())
    assert {tuple(sorted(pair)) for pair in pairs.index.T.tolist()} == {(0, 1)}


@pytest.mark.parametrize("share", [1, 0.001, 0.999])
def test_shares_that_leave_a_split_empty_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"test_share {share} of 100 images leaves a split empty"):
        split_images(100, share, 0)
