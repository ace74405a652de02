"""Bad input: the message names the argument and says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import Distribution

import mvhg
from tests.mvhg.helpers import EXACT, HARD, SOFT

RELAXED = [SOFT, HARD]
GOOD: dict[str, Any] = {"total_count": 5, "group_sizes": torch.tensor([3, 5, 4])}

NO_GRADIENT = "(group_sizes|total_count) must be whole numbers, which have no gradient"
TOO_MANY = r"group_sizes must .*2\^53 - 1"
# (arguments, what the message must say: the name, then what is wrong or allowed)
BAD = {
    "negative-weight": ({"weights": torch.tensor([1.0, -5.0, 1.0])}, r"(?s)\bweights\b.*(positive|> 0|greater than 0)"),
    "zero-weight": ({"weights": torch.tensor([1.0, 0.0, 1.0])}, r"(?s)\bweights\b.*size.* 0"),
    "nan-weight": ({"weights": torch.tensor([1.0, math.nan, 1.0])}, r"\bweights\b"),
    "infinite-weight": ({"weights": torch.tensor([1.0, math.inf, 1.0])}, r"(?s)\bweights\b.*finite"),
    "nan-log-weight": ({"log_weights": torch.tensor([1.0, math.nan, 1.0])}, r"\blog_weights\b"),
    "infinite-log-weight": ({"log_weights": torch.tensor([1.0, -math.inf, 1.0])}, r"(?s)\blog_weights\b.*finite"),
    "both-weights": ({"weights": torch.ones(3), "log_weights": torch.zeros(3)}, r"(?s)weights.*log_weights.*not both"),
    "negative-total": ({"total_count": -1}, r"\btotal_count\b"),
    "too-large-total": ({"total_count": 13}, r"(?s)\btotal_count\b.*(13|12)"),
    "one-too-large-total": ({"total_count": torch.tensor([5, 13])}, r"(?s)\btotal_count\b.*(13|12)"),
    "fractional-total": ({"total_count": 2.5}, r"(?s)\btotal_count\b.*whole numbers?"),
    "fractional-total-tensor": ({"total_count": torch.tensor(2.5)}, r"(?s)\btotal_count\b.*whole numbers?"),
    "nan-total": ({"total_count": math.nan}, r"\btotal_count\b"),
    "negative-size": ({"group_sizes": torch.tensor([3, -5, 14])}, r"(?s)\bgroup_sizes\b.*-5"),
    "fractional-size": ({"group_sizes": torch.tensor([3.0, 5.5, 4.0])}, r"(?s)\bgroup_sizes\b.*whole numbers?"),
    "nan-size": ({"group_sizes": torch.tensor([3.0, math.nan, 4.0])}, r"\bgroup_sizes\b"),
    "scalar-size": ({"group_sizes": torch.tensor(12)}, r"\bgroup_sizes\b"),
    "wrong-number-of-weights": ({"weights": torch.ones(4)}, r"(?s)\bweights\b.*4"),
    "wrong-number-of-log-weights": ({"log_weights": torch.ones(2)}, r"(?s)log_weights"),
    "wrong-batch": (
        {"total_count": torch.tensor([1, 2]), "weights": torch.ones(5, 3)},
        r"(?s)(total_count|weights).*shape|shape.*(total_count|weights)",
    ),
    "scalar-weights": ({"weights": torch.tensor(1.0)}, r"\bweights\b"),
    "unknown-conditionals": ({"conditionals": "approximate"}, r"(?s)conditionals.*exact.*merged"),
    "order-not-a-permutation": ({"group_order": (0, 0, 1)}, r"(?s)group_order.*permutation"),
    "order-too-short": ({"group_order": (0, 1)}, r"(?s)group_order.*permutation"),
    "order-out-of-range": ({"group_order": (1, 2, 3)}, r"(?s)group_order.*permutation"),
    "size-with-gradient": ({"group_sizes": torch.tensor([3.0, 5.0, 4.0], requires_grad=True)}, NO_GRADIENT),
    "listed-size-with-gradient": ({"group_sizes": [torch.tensor(3.0, requires_grad=True), 5, 4]}, NO_GRADIENT),
    "total-with-gradient": ({"total_count": torch.tensor(5.0, requires_grad=True)}, NO_GRADIENT),
    "huge-population": ({"group_sizes": [2**53 - 1] * 1100}, TOO_MANY),
    "huge-population-in-a-tensor": ({"group_sizes": torch.tensor([2**53 - 1] * 1100)}, TOO_MANY),
    "overflowing-population": ({"group_sizes": [2**62, 2**62]}, TOO_MANY),
    "huge-population-of-floats": ({"group_sizes": torch.tensor([2.0**52, 2.0**52])}, TOO_MANY),
    "size-beyond-every-type": ({"group_sizes": [10**30, 3]}, r"\bgroup_sizes\b"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("sight", ["looking", "looking, validation off", "blind"])
@pytest.mark.parametrize("kind", [EXACT, *RELAXED])
def test_bad_arguments(kind: type, sight: str, name: str, request: pytest.FixtureRequest) -> None:
    """The host checks what it knows even without validation; with it, an accelerator's values are found as well."""
    if sight == "blind":
        request.getfixturevalue("blind")
    arguments, message = BAD[name]
    before = Distribution._validate_args
    temperature = {} if kind is EXACT else {"temperature": 0.5}
    with pytest.raises(ValueError, match=message) as caught:
        kind(**temperature, **(GOOD | arguments), validate_args=False if "off" in sight else None)
    assert len(str(caught.value)) < 600, "one short message"
    assert Distribution._validate_args == before, "torch's own default is left alone"


@pytest.mark.parametrize("kind", RELAXED)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf, torch.tensor(0.0), torch.tensor([0.5, -0.5])])
def test_bad_temperature(kind: type, temperature: Any) -> None:
    for validate_args in (None, False):
        with pytest.raises(ValueError, match=r"(?s)temperature.*(positive|> 0|greater than 0)"):
            kind(temperature, **GOOD, validate_args=validate_args)


@pytest.mark.parametrize(
    "counts",
    [[4, 1, 0], [-1, 3, 3], [1, 1, 1], [1.5, 2.5, 1.0], [math.nan, 2.0, 1.0]],
    ids=["above-size", "negative", "wrong-sum", "fractional", "nan"],
)
@pytest.mark.parametrize("kind", [EXACT, RELAXED[1]])
def test_counts_outside_the_support(kind: type, counts: list[float]) -> None:
    temperature = {} if kind is EXACT else {"temperature": 0.5}
    with pytest.raises(ValueError, match="(?s)group_sizes.*sum to total_count"):
        kind(**temperature, **GOOD, validate_args=True).log_prob(torch.tensor(counts, dtype=torch.float32))


@pytest.mark.parametrize("validate_args", [True, False])
def test_counts_of_the_wrong_shape(validate_args: bool) -> None:
    with pytest.raises(ValueError if validate_args else (ValueError, RuntimeError), match="(?i)size|shape"):
        EXACT(**GOOD, validate_args=validate_args).log_prob(torch.tensor([1.0, 3.0, 1.0, 0.0]))


@pytest.mark.parametrize("kind", [EXACT, *RELAXED])
def test_legal_edges_are_no_errors(kind: type) -> None:
    temperature = {} if kind is EXACT else {"temperature": 0.5}
    for total, sizes in [(0, [3, 5]), (8, [3, 5]), (0, [0]), (3, [3]), (2, [0, 5]), (0, [0, 0, 0]), (5, [0, 5, 0])]:
        distribution = kind(**temperature, total_count=total, group_sizes=torch.tensor(sizes))
        counts = distribution.sample((3,))
        assert counts.shape == (3, len(sizes)) and torch.allclose(counts.sum(-1), torch.tensor(float(total)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_refused_or_right(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).to(dtype)
    try:
        mean = EXACT(**GOOD, log_weights=logits).mean
    except (ValueError, TypeError) as refusal:
        assert "log_weights" in str(refusal)
    else:
        torch.testing.assert_close(mean.float(), EXACT(**GOOD, log_weights=logits.float()).mean, rtol=0.02, atol=0.02)


NOT_DENSE = {
    "sparse": lambda values: values.to_sparse(),
    "compressed": lambda values: values.reshape(1, -1).to_sparse_csr(),
    "mkldnn": lambda values: values.to_mkldnn(),
}
THREE = torch.tensor([3.0, 5.0, 4.0])
LAYOUTS: dict[str, Callable[[Callable[[torch.Tensor], torch.Tensor]], Any]] = {
    "weights": lambda change: EXACT(5, [3, 5, 4], weights=change(THREE)),
    "log_weights": lambda change: EXACT(5, [[3, 5, 4]], log_weights=change(THREE)),
    "group_sizes": lambda change: EXACT(5, change(THREE)),
    "total_count": lambda change: EXACT(change(THREE), [3, 5, 4]),
    "temperature": lambda change: HARD(change(THREE), 5, [3, 5, 4]),
    "value": lambda change: EXACT(12, [3, 5, 4]).log_prob(change(THREE)),
    "log_scores": lambda change: mvhg.RandomPartition(0.5, change(THREE), THREE),
    "log_weights of a partition": lambda change: mvhg.RandomPartition(0.5, THREE, change(THREE)),
    "group_sizes of a partition": lambda change: mvhg.RandomPartition(0.5, THREE, THREE, change(THREE)),
    "value of a partition": lambda change: mvhg.RandomPartition(0.5, THREE[:1], THREE).log_prob(
        change(torch.eye(3)[:1].mT.contiguous())
    ),
    "counts": lambda change: mvhg.fit_weights(change(THREE), [3, 5, 4]),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("validate_args", [True, False])
@pytest.mark.parametrize("layout", NOT_DENSE)
@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_are_dense(name: str, layout: str, validate_args: bool) -> None:
    EXACT.set_default_validate_args(validate_args)
    try:
        with pytest.raises(ValueError, match=f"^{name.split()[0]} must be a(| dense) tensor.*, got (layout|shape)"):
            LAYOUTS[name](NOT_DENSE[layout])
    finally:
        EXACT._validates_by_default = None


def test_whole_sparse_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="^group_sizes must be a dense tensor, got layout torch.sparse_coo$"):
        EXACT(5, torch.tensor([3, 5, 4]).to_sparse())


EIGHT_BITS = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
def test_floats_of_8_bits_are_refused_or_right(dtype: torch.dtype) -> None:
    for make in (
        lambda: HARD(torch.tensor(0.5).to(dtype), **GOOD),
        lambda: SOFT(torch.tensor([0.5, 1.0]).to(dtype), 5, [[3, 5, 4]] * 2),
        lambda: mvhg.RandomPartition(torch.tensor(0.5).to(dtype), torch.zeros(3), torch.zeros(2)),
    ):
        with pytest.raises(ValueError, match=f"^temperature must be .*16 bits or more, got {dtype}$"):
            make()
    partition = mvhg.RandomPartition(0.5, torch.zeros(3), torch.zeros(2))
    value = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]).to(dtype)
    for method in (partition.log_prob, partition.log_prob_bounds):
        with pytest.raises(ValueError, match=f"^value must be a tensor of assignments .*, got dtype {dtype}$"):
            method(value)
    counts = torch.tensor([1.0, 2.0, 2.0])
    assert EXACT(**GOOD).log_prob(counts.to(dtype)) == EXACT(**GOOD).log_prob(counts)


def test_complex_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"value must be a tensor of counts \[..., 3\], got dtype torch.complex64"):
        EXACT(**GOOD).log_prob(torch.tensor([1 + 3j, 2, 2]))


def test_a_default_dtype_that_is_refused_is_named_as_the_default() -> None:
    torch.set_default_dtype(torch.bfloat16)
    for weights in (None, [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="got torch.bfloat16, .* it is torch's default dtype"):
            EXACT(**GOOD, weights=weights)
    assert EXACT(**GOOD, weights=torch.ones(3, dtype=torch.float32)).mean.dtype == torch.float32
    assert mvhg.fit_weights([[1, 2, 2], [2, 2, 1]], [3, 5, 4]).log_weights.dtype == torch.float64
