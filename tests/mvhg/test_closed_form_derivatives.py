"""Derivatives of closed forms: in the counts, and second ones in the log weights, against sums over the support."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln, polygamma
from torch.distributions import kl_divergence

from tests import oracle
from tests.mvhg.helpers import EXACT, assert_accurate, given, log_weights, make
from tests.urns import BY_NAME, SMALL, Urn


@pytest.mark.parametrize("urn", [*SMALL, Urn("large", 100_000, (100_000, 70_000, 90_000), (0.0, 2.0, -3.0))], ids=str)
def test_gradient_in_the_counts_is_that_of_the_binomials_and_the_weights(urn: Urn) -> None:
    """The derivative of sum_i log (m_i choose x_i) + x_i log omega_i, in every direction, not only of constant sum."""
    support = np.array([[30_000, 60_000, 10_000]])
    if urn in SMALL:
        support = oracle.enumerate_law(*urn.arguments).support
    laws = [given(urn), make(urn), given(urn, weights=log_weights(urn).exp(), log_weights=None)]
    laws += [given(urn, conditionals="merged")] * (urn.groups == 2)  # of which none are merged
    for law in laws:
        x = torch.tensor(support, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
        sizes = np.array(urn.group_sizes)
        assert_accurate(gradient, digamma(sizes - support + 1.0) - digamma(support + 1.0) + np.array(urn.log_weights))


@pytest.mark.parametrize("name", ["middle-heavy", "two-groups", "five-groups", "one-left", "plateau", "all-drawn"])
def test_second_derivatives_of_closed_forms(name: str) -> None:
    """Third and fourth cumulants by enumeration: of log P_0, of the mean, and of log_prob in weights and counts."""
    urn, law = BY_NAME[name], oracle.enumerate_law(*BY_NAME[name].arguments)
    x, point = torch.tensor(law.support[0], dtype=torch.float64), log_weights(urn)
    hessian = torch.autograd.functional.hessian
    assert_accurate(hessian(lambda w: given(urn, log_weights=w).log_prob(x), point), -law.covariance)
    assert_accurate(hessian(lambda w: given(urn, log_weights=w).log_partition, point), law.covariance)
    centred = law.support - law.mean
    third = np.einsum("p,pi,pj,pk->ijk", law.pmf, centred, centred, centred)
    fourth = np.einsum("p,pi,pj,pk,pl->ijkl", law.pmf, centred, centred, centred, centred)
    for pairs in ("ij,kl->ijkl", "ik,jl->ijkl", "il,jk->ijkl"):
        fourth -= np.einsum(pairs, law.covariance, law.covariance)
    for group in range(urn.groups):
        assert_accurate(hessian(lambda w, i=group: given(urn, log_weights=w).mean[i], point), third[group], 1e-8)
        assert_accurate(
            hessian(lambda w, i=group: given(urn, log_weights=w).variance[i], point), fourth[group, group], 1e-7
        )
    if name in ("middle-heavy", "two-groups", "five-groups"):
        sizes, inner = np.array(urn.group_sizes), law.support[len(law.support) // 2]
        expected = -polygamma(1, sizes - inner + 1.0) - polygamma(1, inner + 1.0)
        counts = torch.tensor(inner, dtype=torch.float64)
        assert_accurate(hessian(lambda c: given(urn).log_prob(c), counts), np.diag(expected))


@pytest.mark.parametrize("groups", [2, 3])
def test_second_derivatives_of_the_rest_are_those_of_enumeration(groups: int) -> None:
    sizes, total = [3, 5, 4][:groups], 5
    support = torch.tensor(list(oracle.enumerate_counts(total, sizes)), dtype=torch.float64)
    logs = [sum(math.log(math.comb(m, int(k))) for m, k in zip(sizes, x)) for x in support.tolist()]
    coefficients = torch.tensor(logs, dtype=torch.float64)
    other = torch.linspace(-1, 1, groups, dtype=torch.float64)

    def enumerated(w: torch.Tensor) -> list[torch.Tensor]:
        log_pmf, log_other = (torch.log_softmax(coefficients + support @ v, 0) for v in (w, other))
        p = log_pmf.exp()
        return [-(p * log_pmf).sum(), (p * (log_pmf - log_other)).sum(), p[support[:, 0] == 2].sum().log()]

    def ours(w: torch.Tensor) -> list[torch.Tensor]:
        law = EXACT(total, sizes, log_weights=w)
        divergence = kl_divergence(law, EXACT(total, sizes, log_weights=other))
        return [law.entropy(), divergence, law.marginal_log_probs()[0, 2]]

    point = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)[:groups]
    for k in range(3):
        assert_accurate(ours(point)[k], enumerated(point)[k])
        found, expected = (
            torch.autograd.functional.hessian(lambda w, f=f, k=k: f(w)[k], point) for f in (ours, enumerated)
        )
        assert_accurate(found, expected, 1e-8)


def merged(counts: np.ndarray, urn: Urn) -> float:
    """The merged law's log-probability (paper Eqs. 3, 5, 6), binomial coefficients extended by the gamma function."""
    left, result = float(urn.total_count), 0.0
    for i, (size, log_weight) in enumerate(zip(urn.group_sizes[:-1], urn.log_weights)):
        sizes, later = np.array(urn.group_sizes[i + 1 :]), np.array(urn.log_weights[i + 1 :])
        rest, whole = sizes.sum(), np.arange(size + 1)
        whole = whole[(round(left) - whole >= 0) & (round(left) - whole <= rest)]
        terms = []
        for x in (counts[i : i + 1], whole):
            ways = gammaln(size + 1) - gammaln(x + 1) - gammaln(size - x + 1)
            ways = ways + gammaln(rest + 1) - gammaln(left - x + 1) - gammaln(rest - left + x + 1)
            terms.append(ways + x * log_weight + (left - x) * math.log((sizes * np.exp(later)).sum() / rest))
        result += terms[0][0] - np.logaddexp.reduce(terms[1])
        left -= counts[i]
    return result


@pytest.mark.parametrize("counts", [(1, 2, 2), (2, 1, 2), (0, 1, 4), (3, 2, 0), (0, 5, 0)])
def test_merged_gradient_in_the_counts_is_near_that_of_the_gamma_functions_extension(counts: tuple[int, ...]) -> None:
    """In directions that keep the sum; the normaliser's extension in what is left is another one between numbers."""
    urn = Urn("three", 5, (3, 5, 4), (1.0, -0.5, 0.3))
    x = torch.tensor(counts, dtype=torch.float64, requires_grad=True)
    value = given(urn, conditionals="merged").log_prob(x)
    assert_accurate(value, merged(np.array(counts, float), urn))
    [gradient] = torch.autograd.grad(value, x)
    steps = 1e-5 * np.eye(3)
    differences = [merged(counts + s, urn) - merged(counts - s, urn) for s in steps]
    off = gradient.numpy() - np.array(differences) / 2e-5
    interior = min(counts) > 0 and (np.array(counts) < urn.group_sizes).all()
    assert np.abs(off - off.mean()).max() < (1e-3 if interior else 2e-2)
