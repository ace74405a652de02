"""What a caller gives stays what it is: precision, types, validation that stays on, messages, contract."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import mvhg
from tests import oracle
from tests.mvhg.helpers import EXACT, HARD, SOFT, assert_accurate, generator

DOUBLE = torch.float64


def test_soft_draws_lie_in_their_support() -> None:
    law = SOFT(0.3, 25, [6, 10, 4, 6], log_weights=torch.tensor([20.0, 3.0, -8.0, 3.0], dtype=DOUBLE))
    assert law.support.check(law.rsample((500,), generator=generator(1))).all()
    assert law.support.check(torch.tensor([6, 10, 4, 5])) and not law.support.check(torch.tensor([6, 10, 4, 6]))


def test_whole_counts_beyond_float32() -> None:
    law = EXACT(16_777_219, [16_777_217, 5], log_weights=torch.zeros(2))
    draws = law.sample((200,), generator=generator(2))
    assert draws.dtype == torch.float32 and law.support.check(draws).all() and law.log_prob(draws).isfinite().all()
    off_by_one = EXACT(100_000, [100_000] * 3, validate_args=False)
    assert off_by_one.log_prob(torch.tensor([33334.0, 33334.0, 33333.0])) == -torch.inf
    for impossible in ([16_777_218, 1], [16_777_219, 0], [16_777_216, 2]):
        assert not law.support.check(torch.tensor(impossible))
        with pytest.raises(ValueError, match="sum to total_count"):
            law.log_prob(torch.tensor(impossible))
    law = EXACT(16_777_221, [16_777_217, 5], log_weights=torch.tensor([30.0, 0.0], dtype=DOUBLE))
    own = law.sample((20,), generator=generator(2))
    assert (own == torch.tensor([16_777_217, 4])).all() and law.support.check(own).all()
    # The nearest float32 to the size is one more than it.
    law = EXACT(16_777_221, [16_777_219, 5], log_weights=torch.zeros(2, dtype=DOUBLE))
    assert not law.support.check(torch.tensor([16_777_220.0, 1.0], dtype=DOUBLE))
    law = EXACT(16_777_219, [16_777_217, 5], log_weights=torch.zeros(2))
    assert law.support.check(torch.tensor([16_777_217, 2]))
    assert not law.support.check(torch.tensor([16_777_218.0, 1.0]))


@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=str)
def test_numbers_keep_their_digits_whatever_the_default_dtype(default: torch.dtype) -> None:
    torch.set_default_dtype(default)
    assert EXACT(16_777_217.0, [16_777_217, 5]).total_count == 16_777_217
    assert EXACT(5, [16_777_217.0, 5.0]).group_sizes.tolist() == [16_777_217, 5]
    for temperature in (0.1, 1e-50, 1e50):
        law = HARD(temperature, 5, [3, 5, 4])
        assert law.temperature.dtype == DOUBLE and float(law.temperature) == temperature == law._host_temperature
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        HARD(1e-320, 5, [3, 5, 4])
    # The ratio is 1e-50, which float32 has not: the second group is drawn alone, and 5e-51 of the first one with it.
    law = EXACT(1, [1, 2], weights=[1e-50, 1.0])
    assert law.mean.dtype == default
    assert_accurate(law.log_partition, math.log(2.0), 1e-6)
    assert float(law._law()[1][0]) == math.log(1e-50)
    for weights in ([0.1, 0.2, 0.7], np.array([0.1, 0.2, 0.7]), (0.1, 0.2, 0.7)):
        law = EXACT(5, [3, 5, 4], weights=weights)
        assert_accurate(law._law()[1], np.log([0.1, 0.2, 0.7]), 1e-15)
    assert EXACT(5, [3, 5, 4], weights=np.array([1.0, 2, 3], dtype=np.float32)).mean.dtype == torch.float32
    assert EXACT(5, [3, 5, 4], weights=[1.0, 2, 3]).weights.dtype == default


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list, tuple])
def test_what_is_given_on_the_host_is_known_there(kind: Any) -> None:
    law = EXACT(5, kind([3, 5, 4]), validate_args=False)
    assert law._known_bounds is not None
    assert law._bounds[:5] == (5, 12, 5, (3, 5, 4), 5)
    assert law.expand((2, 7))._known_bounds == law._known_bounds
    law = EXACT(torch.tensor([5, 3]), kind([[3, 5, 4], [2, 2, 2]]), validate_args=False)
    assert law._known_bounds is not None and law._bounds[:5] == (5, 12, 5, None, None)
    assert law.expand((6, 2))._known_bounds == law._known_bounds


@pytest.mark.parametrize("name", [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)])
def test_sizes_and_totals_of_integer_types(name: str) -> None:
    dtype = getattr(torch, name)
    law = EXACT(torch.tensor([5, 6], dtype=dtype), torch.tensor([[3, 5, 4], [2, 2, 2]], dtype=dtype))
    assert torch.equal(law.mean, EXACT(torch.tensor([5, 6]), torch.tensor([[3, 5, 4], [2, 2, 2]])).mean)
    assert torch.equal(EXACT(5, torch.tensor([3, 5, 4], dtype=dtype)).mean, EXACT(5, [3, 5, 4]).mean)
    with pytest.raises(ValueError, match="total_count"):
        EXACT(torch.tensor(13, dtype=dtype), torch.tensor([3, 5, 4], dtype=dtype))
    fit = mvhg.fit_weights(torch.tensor([[1, 2, 2], [2, 2, 1]], dtype=dtype), torch.tensor([3, 5, 4], dtype=dtype))
    assert torch.equal(fit.log_weights, mvhg.fit_weights([[1, 2, 2], [2, 2, 1]], [3, 5, 4]).log_weights)


def test_counts_of_any_type() -> None:
    law = EXACT(2, [1, 1, 1], log_weights=torch.zeros(3, dtype=DOUBLE))
    for dtype in (torch.bool, torch.uint8, torch.uint16, torch.int32, torch.int64, torch.float16, torch.bfloat16):
        assert_accurate(law.log_prob(torch.tensor([1, 1, 0]).to(dtype)), -math.log(3))


def test_gradients_reach_lists_of_tensors() -> None:
    for name in ("weights", "log_weights"):
        parts = [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in (0.5, 1.5, 1.0)]
        whole = torch.stack([p.detach() for p in parts]).requires_grad_()
        listed = torch.autograd.grad(EXACT(5, [3, 5, 4], **{name: parts}).log_partition, parts)
        (stacked,) = torch.autograd.grad(EXACT(5, [3, 5, 4], **{name: whole}).log_partition, whole)
        assert_accurate(torch.stack(listed), stacked, 1e-15)
    rows = [[parts[0], 0.25, parts[2]], [0.1, 0.2, parts[1]]]
    law = EXACT(5, [3, 5, 4], log_weights=rows)
    assert law.batch_shape == (2,) and law.mean.dtype == DOUBLE
    assert float(law.log_weights[1, 0].detach()) == 0.1
    assert all(g is not None for g in torch.autograd.grad(law.log_partition.sum(), parts))
    temperature = torch.tensor(0.7, requires_grad=True)
    assert HARD(temperature, 5, [3, 5, 4]).temperature.requires_grad


def test_support_shows_its_name() -> None:
    assert repr(EXACT(3, [3, 4]).support) == "HypergeometricSupport(is_discrete=True)"
    assert repr(SOFT(0.5, 3, [3, 4]).support) == "HypergeometricSupport(is_discrete=False)"
    partition = mvhg.RandomPartition(0.5, torch.zeros(4), torch.zeros(2))
    assert repr(partition.support) == "PartitionSupport(group_sizes=(4, 4))"


VALIDATION = """
import os
import torch, mvhg
from torch.distributions import Distribution
from mvhg import MultivariateHypergeometric as Exact, MultivariateHypergeometricStraightThrough as Hard
def refused(**arguments):
    law = Exact(5, [3, 5, 4], **arguments)
    try:
        law.log_prob(torch.tensor([5.0, 0.0, 0.0]))
    except ValueError:
        return True
    return False
def status(before, after):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert refused() and not refused(validate_args=False)
    exec(before)
    torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1))
    assert not Distribution._validate_args
    exec(after)
    os._exit(0)
assert not any([status(*case) for case in CASES])
"""


def test_validation_stays_as_asked_after_a_compilation() -> None:
    """Each case in a process of its own."""
    cases = [
        ("", "assert refused() and not refused(validate_args=False)"),
        # Before the first compilation only the user can have switched torch's default off.
        ("Distribution.set_default_validate_args(False); assert not refused()", "assert refused(validate_args=True)"),
        ("Exact.set_default_validate_args(False); assert not refused()", "assert not refused()"),
        ("", "Hard.set_default_validate_args(False); assert not refused()"),
    ]
    code = VALIDATION.replace("CASES", repr(cases))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_optimised_python_switches_validation_off() -> None:
    assert EXACT(5, [3, 5, 4])._validate_args
    code = "import mvhg\nprint(mvhg.MultivariateHypergeometric(5, [3, 5, 4])._validate_args)"
    result = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_error_of_a_batch_names_the_row_its_sum_and_the_total() -> None:
    law = EXACT(torch.tensor([5, 6]), [3, 5, 4], log_weights=torch.zeros(4, 2, 3))
    value = law.sample((3,))
    value[1, 2, 1] = torch.tensor([3.0, 1.0, 4.0])
    with pytest.raises(ValueError, match=r"row \(1, 2, 1\) is \[3, 1, 4\] with sum 8, total_count 6"):
        law.log_prob(value)
    with pytest.raises(ValueError, match=r"row \(\) is \[4, 1, 0\] with sum 5, total_count 5"):
        EXACT(5, [3, 5, 4]).log_prob(torch.tensor([4.0, 1.0, 0.0]))


@pytest.mark.parametrize("change", ["no_grad", "data", "copy", "optimizer"])
@pytest.mark.parametrize("name", ["weights", "log_weights"])
@pytest.mark.parametrize("sizes", [[3, 5, 4], [300, 500], [3, 5]])
def test_nothing_goes_stale_when_the_parameter_changes_in_place(change: str, name: str, sizes: list[int]) -> None:
    point = torch.nn.Parameter(torch.linspace(1, 2, len(sizes), dtype=DOUBLE))
    law = EXACT(5, sizes, **{name: point})
    quantities = ("weights", "log_weights", "mean", "variance", "log_partition", "_tilt")
    for quantity in quantities:
        getattr(law, quantity)
    law.entropy()
    moved = torch.linspace(2, 30, len(sizes), dtype=DOUBLE)
    if change == "no_grad":
        with torch.no_grad():
            point.copy_(moved)
    elif change == "data":
        point.data += moved - point.data
    elif change == "copy":
        point.data.copy_(moved)
    else:
        point.grad = point.detach() - moved
        torch.optim.SGD([point], lr=1.0).step()
    fresh = EXACT(5, sizes, **{name: moved})
    for quantity in quantities:
        assert_accurate(getattr(law, quantity), getattr(fresh, quantity), 1e-9)
    assert_accurate(law.entropy(), fresh.entropy())


def test_a_subclass_with_its_own_constructor_must_expand_itself() -> None:
    class Exact(EXACT):
        def __init__(self) -> None:
            super().__init__(5, [3, 5, 4])

    class Hard(HARD):
        def __init__(self) -> None:
            super().__init__(0.5, 5, [3, 5, 4])

    class Soft(SOFT):
        def __init__(self) -> None:
            super().__init__(0.5, 5, [3, 5, 4])

    class Plain(HARD):
        pass

    for kind in (Exact, Hard, Soft):
        with pytest.raises(NotImplementedError, match=f"Subclass {kind.__name__} .*custom .expand"):
            kind().expand((2,))
    assert type(Plain(0.5, 5, [3, 5, 4]).expand((2,))) is Plain


def test_few_draws_from_large_groups_cost_the_draws() -> None:
    law = EXACT(2, [40_000_000, 40_000_000], log_weights=torch.zeros(2, dtype=DOUBLE))
    assert law.enumerate_support().tolist() == [[0, 2], [1, 1], [2, 0]]
    assert EXACT(3, [5, 10**12, 1]).enumerate_support().shape == (7, 3)
    for total, sizes, points in ((10**12, [2 * 10**12], 1), (10**8, [10**9, 1, 1], 4), (2, [0, 10**9, 0], 1)):
        assert EXACT(total, sizes).enumerate_support().shape == (points, len(sizes))
    rest = EXACT(6, [4, 3, 1], log_weights=torch.zeros(3, dtype=DOUBLE)).enumerate_support()
    assert {tuple(x) for x in rest.tolist()} == set(oracle.enumerate_counts(6, (4, 3, 1)))
    m = 40_000_000
    pmf = [0.5 * (m - 1) / (2 * m - 1), m / (2 * m - 1), 0.5 * (m - 1) / (2 * m - 1)]
    assert_accurate(law.entropy(), -sum(p * math.log(p) for p in pmf))
    three = EXACT(2, [m, m, m, 0], log_weights=torch.zeros(4, dtype=DOUBLE))
    same = 3 * (1 / 3) * (m - 1) / (3 * m - 1)  # one of 3 vectors, or one of 3 pairs
    assert_accurate(three.entropy(), -same * math.log(same / 3) - (1 - same) * math.log((1 - same) / 3))
    small = EXACT(2, [4_000_000] * 3, log_weights=torch.zeros(3, dtype=DOUBLE)).marginal_log_probs()
    assert small.shape == (3, 4_000_001) and (small[:, 3:] == -math.inf).all()
    assert_accurate(small[:, :3].exp(), np.tile([4 / 9, 4 / 9, 1 / 9], (3, 1)), 1e-6)
    with pytest.raises(ValueError, match="group_sizes"):
        EXACT(2, [10**9, 5]).marginal_log_probs()
    for law in (EXACT(10**8, [10**9, 10**9]), EXACT(500, [2] * 1000)):  # more vectors than a float holds
        with pytest.raises(ValueError, match="group_sizes"):
            law.enumerate_support()


def test_entropy_and_memory_of_large_urns_go_with_the_spread() -> None:
    law = oracle.tilted_law(100_000, (10**6, 10**6, 10**6), (0.0, 0.5, -0.5))
    ours = EXACT(100_000, [10**6] * 3, log_weights=torch.tensor([0.0, 0.5, -0.5], dtype=DOUBLE))
    assert_accurate(ours.entropy(), law.entropy)


def test_fit_follows_the_device_of_what_is_given() -> None:
    meta = torch.empty(3, device="meta")
    with pytest.raises(Exception) as caught:
        mvhg.fit_weights([[1, 2, 2]], meta)  # nothing can be computed there, but that is where it is asked for
    assert "cpu" not in str(caught.value)
    assert mvhg.fit_weights([[1, 2, 2], [2, 2, 1]], [3, 5, 4]).log_weights.device.type == "cpu"


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.uint16, np.uint32, np.uint64, np.int64, np.float16, np.longdouble], ids=str
)
def test_numpy_of_every_kind(kind: Any) -> None:
    """Numbers, lists of numbers, reversed, big-endian and read-only arrays; weights in the widest kind."""
    sizes = np.array([3, 5, 4], dtype=kind)
    frozen = np.broadcast_to(sizes, (2, 3))
    for given in (sizes, sizes[::-1][::-1], sizes.astype(sizes.dtype.newbyteorder(">")), frozen, list(sizes), [sizes]):
        law = EXACT(kind(5), given, weights=np.array([1, 2, 3], dtype=np.longdouble)[::-1])
        assert law.group_sizes.reshape(-1, 3)[0].tolist() == [3, 5, 4] and int(law.total_count.flatten()[0]) == 5
        assert law.weights.flatten()[:3].tolist() == [3, 2, 1]


def test_numbers_that_no_type_holds() -> None:
    law = EXACT(5, [3, 5, 4], weights=[10**200, 1, 1])
    torch.testing.assert_close(law.mean, torch.tensor([3, 10 / 9, 8 / 9]))
    with pytest.raises(ValueError, match="weights"):
        EXACT(5, [3, 5, 4], weights=[10**400, 1, 1])
    with pytest.raises(ValueError, match="temperature"):
        HARD(10**400, 5, [3, 5, 4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_temperature_of_any_dtype_changed_in_place_counts(dtype: torch.dtype) -> None:
    temperature = torch.tensor(0.5, dtype=dtype)
    law = HARD(temperature, 5, [3, 5, 4], log_weights=torch.zeros(3))
    wide = law.expand((2,))
    temperature.fill_(4.0)
    assert law.temperature.dtype == DOUBLE
    for one in (law, wide):
        assert float(one.temperature) == 4 == one._highest_temperature and "temperature: 4" in repr(one)
    none = HARD(temperature.reshape(1), 5, [3, 5, 4], log_weights=torch.zeros(1, 3)).expand((0, 1))
    assert none.rsample().shape == (0, 1, 3) == none.rsample_selection().counts.shape


def test_sizes_and_totals_changed_in_place_change_no_law() -> None:
    sizes, totals = torch.tensor([[3, 5, 4], [3, 5, 6]]), torch.tensor([5, 4])
    urn = HARD(0.5, totals, sizes, weights=torch.ones(3))
    sizes.fill_(1)
    totals.fill_(9)
    assert urn.group_sizes.tolist() == [[3, 5, 4], [3, 5, 6]] and urn.rsample().sum(-1).tolist() == [5, 4]
