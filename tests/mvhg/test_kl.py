"""The closed Kullback-Leibler divergence against enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence

from tests import oracle
from tests.mvhg.helpers import EXACT, HARD, assert_accurate, make
from tests.urns import BY_NAME, SMALL, Urn


@pytest.mark.parametrize("urn", SMALL, ids=str)
def test_kl_is_the_enumerated_one(urn: Urn) -> None:
    other = tuple(0.8 * np.cos(3.0 * i) for i in range(urn.groups))
    p, q = oracle.enumerate_law(*urn.arguments), oracle.enumerate_law(urn.total_count, urn.group_sizes, other)
    expected = float(p.pmf @ (p.log_pmf - q.log_pmf))
    second = make(urn, log_weights=torch.tensor(other, dtype=torch.float64))
    assert_accurate(kl_divergence(make(urn), second), expected)
    assert_accurate(kl_divergence(make(urn), make(urn)), 0.0)


def test_kl_between_the_exact_and_the_straight_through_class_is_that_of_their_laws() -> None:
    urn = BY_NAME["middle-heavy"]
    straight_through = make(urn, kind=HARD, temperature=0.5)
    other = make(urn, log_weights=torch.zeros(3, dtype=torch.float64))
    assert_accurate(kl_divergence(straight_through, other), kl_divergence(make(urn), other))


def test_kl_of_batches_broadcasts() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]], dtype=torch.float64)
    p = EXACT(5, torch.tensor([3, 5, 4]), log_weights=logits)
    q = EXACT(5, torch.tensor([3, 5, 4]), log_weights=logits[:, None])
    result = kl_divergence(p, q)
    assert result.shape == (2, 2)
    assert_accurate(result.diagonal(), [0.0, 0.0])
    assert (result[0, 1] > 0.1) and (result[1, 0] > 0.1)


@pytest.mark.parametrize("total_count, group_sizes", [(6, [3, 5, 4]), (5, [4, 5, 4])])
def test_kl_of_different_urns_is_an_error(total_count: int, group_sizes: list[int]) -> None:
    p = EXACT(5, torch.tensor([3, 5, 4]))
    q = EXACT(total_count, torch.tensor(group_sizes))
    with pytest.raises(ValueError, match="total_count" if total_count == 6 else "group_sizes"):
        kl_divergence(p, q)
