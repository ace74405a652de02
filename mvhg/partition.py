"""Random partitions in two stages: sizes by the hypergeometric law, members by a Plackett-Luce order."""

import contextlib
from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from mvhg._asked import given_noise, sample_size
from mvhg._assignment import RELAXATIONS, assign
from mvhg._given import TensorLike, check_layout, is_8_bit
from mvhg._once import once_only
from mvhg._plackett_luce import log_order_probability, log_partition_probability
from mvhg._validation import as_temperature, can_look, can_read, describe, is_true, validates
from mvhg.distribution import MultivariateHypergeometric
from mvhg.relaxed import MultivariateHypergeometricStraightThrough


class LogProbBounds(NamedTuple):
    """Bounds of a log-probability, [...] each."""

    lower: Tensor
    upper: Tensor


class PartitionSupport(constraints.Constraint):
    """Assignments [..., c, N] of 0 and 1 in which every element has one group, of at most ``group_sizes`` [c]."""

    is_discrete = True
    event_dim = 2

    def __init__(self, group_sizes: Sequence[int]) -> None:
        self.group_sizes = tuple(group_sizes)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each assignment of ``value`` lies in the support, bool [...]."""
        sizes = torch.tensor(self.group_sizes, device=value.device)
        whole = ((value == 0) | (value == 1)).all(-1).all(-1)
        value = value.double()  # of any dtype
        return whole & (value.sum(-2) == 1).all(-1) & (value.sum(-1) <= sizes).all(-1)

    def __repr__(self) -> str:
        return f"PartitionSupport(group_sizes={self.group_sizes})"


class RandomPartition(Distribution):
    r"""A differentiable random partition of N elements into c groups that are named and may be empty.

    How many elements each group gets is a draw of ``MultivariateHypergeometric`` with ``log_weights``; which ones, an
    order drawn by Plackett and Luce's law with ``log_scores``, of which group 0 takes the first elements, group 1 the
    next ones, and so on. With two groups this selects elements: row 0 of a draw marks the k highest, k being random, or
    given by ``group_sizes=[k, N - k]``.

    ``rsample`` gives whole assignments forward. Backward, sizes are differentiated as straight-through draws, and the
    order as NeuralSort, of which an element's weights may sum to more than 1; ``relaxation="normalised"`` divides by
    that sum, ``"paper"`` cuts weights off at 1, as the authors do. Memory goes with the result.

    The log-probability of an assignment sums over all orders that lead to it. Here that sum is an integral for each
    group, and exact for any N; ``log_prob_bounds`` are bounds in closed form, closer than the authors'.

    Example::

        >>> log_weights, log_scores = torch.zeros(3, requires_grad=True), torch.randn(8, requires_grad=True)
        >>> partition = RandomPartition(0.5, log_scores, log_weights)
        >>> assignment = partition.rsample()  # [3, 8], one 1 in each column
        >>> assignment[0, :4].sum().backward()

    Args:
        temperature: of both relaxations, a positive number or what holds one, which is not differentiated.
        log_scores: of the elements, [..., N], float32 or float64; high ones tend to come first.
        log_weights: of the groups, [..., c], float32 or float64.
        group_sizes: the most elements a group can take, c whole numbers; None is N for each.
        relaxation: ``"normalised"`` or ``"paper"``.
        validate_args: whether to check arguments on an accelerator, by a read each, and assignments given to
            ``log_prob``; what is on the host is checked in any case. None is ``MultivariateHypergeometric``'s default.

    Raises:
        ValueError: naming the argument, its shape and the bad values.

    References:
        T. M. Sutter, A. Ryser, J. Liebeskind, J. E. Vogt, Differentiable random partition models, 2023; A. Grover,
        E. Wang, A. Zweig, S. Ermon, Stochastic optimization of sorting networks via continuous relaxations, 2019.
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "log_scores": constraints.independent(constraints.real, 1),
        "log_weights": constraints.independent(constraints.real, 1),
    }

    def __init__(
        self,
        temperature: TensorLike,
        log_scores: Tensor,
        log_weights: Tensor,
        group_sizes: Sequence[int] | None = None,
        relaxation: str = "normalised",
        validate_args: bool | None = None,
    ) -> None:
        validate = validates(validate_args, MultivariateHypergeometric._validates_by_default)
        for name, value in (("log_scores", log_scores), ("log_weights", log_weights)):
            _check_values(name, value, validate)
        one, number = as_temperature(temperature)
        if one is not None and one.numel() != 1:
            raise ValueError(f"temperature must be one number, got a tensor of shape {tuple(one.shape)}")
        if log_scores.device != log_weights.device:
            raise ValueError(f"log_scores are on {log_scores.device} and log_weights on {log_weights.device}")
        if relaxation not in RELAXATIONS:
            raise ValueError(f"relaxation must be one of {', '.join(RELAXATIONS)}, got {relaxation!r}")
        elements, groups = log_scores.shape[-1], log_weights.shape[-1]
        sizes = [elements] * groups if group_sizes is None else _numbers(group_sizes)
        if len(sizes) != groups:
            raise ValueError(f"group_sizes must hold one number a group: got {len(sizes)} for {groups} log_weights")
        if all(isinstance(size, Real) and float(size) >= 0 for size in sizes) and sum(sizes) < elements:
            raise ValueError(f"group_sizes must hold at least the {elements} elements of log_scores, got {sizes}")
        try:
            batch = torch.broadcast_tensors(log_scores[..., 0], log_weights[..., 0])[0].shape
        except RuntimeError:
            raise ValueError(
                f"log_scores of shape {tuple(log_scores.shape)} and log_weights of shape {tuple(log_weights.shape)} do "
                "not broadcast in all but their last dimensions"
            ) from None
        self.temperature: Any = number if one is None else one.detach().reshape(())
        self.relaxation = relaxation
        # Expanding makes a non-leaf, which cannot be deep-copied.
        self.log_scores, self.log_weights = (
            given if given.shape[:-1] == batch else given.expand(*batch, -1) for given in (log_scores, log_weights)
        )
        self.group_sizes = tuple(sizes)
        self._sizes_drawn(validate)  # whose arguments are checked there
        super().__init__(batch, torch.Size((groups, elements)), validate_args=False)
        self._validate_args = validate

    @constraints.dependent_property(is_discrete=True, event_dim=2)
    def support(self) -> constraints.Constraint:
        return PartitionSupport(self.group_sizes)

    @property
    def counts(self) -> MultivariateHypergeometric:
        """The law of the groups' sizes."""
        return MultivariateHypergeometric(
            self.log_scores.shape[-1], list(self.group_sizes), log_weights=self.log_weights, validate_args=False
        )

    def _sizes_drawn(self, validate_args: bool = False) -> MultivariateHypergeometricStraightThrough:
        return MultivariateHypergeometricStraightThrough(
            self.temperature,
            self.log_scores.shape[-1],
            list(self.group_sizes),
            log_weights=self.log_weights,
            validate_args=validate_args,
        )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "RandomPartition":
        new = self._get_checked_instance(RandomPartition, _instance)
        batch = torch.Size(batch_shape)
        new.temperature, new.relaxation, new.group_sizes = self.temperature, self.relaxation, self.group_sizes
        new.log_scores = self.log_scores.expand(*batch, -1)
        new.log_weights = self.log_weights.expand(*batch, -1)
        super(RandomPartition, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = torch.Size(), *, generator: torch.Generator | None = None) -> Tensor:
        """As ``rsample``, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def rsample(
        self,
        sample_shape: Sequence[int] = torch.Size(),
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Assignments [sample_shape, batch, c, N] in the dtype of the log scores: 1 where the group has the element.

        Every column sums to exactly 1. Differentiable once, in ``log_scores`` and ``log_weights``.

        Args:
            sample_shape: shape of independent draws.
            generator: source of randomness on the scores' device; torch's default if None.
            noise: what to draw by instead, uniform on [0, 1) and of shape ``noise_shape(sample_shape)``, float64 on the
                scores' device.

        Raises:
            TypeError: for a sample shape that is no sequence of numbers.
            ValueError: for noise of another shape, type or device or, with ``validate_args``, outside [0, 1).
        """
        sample_shape = sample_size(sample_shape)
        shape = self._extended_shape(sample_shape)
        groups, elements = self.event_shape
        sizes, of_sizes, uniform = self._sizes_drawn(), None, None
        if noise is not None:
            device = self.log_scores.device
            noise = given_noise(noise, lambda: self.noise_shape(sample_shape), device, self._validate_args)
            of_sizes, uniform = noise[..., :-elements], noise[..., -elements:].reshape(-1, elements)
        drawn = sizes.rsample_selection(sample_shape, generator=generator, noise=of_sizes)
        scores = once_only(self.log_scores).double().expand(*shape[:-2], elements).reshape(-1, elements)
        if uniform is None:  # in double, so that no two are alike
            uniform = torch.rand(scores.shape, dtype=torch.float64, device=scores.device, generator=generator)
        gumbel = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
        mask = drawn.prefix_mask.reshape(len(scores), groups, drawn.prefix_mask.shape[-1]).to(self.log_scores.dtype)
        counts = drawn.counts.reshape(-1, groups)
        temperature = self.temperature.double() if isinstance(self.temperature, Tensor) else self.temperature
        return assign(scores + gumbel, counts, mask, temperature, self.relaxation).reshape(shape)

    def noise_shape(self, sample_shape: Sequence[int] = torch.Size()) -> torch.Size:
        """Shape of the ``noise`` that ``rsample`` takes: [sample, batch, numbers a draw]."""
        of_sizes = self._sizes_drawn().noise_shape(sample_shape)
        return of_sizes[:-1] + (of_sizes[-1] + self.event_shape[1],)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of assignments [..., c, N], exact for any N; [...], the broadcast with the batch shape.

        Differentiable (once in the scores) in ``log_scores`` and ``log_weights``, and not in ``value``.

        Raises:
            ValueError: for a value of another shape, or with ``validate_args`` outside the support.
        """
        log_scores, group, counts, log_sizes = self._read(value)
        members = log_partition_probability(log_scores, group, counts)
        return (log_sizes + members.reshape(log_sizes.shape)).to(self.log_scores.dtype)

    def log_prob_bounds(self, value: Tensor) -> LogProbBounds:
        """Bounds of ``log_prob``, of two orders alone: each group's elements from high to low, and from low to high.

        Of all orders that lead to an assignment the first is the most probable and the second the least, so that their
        number, prod_i n_i!, times their probabilities is an upper and a lower bound; the most probable one by itself is
        a lower bound too. They agree where no group has more than one element, or all scores are alike.

        Raises:
            ValueError: as ``log_prob``.
        """
        log_scores, group, counts, log_sizes = self._read(value)
        high, low = (_log_order(log_scores, group, descending).reshape(log_sizes.shape) for descending in (True, False))
        orders = torch.lgamma(counts.double() + 1).sum(-1).reshape(log_sizes.shape)
        lower, upper = log_sizes + torch.maximum(low + orders, high), log_sizes + high + orders
        return LogProbBounds(lower.to(self.log_scores.dtype), upper.to(self.log_scores.dtype))

    def _read(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log scores [B, N], each element's group [B, N] and the counts [B, c], and log P(counts) [...]."""
        groups, elements = self.event_shape
        if not isinstance(value, Tensor) or value.shape[-2:] != self.event_shape or _cannot_be_summed(value.dtype):
            got = type(value).__name__
            if isinstance(value, Tensor):
                got = f"dtype {value.dtype}" if _cannot_be_summed(value.dtype) else f"shape {tuple(value.shape)}"
            raise ValueError(f"value must be a tensor of assignments [..., {groups}, {elements}], got {got}")
        check_layout("value", value)
        try:
            shape = torch.broadcast_tensors(value[..., 0, 0], self.log_scores[..., 0])[0].shape
        except RuntimeError:
            raise ValueError(
                f"value of shape {tuple(value.shape)} does not broadcast with batch shape {tuple(self.batch_shape)}"
            ) from None
        value = value.detach() if value.is_floating_point() else value.long()  # the widest of all unsigned lack argmax
        if self._validate_args and can_read(value, self.log_scores):
            good = self.support.check(value)
            if not is_true(good.all()):
                row = tuple((~good).nonzero()[0].tolist())
                raise ValueError(
                    "value must hold one 1 in each column and 0 elsewhere, and no more elements in a group than "
                    f"group_sizes {list(self.group_sizes)}: shape {tuple(value.shape)}, not so at {row}"
                )
        group = value.argmax(-2).expand(*shape, elements).reshape(-1, elements)
        counts = value.double().sum(-1).expand(*shape, groups)
        log_scores = self.log_scores.double().expand(*shape, elements).reshape(-1, elements)
        log_weights = self.log_weights.double()
        law = MultivariateHypergeometric(elements, list(self.group_sizes), log_weights=log_weights, validate_args=False)
        return log_scores, group, counts.reshape(-1, groups).long(), law.log_prob(counts)


def _cannot_be_summed(dtype: torch.dtype) -> bool:
    """Whether torch has no sum of 0s and 1s of this dtype, or none that is real."""
    return dtype.is_complex or is_8_bit(dtype)


def _log_order(log_scores: Tensor, group: Tensor, descending: bool) -> Tensor:
    """Log-probability of the order of groups with each group's elements from high to low or from low to high, [B]."""
    by_score = log_scores.detach().argsort(dim=-1, descending=descending, stable=True)
    by_group = group.gather(-1, by_score).argsort(dim=-1, stable=True)
    return log_order_probability(log_scores, by_score.gather(-1, by_group))


def _numbers(group_sizes: Any) -> list[Any]:
    sizes: Any = None
    with contextlib.suppress(TypeError):
        if isinstance(group_sizes, Tensor):
            check_layout("group_sizes", group_sizes)
        sizes = group_sizes.tolist() if isinstance(group_sizes, Tensor) else list(group_sizes)
    if not isinstance(sizes, list) or any(isinstance(size, (list, tuple)) for size in sizes):
        raise ValueError(f"group_sizes must be a sequence of whole numbers, got {group_sizes!r}")
    return sizes


def _check_values(name: str, value: Tensor, check_values: bool) -> None:
    if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[-1] == 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a tensor with entries along its last dimension, got {got}")
    check_layout(name, value)
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be float32 or float64, got {value.dtype}; convert with {name}.float()")
    if can_look(value) or (check_values and can_read(value)):
        bad = ~value.detach().isfinite()
        if is_true(bad.any()):
            raise ValueError(f"{name} must be finite: {describe(value, bad)}")
