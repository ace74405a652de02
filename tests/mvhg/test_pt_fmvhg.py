"""The authors' interface: shapes, laws and gradients of ``mvhg.pt_fmvhg``, and a client that knows nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from mvhg.pt_fmvhg import MVHG
from tests import oracle
from tests.mvhg.helpers import EXACT, FAILURE_RATE, assert_accurate, chi_square_p_value
from tests.urns import BY_NAME, SMALL, Urn

both = pytest.mark.parametrize("conditionals", ["exact", "merged"])
hardness = pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
noises = pytest.mark.parametrize("add_noise", [True, False], ids=["noise", "no-noise"])
urns = pytest.mark.parametrize("urn", SMALL, ids=str)


def arguments(urn: Urn, batch: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """m_all [c], n [B, 1] and log_w_all [B, c], as the authors' callers make them."""
    log_weights = torch.tensor(urn.log_weights, dtype=dtype).repeat(batch, 1)
    return torch.tensor(urn.group_sizes), torch.full((batch, 1), urn.total_count), log_weights


def one_hots(counts: np.ndarray, sizes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Counts [B, c] as the interface's lists x and y, float64."""
    whole = torch.as_tensor(counts).long()
    y = [torch.nn.functional.one_hot(whole[:, i : i + 1], size + 1).double() for i, size in enumerate(sizes)]
    return [whole[:, i : i + 1].double().unsqueeze(-1) for i in range(len(sizes))], y


@noises
@hardness
@both
@urns
def test_results_have_the_interfaces_shapes_and_agree(urn: Urn, conditionals: str, hard: bool, add_noise: bool) -> None:
    torch.manual_seed(3)
    m, n, log_w = arguments(urn, 6)
    y, x, y_mask, log_p = MVHG(conditionals=conditionals)(m, n, log_w, 0.7, add_noise=add_noise, hard=hard)
    assert [tuple(part.shape) for part in y] == [(6, 1, size + 1) for size in urn.group_sizes]
    assert [part.shape for part in y_mask] == [part.shape for part in y]
    assert [tuple(part.shape) for part in x] == [(6, 1, 1)] * urn.groups
    assert log_p.shape == (6,) and torch.isfinite(log_p).all()
    assert all(part.dtype == torch.float64 for part in (*y, *x, *y_mask, log_p))
    tolerance = 0.0 if hard else 1e-12
    assert (sum(x) - n.unsqueeze(-1)).abs().max() <= tolerance * max(1, urn.total_count)
    for size, vector, count, mask in zip(urn.group_sizes, y, x, y_mask, strict=True):
        torch.testing.assert_close(vector.sum(-1), torch.ones(6, 1, dtype=torch.float64))
        torch.testing.assert_close((vector * torch.arange(size + 1)).sum(-1, keepdim=True), count)
        assert (mask[..., 0] == 1).all()
        torch.testing.assert_close(mask, vector.flip(-1).cumsum(-1).flip(-1))
        torch.testing.assert_close(mask.sum(-1, keepdim=True) - 1, count)
        if hard:
            assert ((vector == 0) | (vector == 1)).all()


@both
@urns
def test_log_probabilities_of_whole_counts_are_the_laws(urn: Urn, conditionals: str) -> None:
    law = oracle.enumerate_law(*urn.arguments)
    if conditionals == "merged":
        law = oracle.merged_law(*urn.arguments, tuple(range(urn.groups)))
    x, y = one_hots(law.support, urn.group_sizes)
    m, n, log_w = arguments(urn, len(law.support))
    assert_accurate(MVHG(conditionals=conditionals).get_log_probs(m, n, x, y, log_w), law.log_pmf)


def test_log_probabilities_in_float32_keep_four_digits() -> None:
    urn = BY_NAME["paper"]
    m, n, log_w = arguments(urn, 4, torch.float32)
    torch.manual_seed(0)
    _, x, _, log_p = MVHG()(m, n, log_w, 0.5)
    law = oracle.tilted_law(*urn.arguments)
    expected = [law.log_prob(row) for row in torch.cat(x, 1).squeeze(-1).tolist()]
    assert_accurate(log_p, expected, 1e-4)


def test_forward_gives_the_log_probability_of_its_draw() -> None:
    urn = BY_NAME["rising"]
    m, n, log_w = arguments(urn, 40)
    for hard in (True, False):
        torch.manual_seed(1)
        y, x, _, log_p = MVHG()(m, n, log_w, 0.7, hard=hard)
        torch.testing.assert_close(MVHG().get_log_probs(m, n, x, y, log_w), log_p)
    # Under the merged law, in the order drawn, which is one for the whole batch.
    module, orders = MVHG(conditionals="merged"), set()
    for _ in range(12):
        _, x, _, log_p = module(m, n, log_w, 0.7)
        counts, found = torch.cat(x, 1).squeeze(-1), []
        for order in itertools.permutations(range(3)):
            law = EXACT(5, urn.group_sizes, log_weights=log_w, conditionals="merged", group_order=order)
            if torch.allclose(law.log_prob(counts), log_p, rtol=1e-9):
                found.append(order)
        assert found
        orders.update(found)
    assert len(orders) > 2


@pytest.mark.parametrize("urn", ["rising", "five-groups"])
def test_draws_follow_the_exact_law(urn: str) -> None:
    """Fails by chance once in 1e5 seeds; a law that differs by 0.013 in sqrt(sum (q - p)^2 / p) is found."""
    torch.manual_seed(7)
    given = BY_NAME[urn]
    m, n, log_w = arguments(given, 200_000)
    with torch.no_grad():
        _, x, _, _ = MVHG()(m, n, log_w, 0.5)
    law = oracle.enumerate_law(*given.arguments)
    assert chi_square_p_value(torch.cat(x, 1).squeeze(-1).numpy(), law.support, law.pmf) > FAILURE_RATE


def test_without_noise_the_most_probable_count_of_each_group_given_the_earlier_ones() -> None:
    urn = BY_NAME["five-groups"]
    law = oracle.enumerate_law(*urn.arguments)
    remaining, expected = np.ones(len(law.support), dtype=bool), []
    for i in range(urn.groups):
        masses = np.bincount(law.support[remaining, i], law.pmf[remaining])
        expected.append(int(masses.argmax()))
        remaining &= law.support[:, i] == expected[-1]
    m, n, log_w = arguments(urn, 3)
    for temperature in (0.1, 1.0, 5.0):
        _, x, _, _ = MVHG()(m, n, log_w, temperature, add_noise=False)
        assert torch.cat(x, 1).squeeze(-1).tolist() == [expected] * 3
    y, _, _, _ = MVHG()(m, n, log_w, 2.0, add_noise=False, hard=False)
    tempered = np.exp(law.log_marginals[0, : urn.group_sizes[0] + 1] / 2)
    assert_accurate(y[0][0, 0], tempered / tempered.sum())


def test_gradients_reach_the_weights_through_draws_and_probabilities() -> None:
    urn = BY_NAME["rising"]
    m, n, log_w = arguments(urn, 30)
    law = oracle.enumerate_law(*urn.arguments)
    # Of the log-probability of given counts: counts less their mean.
    rows = law.support[:10]
    x, y = one_hots(rows, urn.group_sizes)
    leaf = log_w[:10].clone().requires_grad_()
    MVHG().get_log_probs(m, n[:10], x, y, leaf).sum().backward()
    assert_accurate(leaf.grad, rows - law.mean)
    for conditionals, hard, add_noise in itertools.product(("exact", "merged"), (True, False), (True, False)):
        leaf = log_w.clone().requires_grad_()
        torch.manual_seed(5)
        module = MVHG(conditionals=conditionals)
        y, x, y_mask, log_p = module(m, n, leaf, 0.7, add_noise=add_noise, hard=hard)
        for result in (y[0][..., 1].sum(), x[1].sum(), y_mask[2][..., 1:].sum(), log_p.sum()):
            [gradient] = torch.autograd.grad(result, leaf, retain_graph=True)
            assert torch.isfinite(gradient).all() and (gradient != 0).any(1).float().mean() > 0.3
            torch.testing.assert_close(gradient.sum(1), torch.zeros(30, dtype=torch.float64), atol=1e-9, rtol=0)


def test_merged_soft_draws_have_a_log_probability_in_their_own_order_alone() -> None:
    """Also in float32, whose rounding weighs counts that are impossible before a group of size 0."""
    m, n, generator = torch.tensor([0, 3, 2]), torch.full((500, 1), 3), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64) * 10:
        log_w = 8 * torch.randn(500, 3, dtype=dtype, generator=generator)
        y, x, _, log_p = MVHG(conditionals="merged")(m, n, log_w, 0.5, hard=False)
        assert torch.isfinite(log_p).all()
    m, n, log_w = torch.tensor([2, 3, 2]), torch.full((200, 1), 4), torch.zeros(200, 3, dtype=torch.float64)
    for _ in range(8):
        y, x, _, _ = MVHG(conditionals="merged")(m, n, log_w, 0.8, hard=False)
        try:
            found = MVHG(conditionals="merged").get_log_probs(m, n, x, y, log_w)
        except ValueError as error:
            assert "in its own order, which forward returns" in str(error)
            break
        assert torch.isfinite(found).all()  # drawn in the groups' order
    else:
        raise AssertionError("no order but the groups' own")


@both
def test_one_group_takes_all_and_has_a_gradient(conditionals: str) -> None:
    log_w = torch.zeros(2, 1, requires_grad=True)
    for hard in (True, False):
        log_p = MVHG(conditionals=conditionals)(torch.tensor([6]), 2, log_w, 0.5, hard=hard)[3]
        assert log_p.tolist() == [0, 0]
        (gradient,) = torch.autograd.grad(log_p.sum(), log_w)
        torch.testing.assert_close(gradient, torch.zeros(2, 1), rtol=0, atol=1e-6)


@both
def test_a_part_of_a_draw_may_be_one_for_the_whole_batch(conditionals: str) -> None:
    module, m, log_w = MVHG(conditionals=conditionals), torch.tensor([3, 5, 4]), torch.tensor([[0.0, 1.0, -1.0]] * 2)
    y, x, _, _ = module(m, 5, log_w[:1], 0.5)
    every = ([part.expand(2, -1, -1) for part in parts] for parts in (x, y))
    mixed = ([parts[0], *(part.expand(2, -1, -1) for part in parts[1:])] for parts in (x, y))
    torch.testing.assert_close(module.get_log_probs(m, 5, *mixed, log_w), module.get_log_probs(m, 5, *every, log_w))


def test_gradients_of_log_probabilities_are_those_of_differences() -> None:
    m, n = torch.tensor([2, 3, 2]), torch.tensor([[4], [3]])
    generator = torch.Generator().manual_seed(0)
    for conditionals in ("exact", "merged"):
        log_w = torch.randn(2, 3, dtype=torch.float64, generator=generator)
        torch.manual_seed(0)
        y, x, _, _ = MVHG()(m, n, log_w, 0.8, hard=False)  # merged soft draws can leave what can be reached
        module = MVHG(conditionals=conditionals)

        def value(weights: Tensor, module: MVHG = module, x: list[Tensor] = x, y: list[Tensor] = y) -> Tensor:
            return module.get_log_probs(m, n, x, y, weights)

        assert torch.autograd.gradcheck(value, (log_w.requires_grad_(),))


def test_totals_and_temperatures_may_differ_within_the_batch() -> None:
    torch.manual_seed(0)
    log_w = torch.randn(4, 3)
    n = torch.tensor([[0.0], [5.0], [12.0], [7.0]])  # the authors' callers give whole floats
    _, x, _, log_p = MVHG(device="cpu", eps=1e-20)(torch.tensor([3.0, 5.0, 4.0]), n, log_w, torch.full((4, 1, 1), 0.5))
    assert torch.equal(sum(x).squeeze(-1), n)
    assert log_p[[0, 2]].abs().max() < 1e-6 and (log_p[[1, 3]] < 0).all()
    for shape in ((), (1,), (1, 1)):
        _, x, _, _ = MVHG()([3, 5, 4], torch.full(shape, 6), log_w, torch.tensor(0.5))
        assert (sum(x) == 6).all()


def test_numbers_keep_their_digits() -> None:
    """As float32, torch's default, the size would be one less."""
    y, _, _, _ = MVHG()([16_777_217.0, 5], 2.0, torch.zeros(1, 2), 0.5)
    assert y[0].shape == (1, 1, 16_777_218)


class PartitionClient:
    """What a user of the interface does with it: counts choose how many places of a relaxed order a group takes."""

    def __init__(self, elements: int, groups: int) -> None:
        self.module, self.elements, self.groups = MVHG(device="cpu"), elements, groups

    def __call__(self, scores: Tensor, log_omega: Tensor, tau: float) -> tuple[Tensor, Tensor, Tensor]:
        sizes = torch.full((self.groups,), float(self.elements))
        total = torch.full((len(scores), 1), float(self.elements))
        _, x, y_mask, log_p = self.module(sizes, total, log_omega, tau, add_noise=True, hard=True)
        filled = torch.cat(y_mask, dim=1)[:, :, 1:]
        counts = torch.cat(x, dim=1).squeeze(-1)
        starts = (counts.cumsum(1) - counts).long()
        places = torch.arange(self.elements) - starts.unsqueeze(-1)  # rolled right to where the group starts
        moved = filled.gather(2, places.clamp(min=0)) * (places >= 0)
        noisy = scores - torch.empty_like(scores).exponential_().log()
        logits = -(noisy.sort(dim=1, descending=True).values.unsqueeze(2) - noisy.unsqueeze(1)).abs() / tau
        soft = logits.softmax(-1)
        hard = torch.nn.functional.one_hot(noisy.argsort(dim=1, descending=True), self.elements).to(soft)
        return moved @ (hard - soft.detach() + soft), counts, log_p


def test_a_client_trains_a_small_partition_without_a_nan() -> None:
    torch.manual_seed(0)
    target = torch.zeros(2, 8)
    target[0, :2], target[1, 2:] = 1, 1
    scores, log_omega = torch.zeros(16, 8, requires_grad=True), torch.zeros(16, 2, requires_grad=True)
    optimiser = torch.optim.Adam([scores, log_omega], lr=0.05)
    client, losses = PartitionClient(8, 2), []
    for step in range(300):
        partition, counts, log_p = client(scores, log_omega, tau=max(0.1, 0.99**step))
        assert torch.equal(partition.sum(-1).round(), counts) and torch.isfinite(log_p).all()
        torch.testing.assert_close(partition.sum(1), torch.ones(16, 8))
        loss = (partition - target).square().sum((1, 2)).mean()
        optimiser.zero_grad()
        loss.backward()
        assert torch.isfinite(scores.grad).all() and torch.isfinite(log_omega.grad).all()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])


M, N, W = torch.tensor([3, 5, 4]), torch.full((2, 1), 5), torch.zeros(2, 3)
ONE_EACH = one_hots(np.array([[1, 2, 2], [3, 2, 0]]), (3, 5, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MVHG(conditionals="both"), "conditionals must be 'exact' or 'merged', got 'both'"),
        (lambda: MVHG()(M, N, torch.zeros(3), 0.5), r"log_w_all must be .* \[batch, groups\], got shape \(3,\)"),
        (lambda: MVHG()(M, N, [[0, 0, 0]], 0.5), "got list"),
        (lambda: MVHG()(M[:2], N, W, 0.5), r"m_all must hold one size a group: got shape \(2,\)"),
        (lambda: MVHG()(M + 0.5, N, W, 0.5), r"m_all must be whole numbers.*3.5, 5.5, 4.5"),
        (lambda: MVHG()(M, torch.ones(3, 1), W, 0.5), r"n must have shape \[2, 1\].*got \(3, 1\)"),
        (lambda: MVHG()(M, N - 9, W, 0.5), "n must be whole numbers, 0 or more"),
        (lambda: MVHG()("ab", N, W, 0.5), "m_all must be numbers or a tensor, got 'ab'"),
        (lambda: MVHG()([[3], [5, 4]], N, W, 0.5), "m_all must be numbers or a tensor"),
        (lambda: MVHG()(M + 0j, N, W, 0.5), "m_all must be whole numbers, got dtype torch.complex64"),
        (lambda: MVHG()(M.float().requires_grad_(), N, W, 0.5), "m_all must be whole numbers, which have no gradient"),
        (lambda: MVHG()(M, None, W, 0.5), "n must be numbers or a tensor, got None"),
        (lambda: MVHG()(M, N * 9, W, 0.5), r"^n must not exceed the number of elements, sum\(m_all\)"),
        (lambda: MVHG()(M, N[:1] * 9, W, 0.5), r"^n must not exceed the number of elements, sum\(m_all\)"),
        (lambda: MVHG()(M, N * torch.tensor([[1], [9]]), W, 0.5), "^n must not exceed the number of elements"),
        (lambda: MVHG()(M, N, W * float("nan"), 0.5), "^log_w_all must be finite"),
        (lambda: MVHG()(M, N, W + 2e12, 0.5), "^log_w_all must be finite, between"),
        (lambda: MVHG()(M, N, W.half(), 0.5), r"^log_w_all must be float32 or float64.*log_w_all.float\(\)"),
        (lambda: MVHG()(M, N, W.to_sparse(), 0.5), "^log_w_all must be a dense tensor"),
        (lambda: MVHG().get_log_probs(M, N, *ONE_EACH, W.half()), "^log_w_all must be float32 or float64"),
        (lambda: MVHG().get_log_probs(M, N, *ONE_EACH, W / 0), "^log_w_all must be finite"),
        (lambda: MVHG()([2**52] * 3, N, W, 0.5), r"^m_all must sum to at most 2\^53 - 1"),
        (lambda: MVHG()([2**40] * 3, 2**40, W, 0.5), "vectors of .*: m_all up to"),
        (lambda: MVHG()(M, N, W, 0.0), "temperature must be positive"),
        (lambda: MVHG()(M, N, W, torch.ones(3)), r"temperature must be a number or have 2 entries"),
        (lambda: MVHG().get_log_probs(M, N, [N] * 2, [N] * 3, W), "x_all must hold one tensor a group: got 2 for 3"),
        (
            lambda: MVHG().get_log_probs(M, N, None, [N] * 3, W),
            "x_all must hold one tensor a group: got NoneType for 3",
        ),
        (lambda: MVHG().get_log_probs(M, N, [[[1]]] * 3, [N] * 3, W), r"x_all\[0\] must be a tensor .*, got list"),
        (lambda: MVHG().get_log_probs(M, N, [N] * 3, [N] * 3, W), r"x_all\[0\] must be a tensor of shape \[2, 1, 1\]"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize(
    ("vector", "least", "whole"),
    [
        ([0.0, 1, 0, 0], 0, None),
        ([0.25, 0.5, 0.25, 0], 0, None),
        ([-1e-4, 1.0001, 0, 0], 0, None),
        ([1.0, 1, 0, 0], 0, 2),
        ([1.5, -0.5, 0, 0.5], -0.5, 1.5),
        ([-3.0, 1, 0, 0], -3, -2),
        ([0.5, -0.5, 1.0, 0], -0.5, 1),
        ([0.0, 0, 0.5, 0], 0, 0.5),
        ([float("nan"), 1, 0, 0], float("nan"), float("nan")),
    ],
)
def test_vectors_are_probabilities(vector: list[float], least: float, whole: float | None, conditionals: str) -> None:
    """Of all these the mean is a count of the first group: 1 element, or undefined."""
    x, y = one_hots(np.array([[1, 2, 2], [1, 2, 2]]), (3, 5, 4))
    y[0] = y[0].clone()
    y[0][1, 0] = torch.tensor(vector, dtype=torch.float64)
    module = MVHG(conditionals=conditionals)
    if whole is None:
        assert torch.isfinite(module.get_log_probs(M, N, x, y, W)).all()
        return
    message = rf"^y_all\[0\] must be .*: row 1 has a least entry of {least:.6g} and sums to {whole:.6g}$"
    with pytest.raises(ValueError, match=message):
        module.get_log_probs(M, N, x, y, W)


def test_counts_that_are_not_the_vectors_are_refused() -> None:
    x, y = one_hots(np.array([[1, 2, 2], [3, 2, 0]]), (3, 5, 4))
    with pytest.raises(ValueError, match=r"x_all\[1\] must be the counts of y_all\[1\], not off by 1"):
        MVHG().get_log_probs(M, N, [x[0], x[1] + 1, x[2]], y, W)
    with pytest.raises(ValueError, match="x_all must sum to n: row 0 sums to 5"):
        MVHG().get_log_probs(M, N + 1, x, y, W)
