"""Fisher's multivariate noncentral hypergeometric distribution."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from mvhg import _entropy, _fisher, _marginals, _moments
from mvhg._asked import check_generator, sample_size
from mvhg._bounds import Bounds
from mvhg._derived import Derived, Kept
from mvhg._enumeration import count_vectors
from mvhg._given import TensorLike
from mvhg._kept import constant
from mvhg._observed import known_inside, off_total
from mvhg._sampling import draw_counts
from mvhg._tilt import solve_tilt
from mvhg._urn import Solution, Urn
from mvhg._validation import broadcast_parameters, can_look, check_conditionals, require_values, validates
from mvhg.constraints import HypergeometricSupport

_MOST_MARGINALS = 100_000_000


class MultivariateHypergeometric(Distribution):
    r"""Number of elements drawn from each group when ``total_count`` are drawn without replacement.

    With m_i elements and importance omega_i in group i, and n draws (paper Def. 3.1, Eq. 1)::

        P(X = x) = prod_i C(m_i, x_i) omega_i^x_i / P_0,    0 <= x_i <= m_i,  sum_i x_i = n

    Only ratios of weights matter. Equal weights give the central multivariate hypergeometric distribution.

    Everything is computed in float64 and returned in the dtype of the weights, by an inversion formula at the saddle
    point whose cost is O(c) for one log-probability, mean or variance, whatever n and m (see ``_bernoulli_sum.py``), or
    for two small groups from a table. Log-probs, ``log_partition``, moments, marginals, entropy and KL divergence are
    differentiable in the weights, to any order.

    Accuracy in float64: 1e-9 * max(1, |value|), and 1e-8 of itself for the mean or variance of a rarely drawn group.

    Sizes and counts given as numbers, lists, NumPy arrays or CPU tensors are known to the host: without validation
    nothing is then read back from the weights' device. Numbers keep their double precision, whatever torch's default
    dtype is; results of weights given as Python numbers have that dtype.

    Example::

        >>> urn = MultivariateHypergeometric(5, group_sizes=[3, 5, 4], weights=torch.tensor([1.0, 2.0, 1.0]))
        >>> urn.sample()
        tensor([1., 3., 1.])
        >>> urn.mean
        tensor([1.0203, 2.6193, 1.3604])

    Args:
        total_count: number of draws n, a whole number or integer tensor [...], 0 <= n <= sum(m).
        group_sizes: elements in each group m, integers [..., c] of sum at most 2^53 - 1; a group may be empty.
        weights: importance omega, positive and finite [..., c]; a tensor, numbers, or a list that may hold tensors.
        log_weights: log omega, between -1e12 and 1e12 [..., c]; give this or ``weights`` but not both, or neither for
            equal weights.
        conditionals: ``"exact"``, or ``"merged"`` for the approximation of the paper (Eq. 3): groups are drawn one
            after another from univariate laws in which all later groups are merged into one. Under ``"merged"``,
            sampling and ``log_prob`` follow that approximation, and closed-form quantities raise.
        group_order: the order, a permutation of 0..c-1, in which groups are drawn; None is 0..c-1 for merged and a
            random order for exact (where no order changes the law).
        validate_args: whether to check arguments on an accelerator, by one read, and values given to ``log_prob``. What
            is on the host is checked in any case, and nothing but numbers within ``torch.compile``. Without it, weights
            on an accelerator are not read: NaN, infinite or non-positive ones there are not refused, and results are
            NaN or wrong. None is the default of ``set_default_validate_args``, else on, also after ``torch.compile``
            has switched torch's own default off; a user's ``Distribution.set_default_validate_args(False)`` counts
            until then.

    Raises:
        ValueError: naming the argument, its shape and the bad values.

    References:
        R. A. Fisher, The logic of inductive inference, 1935; A. Fog, Sampling methods for Wallenius' and Fisher's
        noncentral hypergeometric distributions, 2008; paper Section 3.
    """

    has_enumerate_support = True

    def __init__(
        self,
        total_count: TensorLike,
        group_sizes: TensorLike,
        weights: TensorLike | None = None,
        log_weights: TensorLike | None = None,
        conditionals: str = "exact",
        group_order: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        check_values = validates(validate_args, MultivariateHypergeometric._validates_by_default)
        temperature = self.__dict__.get("_given_temperature")  # of classes that have one
        parameters = broadcast_parameters(total_count, group_sizes, weights, log_weights, check_values, temperature)
        if parameters.total_count is not None and parameters.group_sizes is not None:
            self.total_count, self.group_sizes = parameters.total_count, parameters.group_sizes
        self._known_bounds, self._dtype = parameters.bounds, parameters.dtype
        self._hold("log_weights" if weights is None else "weights", parameters.importance)
        shape = parameters.importance.shape
        self.group_order = check_conditionals(conditionals, group_order, shape[-1])
        self.conditionals = conditionals
        # The arguments are checked above, with messages that name them; what torch adds is checking samples.
        super().__init__(shape[:-1], shape[-1:], validate_args=False)
        self._validate_args = check_values

    _validates_by_default: ClassVar[bool | None] = None

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether this library's distributions check values unless told otherwise, whatever torch's default is."""
        if value not in (True, False):
            raise ValueError(f"the default of validate_args must be True or False, got {value!r}")
        MultivariateHypergeometric._validates_by_default = bool(value)

    def _hold(self, name: str, importance: Tensor) -> None:
        """Keeps the importance as given, under its name in the dtype of results."""
        self._parameter, self._importance = name, importance
        self._solved_for: tuple[Tensor | None, int | None, Solution] | None = None
        self._made_in_capture = importance.is_cuda and torch.cuda.is_current_stream_capturing()
        self.__dict__[name] = importance.to(self._dtype)  # the same tensor where it was given as one

    def __getstate__(self) -> dict[str, Any]:
        # Copies solve anew: the version of a copied tensor is not that of the one that the tilt was solved for.
        return {**self.__dict__, "_solved_for": None}

    @Kept
    def total_count(self) -> Tensor:
        """Number of draws, int64 [...]."""
        _, totals = self._known_urn()
        return torch.full((), totals, device=self._importance.device).expand(self.batch_shape)

    @Kept
    def group_sizes(self) -> Tensor:
        """Elements in each group, int64 [..., c]."""
        sizes, _ = self._known_urn()
        return constant(sizes, self._importance.device, torch.int64).clone().expand(self._importance.shape)

    def _known_urn(self) -> tuple[tuple[int, ...], int]:
        """Sizes and total of a plain urn, whose tensors are made when they are asked for."""
        bounds = self._known_bounds
        assert bounds is not None and bounds.sizes is not None and bounds.totals is not None
        return bounds.sizes, bounds.totals

    def __repr__(self) -> str:
        names = [name for name in self.arg_constraints if name in self.__dict__ or not name.endswith("weights")]
        values = [getattr(self, name) for name in names]
        shown = (f"{name}: {v if v.numel() == 1 else v.size()}" for name, v in zip(names, values, strict=True))
        return f"{type(self).__name__}({', '.join(shown)})"

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return HypergeometricSupport(self.total_count, self.group_sizes)

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "total_count": constraints.nonnegative_integer,
        "group_sizes": constraints.independent(constraints.nonnegative_integer, 1),
        "weights": constraints.independent(constraints.positive, 1),
        "log_weights": constraints.independent(constraints.real, 1),
    }

    @Derived
    def weights(self) -> Tensor:
        """Importance omega [..., c]."""
        return self._importance.double().exp().to(self._dtype)

    @Derived
    def log_weights(self) -> Tensor:
        """Log importance [..., c]."""
        return self._importance.double().log().to(self._dtype)

    @property
    def _bounds(self) -> Bounds:
        """The urn as far as the host must know it; sizes and totals given on an accelerator are read once."""
        if self._known_bounds is None:
            require_values(self.group_sizes, self.total_count)
            self._known_bounds = Bounds.of_tensors(self.group_sizes, self.total_count)
        return self._known_bounds

    def _law(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sizes, log weights, relative to a reference where they are large, and total in float64."""
        return self._given_law().relative()[:3]

    def _given_law(self) -> Urn:
        """Sizes, log weights and total in float64."""
        log_weights = self._importance.double()
        if self._parameter == "weights":
            log_weights = log_weights.log()
        bounds = self._known_bounds
        if bounds is None or bounds.sizes is None or bounds.totals is None:
            return Urn(self.group_sizes.double(), log_weights, self.total_count.double(), None, bounds)
        sizes = constant(bounds.sizes, log_weights.device, torch.float64).expand(log_weights.shape)
        total = constant((bounds.totals,), log_weights.device, torch.float64)[0]
        return Urn(sizes, log_weights, total.expand(self.batch_shape), None, bounds)

    def _urn(self) -> Urn:
        """The law for closed forms, with its tilt."""
        urn = self._given_law()
        return urn if urn.is_pair else self._solved(urn)

    @property
    def _tilt(self) -> Tensor:
        """The tilt at which independent binomials expect ``total_count`` [...], see ``solve_tilt``."""
        tilt: Tensor = self._solved(self._given_law()).tilt
        return tilt

    def _solved(self, urn: Urn) -> Urn:
        """The given law relative to its reference, with its tilt; what is found of it is kept.

        Where it can't be seen whether that will be needed, also with the tilt of one draw less. Solved once, and again
        after the weights were changed in place.
        """
        given, looking = self._importance, can_look(self._importance)

        def solved() -> Solution:
            relative = urn.relative()
            if not looking and self.event_shape[0] > 2:
                tilts = relative.with_one_less().tilt
            else:
                tilts = (solve_tilt(*relative[:3]) if urn.is_pair else relative.with_tilt().tilt).unsqueeze(0)
            return Solution(relative.reference, tilts, {})

        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(given):
            return solved().of(urn)
        capturing = given.is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing and not self._made_in_capture:  # a replay reads the weights anew
            return solved().of(urn)
        if self._solved_for is not None:
            seen, version, solution = self._solved_for
            # Where the values can be compared, that also sees changes that do not count as versions.
            if torch.equal(seen, urn.log_weights) if seen is not None else version == _version(given) is not None:
                return solution.of(urn)
        solution = solved()
        if not solution.tilts.is_inference():
            self._solved_for = (urn.log_weights.detach().clone() if looking else None, _version(given), solution)
        return solution.of(urn)

    def _exact_law(self, quantity: str) -> Urn:
        if self.conditionals != "exact":
            raise NotImplementedError(
                f"{quantity} is not defined for conditionals='merged': the merged law has no closed form. "
                "Use conditionals='exact', or estimate it from samples"
            )
        return self._urn()

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "MultivariateHypergeometric":
        new = self._get_checked_instance(MultivariateHypergeometric, _instance)
        batch = torch.Size(batch_shape)
        new.total_count = self.total_count.expand(batch)
        new.group_sizes = self.group_sizes.expand(batch + self.event_shape)
        new._known_bounds, new._dtype = self._known_bounds, self._dtype
        new._hold(self._parameter, self._importance.expand(batch + self.event_shape))
        new.conditionals, new.group_order = self.conditionals, self.group_order
        super(MultivariateHypergeometric, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = torch.Size(), *, generator: torch.Generator | None = None) -> Tensor:
        """Counts [sample_shape, batch, c] in the dtype of the weights, by inverse transform in float64.

        Args:
            sample_shape: shape of independent draws.
            generator: source of randomness on the weights' device; torch's default if None.
        """
        with torch.no_grad():
            size, log_weights, total = self._law()
            sample_shape = sample_size(sample_shape)
            check_generator(generator)
            shape = self._extended_shape(sample_shape)
            counts = draw_counts(
                size.reshape(-1, size.shape[-1]),
                log_weights.reshape(-1, size.shape[-1]),
                total.reshape(-1),
                math.prod(sample_shape),
                merged=self.conditionals == "merged",
                order=self.group_order,
                generator=generator,
                dtype=self._dtype,
                bounds=self._bounds,
                tilt=lambda: self._tilt.reshape(-1),
            )
            return counts.reshape(shape)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """There is none.

        Raises:
            NotImplementedError: names the classes that have one.
        """
        raise NotImplementedError(
            "whole counts of the exact law have no gradient: draw by MultivariateHypergeometricStraightThrough or "
            "RelaxedMultivariateHypergeometric, or without a gradient by sample"
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of counts [..., c], differentiable in the weights and (lgamma's extension) in the counts.

        Its gradient in the counts is that of sum_i log C(m_i, x_i) + x_i log omega_i. Merged laws of three groups and
        more also have one by what earlier counts leave to later groups, whose normaliser is extended by its Fourier
        series: off the gamma function's extension by 0.0003 amid the support and 0.08 at its edges (measured).

        Args:
            value: counts [..., c] of any real dtype.

        Returns:
            Tensor [...]: the broadcast of ``value``'s leading shape with the batch shape; -inf outside the support.

        Raises:
            ValueError: with ``validate_args``, for counts outside the support, naming the first such row, its sum and
                the total.
        """
        checked = known_inside(value, self)
        counts = value.double()
        if self.conditionals == "merged" and self.event_shape[0] > 2:  # of two groups none are merged
            order = self.group_order or tuple(range(self.event_shape[0]))
            size, log_weights, total = self._law()
            result = _fisher.merged_log_probability(counts, size, log_weights, total, order)
        else:
            urn = self._urn()
            result, total = _fisher.log_probability(counts, urn, checked), urn.total
        if not checked:
            result = result.masked_fill(off_total(value, counts, total, self), -math.inf)
        return result.to(self._dtype)

    @property
    def log_partition(self) -> Tensor:
        """log P_0 of paper Eq. 1, [...]; its gradient in the log weights is the mean."""
        return _fisher.log_partition(self._exact_law("log_partition"), self._given_law().log_weights).to(self._dtype)

    @property
    def mean(self) -> Tensor:
        """E[X], [..., c]."""
        return _moments.mean(self._exact_law("mean")).to(self._dtype)

    @property
    def variance(self) -> Tensor:
        """Var[X_i], [..., c]."""
        return _moments.variance(self._exact_law("variance")).to(self._dtype)

    @property
    def covariance_matrix(self) -> Tensor:
        """Cov[X], [..., c, c]; each row sums to 0."""
        return _moments.covariance(self._exact_law("covariance_matrix")).to(self._dtype)

    @property
    def mode(self) -> Tensor:
        """A most probable count vector, [..., c]."""
        return _fisher.mode(self._exact_law("mode")).to(self._dtype)

    def entropy(self) -> Tensor:
        """Entropy in nats, [...]; ValueError where millions of counts of a group matter (n of the order of 1e11)."""
        urn = self._exact_law("entropy")
        return _entropy.entropy(urn._replace(bounds=self._bounds)).to(self._dtype)

    def marginal_log_probs(self) -> Tensor:
        """log P(X_i = x) for x = 0..M, M the largest group size: [..., c, M + 1], -inf outside the support.

        Raises:
            ValueError: if the result would have more than a hundred million entries.
        """
        urn = self._exact_law("marginal_log_probs")
        entries = self.group_sizes.numel() * (self._bounds.group + 1)
        if entries > _MOST_MARGINALS:
            raise ValueError(
                f"marginal_log_probs would have {entries:,} entries, more than {_MOST_MARGINALS:,}: group_sizes up to "
                f"{self._bounds.group:,} for {self.batch_shape.numel()} laws. Use mean, variance or samples instead"
            )
        return _marginals.marginal_log_probabilities(urn._replace(bounds=self._bounds)).to(self._dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All count vectors, [support, batch, c] (batch dimensions are 1 where ``expand`` is False).

        Time and memory go with the result: with few draws, or few left, not with the group sizes.

        Raises:
            NotImplementedError: if total_count or group_sizes differ within the batch.
            ValueError: if the support is too large to list (more than ten million entries).
        """
        sizes = self.group_sizes.reshape(-1, self.event_shape[0])
        totals = self.total_count.reshape(-1)
        if len(totals) == 0:
            raise ValueError(f"enumerate_support needs an urn, got batch shape {tuple(self.batch_shape)}")
        if self._bounds.sizes is None or self._bounds.totals is None:
            raise NotImplementedError(
                "enumerate_support needs the same total_count and group_sizes in the whole batch, got "
                f"total_count {totals.unique().tolist()[:5]} and {len(sizes.unique(dim=0))} different group_sizes"
            )
        values = count_vectors(self._bounds.totals, list(self._bounds.sizes)).to(self._importance.device, self._dtype)
        values = values.reshape(-1, *(1,) * len(self.batch_shape), self.event_shape[0])
        return values.expand(-1, *self.batch_shape, -1) if expand else values


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
