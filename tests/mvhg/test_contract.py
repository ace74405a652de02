"""The contract of ``torch.distributions.Distribution`` and of torch's transforms."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Distribution, constraints

import mvhg
from tests.mvhg.helpers import EXACT, HARD, SOFT, assert_accurate, compiles_whole, generator

RELAXED = [SOFT, HARD]
KINDS = [EXACT, SOFT, HARD]
SIZES = torch.tensor([3, 5, 4])
LOGITS = torch.tensor([[0.0, 1.6, 0.3], [1.0, -1.0, 0.0]], dtype=torch.float64)

kinds = pytest.mark.parametrize("kind", KINDS)


def build(kind: type, **kwargs: Any) -> Any:
    arguments: dict[str, Any] = {"total_count": 5, "group_sizes": SIZES}
    if "weights" not in kwargs:
        arguments["log_weights"] = LOGITS
    if kind in RELAXED:
        arguments["temperature"] = 0.5
    return kind(**(arguments | kwargs))


def draw(distribution: Any, shape: tuple[int, ...] = (), seed: int = 1) -> torch.Tensor:
    method = distribution.rsample if distribution.has_rsample else distribution.sample
    return method(shape, generator=generator(seed))


@kinds
def test_is_a_distribution(kind: type) -> None:
    distribution = build(kind)
    assert isinstance(distribution, Distribution)
    assert distribution.has_rsample == (kind in RELAXED)
    assert {"total_count", "group_sizes", "weights", "log_weights"} <= set(distribution.arg_constraints)
    for name in distribution.arg_constraints:
        assert hasattr(distribution, name), name
    assert kind.__name__ in repr(distribution)
    assert distribution.support.event_dim == 1


@kinds
def test_positional_arguments_follow_the_documented_order(kind: type) -> None:
    head = (0.5,) if kind in RELAXED else ()
    distribution = kind(*head, 5, SIZES, None, LOGITS, "exact", (2, 1, 0), True)
    assert_accurate(distribution.log_weights, LOGITS)
    assert (draw(distribution).sum(-1) - 5).abs().max() < 1e-9


@kinds
@pytest.mark.parametrize("batch", [(), (2,), (4, 2), (1,), (0,), (2, 0)])
@pytest.mark.parametrize("sizes", [(3, 5, 4), (3, 5), (7,), (0, 0)])
def test_shapes(kind: type, sizes: tuple[int, ...], batch: tuple[int, ...]) -> None:
    """Of empty batches, single groups and empty urns, too, and of the same batch by each of the parameters."""
    groups, most, total = len(sizes), max(sizes), min(5, sum(sizes))
    weights = torch.rand(*batch, groups, generator=generator(2)).requires_grad_()
    laws = [
        build(kind, total_count=total, group_sizes=sizes, weights=weights),
        build(kind, total_count=torch.full(batch, total), group_sizes=sizes, weights=torch.ones(groups)),
        build(kind, total_count=total, group_sizes=sizes, weights=torch.ones(groups)).expand(batch),
    ]
    for law in laws:
        assert law.batch_shape == batch and law.event_shape == (groups,)
        if kind is SOFT:
            continue
        assert law.mean.shape == law.variance.shape == law.mode.shape == (*batch, groups)
        assert law.covariance_matrix.shape == (*batch, groups, groups)
        assert law.entropy().shape == law.log_partition.shape == batch
        assert law.marginal_log_probs().shape == (*batch, groups, most + 1)
    law = laws[0]
    for sample in ((), (7,), (2, 3), (0,)):
        counts = draw(law, sample)
        assert counts.shape == law.sample(sample).shape == law.sample(torch.Size(sample)).shape
        assert counts.shape == (*sample, *batch, groups)
        torch.testing.assert_close(counts.sum(-1), torch.full((*sample, *batch), float(total)))
        if kind is not SOFT:
            assert law.log_prob(counts.detach()).shape == (*sample, *batch)
        if kind in RELAXED:
            for noise in (None, torch.rand(law.noise_shape(sample), dtype=torch.float64)):
                _, one_hot, prefix_mask = law.rsample_selection(sample, noise=noise)
                assert one_hot.shape == (*counts.shape, most + 1)
                assert prefix_mask.shape == (*counts.shape, most) and prefix_mask.requires_grad


@kinds
def test_every_parameter_batches_and_broadcasts(kind: type) -> None:
    distribution = build(
        kind,
        total_count=torch.tensor([[2], [5], [0], [6]]),
        group_sizes=torch.tensor([[3, 5, 4], [2, 2, 2]]),
        log_weights=torch.zeros(3),
    )
    assert distribution.batch_shape == (4, 2)
    counts = draw(distribution, (10,))
    assert counts.shape == (10, 4, 2, 3)
    expected = torch.tensor([2.0, 5.0, 0.0, 6.0])[:, None].expand(10, 4, 2)
    torch.testing.assert_close(counts.sum(-1), expected, atol=1e-5, rtol=0)


@kinds
def test_sizes_may_be_a_list_and_counts_a_float_with_an_integer_value(kind: type) -> None:
    distribution = build(kind, group_sizes=[3, 5, 4], total_count=5)
    same = build(kind, group_sizes=torch.tensor([3.0, 5.0, 4.0]), total_count=torch.tensor(5.0))
    torch.testing.assert_close(draw(distribution, (4,)), draw(same, (4,)))


@kinds
@pytest.mark.parametrize("validate_args", [True, False])
def test_expand(kind: type, validate_args: bool) -> None:
    distribution = build(kind, log_weights=LOGITS[0], validate_args=validate_args)
    expanded = distribution.expand((4, 2))
    assert type(expanded) is kind
    assert expanded.batch_shape == (4, 2) and expanded.event_shape == (3,)
    assert expanded._validate_args == validate_args
    assert draw(expanded, (6,)).shape == (6, 4, 2, 3)
    again = expanded.expand((5, 4, 2))
    assert again.batch_shape == (5, 4, 2)
    if kind is not SOFT:
        assert_accurate(again.mean, distribution.mean.expand(5, 4, 2, 3))
        x = torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64)
        assert_accurate(expanded.log_prob(x), distribution.log_prob(x).expand(4, 2))
        if validate_args:
            with pytest.raises(ValueError):
                expanded.log_prob(x + 1.0)
        else:
            assert (expanded.log_prob(x + 1.0) == -torch.inf).all()


@pytest.mark.parametrize("kind", [EXACT, HARD])
def test_expand_keeps_the_merged_conditionals(kind: type) -> None:
    distribution = build(kind, log_weights=LOGITS[0], conditionals="merged", group_order=(2, 0, 1))
    x = torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64)
    assert_accurate(distribution.expand((2,)).log_prob(x), distribution.log_prob(x).expand(2))


@kinds
def test_expanded_elements_are_drawn_independently(kind: type) -> None:
    counts = draw(build(kind, log_weights=LOGITS[0]).expand((64,)))
    assert (counts != counts[:1]).any()


@kinds
def test_pickle_deepcopy_and_torch_save(kind: type) -> None:
    distribution = build(kind, group_order=(1, 2, 0))
    draw(distribution)  # caches, if any, travel as well
    buffer = io.BytesIO()
    torch.save(distribution, buffer)
    buffer.seek(0)
    copies = [
        pickle.loads(pickle.dumps(distribution)),
        copy.deepcopy(distribution),
        torch.load(buffer, weights_only=False),
    ]
    for other in copies:
        assert type(other) is kind
        torch.testing.assert_close(draw(other, (5,)), draw(distribution, (5,)), rtol=0, atol=0)
        if kind is not SOFT:
            assert_accurate(other.mean, distribution.mean)
            assert_accurate(other.entropy(), distribution.entropy())


def through_a_file(law: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(law, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda law: pickle.loads(pickle.dumps(law)),
    "save": through_a_file,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", [EXACT, HARD, mvhg.MultivariateHypergeometricSecondOrder])
def test_a_copy_whose_weights_are_changed_is_the_law_of_the_changed_ones(kind: type, way: str, sight: None) -> None:
    """Also where values can't be compared, and as many changes in place were made to either tensor."""
    change = torch.tensor([0.0, 3.0, -6.0], dtype=torch.float64)
    for before in range(4):
        weights = torch.zeros(3, dtype=torch.float64)
        for _ in range(before):
            weights.add_(0.0)
        more: dict[str, Any] = {"validate_args": False, "group_sizes": [2000, 3000, 4000], "total_count": 3000}
        law = build(kind, **more, log_weights=weights)
        law.mean, law.sample()  # both of which keep the tilt
        other = COPIES[way](law)
        other.log_weights.add_(change)
        fresh = build(EXACT, **more, log_weights=other.log_weights.clone())
        assert_accurate(other.mean, fresh.mean)
        assert_accurate(other.variance, fresh.variance)


@kinds
def test_draws_follow_the_generator_and_nothing_else(kind: type) -> None:
    distribution = build(kind)
    first = draw(distribution, (50,))
    torch.manual_seed(99)
    np.random.seed(99)
    assert (draw(distribution, (50,)) == first).all()
    assert (draw(distribution, (50,), seed=2) != first).any()
    state = torch.get_rng_state()
    draw(distribution, (50,))
    assert (torch.get_rng_state() == state).all(), "the given generator is used, not the global one"


@kinds
def test_draws_without_a_generator_follow_torchs_seed_and_leave_numpy_alone(kind: type) -> None:
    distribution = build(kind)
    method = distribution.rsample if kind in RELAXED else distribution.sample
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    torch.manual_seed(7)
    first = method((50,))
    np.random.seed(2)
    torch.manual_seed(7)
    assert (method((50,)) == first).all()
    np.random.seed(1)
    assert (np.random.get_state()[1] == before).all()
    torch.manual_seed(8)
    assert (method((50,)) != first).any()


@kinds
@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_have_the_dtype_of_the_weights_whatever_the_default_is(
    kind: type, dtype: torch.dtype, default: torch.dtype
) -> None:
    torch.set_default_dtype(default)
    for arguments in ({"log_weights": LOGITS.to(dtype)}, {"weights": LOGITS.to(dtype).exp()}):
        distribution = build(kind, **arguments)
        values = [draw(distribution), distribution.sample(), distribution.weights, distribution.log_weights]
        if kind is not SOFT:
            values += [distribution.mean, distribution.variance, distribution.covariance_matrix, distribution.mode]
            values += [distribution.entropy(), distribution.log_partition, distribution.marginal_log_probs()]
            values += [distribution.log_prob(distribution.mode), distribution.enumerate_support()]
        if kind in RELAXED:
            values += list(distribution.rsample_selection())
        assert {value.dtype for value in values} == {dtype}


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_do_not_depend_on_the_default_dtype(kind: type, dtype: torch.dtype) -> None:
    results = []
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        distribution = build(kind, log_weights=LOGITS.to(dtype))
        results.append(
            [draw(distribution, (5,))] + ([] if kind is SOFT else [distribution.mean, distribution.entropy()])
        )
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@kinds
def test_without_weights_the_default_dtype_is_used(kind: type) -> None:
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        assert draw(build(kind, log_weights=None)).dtype == dtype


def test_support() -> None:
    distribution = build(EXACT, total_count=torch.tensor([5, 3]))
    inside = torch.tensor([[1.0, 3.0, 1.0], [3.0, 0.0, 0.0]])
    assert distribution.support.check(inside).tolist() == [True, True]
    for bad in ([4.0, 1.0, 0.0], [-1.0, 5.0, 1.0], [1.5, 2.5, 1.0], [1.0, 1.0, 1.0], [float("nan"), 3.0, 1.0]):
        assert not bool(distribution.support.check(torch.tensor([bad, [3.0, 0.0, 0.0]]))[0]), bad
    assert isinstance(distribution.support, constraints.Constraint)
    assert distribution.support.is_discrete


@pytest.mark.parametrize("kind", [EXACT, HARD])
def test_independent_wraps_it(kind: type) -> None:
    independent = torch.distributions.Independent(build(kind), 1)
    x = torch.tensor([[1.0, 3.0, 1.0], [2.0, 2.0, 1.0]], dtype=torch.float64)
    assert_accurate(independent.log_prob(x), build(kind).log_prob(x).sum())
    assert_accurate(independent.entropy(), build(kind).entropy().sum())


def single(logits: torch.Tensor, kind: type = EXACT) -> Any:
    return build(kind, log_weights=logits, validate_args=False)


VMAPPED = {
    "log_prob": lambda w: single(w).log_prob(torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64)),
    "mean": lambda w: single(w).mean,
    "log_partition": lambda w: single(w).log_partition,
    "entropy": lambda w: single(w).entropy(),
    "covariance_matrix": lambda w: single(w).covariance_matrix,
    "marginal_log_probs": lambda w: single(w).marginal_log_probs(),
}


@pytest.mark.parametrize("name", VMAPPED)
def test_vmap_over_log_weights(name: str) -> None:
    """Of values, and of the gradients of those that are numbers."""
    function = VMAPPED[name]
    values = [function(row) for row in LOGITS]
    assert_accurate(torch.func.vmap(function)(LOGITS), torch.stack(values), 1e-12)
    if values[0].dim() == 0:
        gradients = torch.func.vmap(torch.func.grad(function))(LOGITS)
        for row, gradient in zip(LOGITS, gradients):
            point = row.clone().requires_grad_()
            assert_accurate(gradient, torch.autograd.grad(function(point), point)[0], 1e-12)


ASSIGNMENT = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
WITHIN_VMAP: dict[str, tuple[Any, torch.Tensor]] = {
    "log_weights": (lambda w, **more: build(EXACT, log_weights=w, **more).mean, LOGITS),
    "weights": (lambda w, **more: build(EXACT, weights=w, **more).mean, LOGITS.exp()),
    "value": (
        lambda x, **more: build(EXACT, log_weights=LOGITS[0], **more).log_prob(x),
        torch.tensor([[1.0, 3.0, 1.0], [2.0, 2.0, 1.0]]),
    ),
    "group_sizes": (lambda m, **more: build(EXACT, group_sizes=m, log_weights=LOGITS[0], **more).mean, SIZES[None]),
    "temperature": (
        lambda t, **more: build(HARD, temperature=t, log_weights=LOGITS[0], **more).rsample().sum(),
        torch.tensor([0.5, 1.0]),
    ),
    "log_scores": (
        lambda s, **more: mvhg.RandomPartition(0.5, s, LOGITS[0, :2], **more).log_prob(ASSIGNMENT),
        LOGITS,
    ),
    "assignment": (
        lambda x, **more: mvhg.RandomPartition(0.5, LOGITS[0], LOGITS[0, :2], **more).log_prob(x),
        ASSIGNMENT.expand(2, 2, 3),
    ),
}


@pytest.mark.parametrize("name", WITHIN_VMAP)
def test_vmap_says_that_values_cannot_be_checked_within(name: str) -> None:
    function, given = WITHIN_VMAP[name]
    with pytest.raises(ValueError, match="within torch.func.vmap pass validate_args=False$"):
        torch.func.vmap(function, randomness="different")(given)
    found = torch.func.vmap(functools.partial(function, validate_args=False), randomness="different")(given)
    assert_accurate(found, torch.stack([function(one) for one in given]), 1e-6)


def test_vmap_over_sizes_that_must_be_read_says_so() -> None:
    with pytest.raises(ValueError, match="^group_sizes and total_count must have values here, .* by torch.func.vmap"):
        torch.func.vmap(lambda m: build(EXACT, group_sizes=m, log_weights=None, validate_args=False).entropy())(
            SIZES[None]
        )


@pytest.mark.parametrize("shape", [(), (4,)])
def test_vmap_of_straight_through_draws(shape: tuple[int, ...]) -> None:
    counts = torch.func.vmap(lambda w: single(w, HARD).rsample(shape), randomness="different")(LOGITS)
    assert counts.shape == (2, *shape, 3) and (counts.sum(-1) == 5).all()


@pytest.mark.filterwarnings("default")
@compiles_whole
def test_compile_of_rsample() -> None:
    torch._dynamo.reset()
    point = LOGITS.clone().requires_grad_()
    counts = torch.compile(lambda w: single(w, HARD).rsample((8,)), backend="aot_eager")(point)
    assert counts.shape == (8, 2, 3)
    torch.testing.assert_close(counts.sum(-1), torch.full((8, 2), 5.0, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (counts == counts.round()).all()
    counts[..., 0].sum().backward()
    assert torch.isfinite(point.grad).all() and point.grad.abs().max() > 1e-3


@kinds
def test_no_grad_inputs_give_no_grad_outputs(kind: type) -> None:
    assert not draw(build(kind)).requires_grad
    drawn = build(kind, log_weights=LOGITS.clone().requires_grad_()).sample((50,), generator=generator(17))
    assert not drawn.requires_grad
    if kind is HARD:
        assert torch.equal(drawn, build(EXACT).sample((50,), generator=generator(17)))


def test_every_public_name_is_documented() -> None:
    assert mvhg.__version__
    assert {kind.__name__ for kind in KINDS} | {"fit_weights", "ExponentialAnnealing"} <= set(mvhg.__all__)
    for name in mvhg.__all__:
        if not name.startswith("_"):
            assert (getattr(mvhg, name).__doc__ or "").strip(), name
    for kind in KINDS:
        for name, member in vars(kind).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert (member.__doc__ or "").strip() or hasattr(Distribution, name), f"{kind.__name__}.{name}"
