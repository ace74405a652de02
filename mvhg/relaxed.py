"""Reparameterised relaxation of the multivariate hypergeometric distribution."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from mvhg import _conditionals, _single_draws
from mvhg._asked import check_generator, check_selection, given_noise, sample_size
from mvhg._given import TensorLike
from mvhg._reference import are_small
from mvhg._relaxation import (
    TEMPERATURES,
    URNS_AT_ONCE,
    Relaxation,
    Selection,
    depth_read,
    draw_relaxed,
    drawing_order,
    noise_columns,
)
from mvhg._single_plan import Plan, plan
from mvhg._urn import Urn
from mvhg._validation import as_temperature, broadcast_shapes, can_look, require_values
from mvhg._windows import widths
from mvhg.constraints import HypergeometricSupport
from mvhg.distribution import MultivariateHypergeometric


class RelaxedMultivariateHypergeometric(MultivariateHypergeometric):
    r"""Soft counts whose gradient reaches the weights, by Gumbel-softmax on the conditional laws (paper Section 4.3).

    Groups are drawn one after another. The count of group i given r elements left to draw is a softmax, at
    ``temperature``, over the conditional log-weights plus Gumbel noise, averaged over 0..m_i; the last group takes
    what is left. Counts are real numbers that sum to ``total_count`` up to rounding.

    How it is differentiated: through the weights of the group, through the law of the later groups' sum, and through
    r, which depends on the earlier draws. That law is a table over whole numbers; between them its logarithm is
    interpolated by a cubic with central-difference slopes. Since the relaxation is biased and its bias depends on the
    order of the groups, the order is random by default (all orders of up to three groups, else up to 8 a call).

    A count is possible only if it leaves a remainder between 0 and the size of the later groups, and the remainder is
    fractional once softness has leaked into it: where a law is nearly deterministic at the edge of its support, a soft
    draw can miss that edge by up to one. Straight-through draws, whose remainders are whole, cannot.

    A softmax at temperature T reads log-weights T times as far below the largest as the dtype resolves; so deep every
    log-weight is accurate relative to itself, at a cost that hardly depends on the temperature. Draws can be
    differentiated once: a second derivative raises RuntimeError.

    Example::

        >>> log_weights = torch.zeros(3, requires_grad=True)
        >>> urn = RelaxedMultivariateHypergeometric(0.5, 5, group_sizes=[3, 5, 4], log_weights=log_weights)
        >>> counts = urn.rsample()  # e.g. [0.9, 2.3, 1.8]
        >>> counts[0].backward()

    Args:
        temperature: positive, a number or a tensor that broadcasts with the batch shape; kept in float64.
        total_count: number of draws [...], as in ``MultivariateHypergeometric``.
        group_sizes: elements in each group [..., c], as there.
        weights: importance of each group [..., c], as there.
        log_weights: log importance [..., c], as there.
        conditionals: ``"exact"`` or ``"merged"``, as there.
        group_order: order in which groups are drawn, as there.
        validate_args: as there.

    Raises:
        ValueError: naming the argument, its shape and the bad values.
    """

    has_rsample = True
    has_enumerate_support = False
    _hard = False

    def __init__(
        self,
        temperature: TensorLike,
        total_count: TensorLike,
        group_sizes: TensorLike,
        weights: TensorLike | None = None,
        log_weights: TensorLike | None = None,
        conditionals: str = "exact",
        group_order: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given, self._host_temperature = as_temperature(temperature)
        self._given_temperature = given
        super().__init__(total_count, group_sizes, weights, log_weights, conditionals, group_order, validate_args)
        if given is None:
            return
        device = self._importance.device
        if given.device.type == "meta" and device.type != "meta":
            require_values(given, names="temperature")
        # On an accelerator converted once; on a CPU kept as it is, so that a change in place counts.
        self._given_temperature = (
            given if given.device.type == device.type == "cpu" else given.to(device, torch.float64)
        )
        try:
            fits = broadcast_shapes(given.shape, self.batch_shape) == self.batch_shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"temperature of shape {tuple(given.shape)} does not broadcast to the batch shape "
                f"{tuple(self.batch_shape)}"
            )

    @property
    def temperature(self) -> Tensor:
        """Float64, a scalar or of a shape that broadcasts with the batch."""
        if self._given_temperature is not None:
            return self._given_temperature.double()
        number: Any = self._host_temperature
        return torch.full((), number, dtype=torch.float64, device=self._importance.device)

    @property
    def _highest_temperature(self) -> float | None:
        """Where the host knows it; of a tensor as it is now, after changes in place, too."""
        given = self._given_temperature
        if self._host_temperature is None or given is None or given.numel() == 0 or not can_look(given):
            return self._host_temperature
        return float(given.detach().max())

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        **MultivariateHypergeometric.arg_constraints,
        "temperature": constraints.positive,
    }

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        return HypergeometricSupport(self.total_count, self.group_sizes, is_discrete=False)

    def _exact_law(self, quantity: str) -> Urn:
        if not self._hard:
            raise NotImplementedError(
                f"{quantity} is not defined for soft counts, whose law depends on the temperature and has no closed "
                "form; use MultivariateHypergeometric for whole counts"
            )
        return super()._exact_law(quantity)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Not defined for soft counts, which are real numbers."""
        if not self._hard:
            raise NotImplementedError("soft counts are real numbers: their support cannot be enumerated")
        return super().enumerate_support(expand)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "RelaxedMultivariateHypergeometric":
        new = self._get_checked_instance(RelaxedMultivariateHypergeometric, _instance)
        given = self._given_temperature
        new._host_temperature = self._host_temperature
        new._given_temperature = given.expand(torch.Size(batch_shape)) if given is not None and given.dim() else given
        return super().expand(batch_shape, _instance=new)  # type: ignore[return-value]

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
        """Counts [sample_shape, batch, c] in the dtype of the weights, differentiable (once) in the weights.

        Args:
            sample_shape: shape of independent draws.
            generator: source of randomness on the weights' device; torch's default if None.
            noise: what to draw by instead, uniform on [0, 1) and of shape ``noise_shape(sample_shape)``, float64 on
                the weights' device; for torch.compile, which cannot trace a generator, or to draw twice alike.

        Raises:
            ValueError: for noise that is not real, on another device or of another shape or, with ``validate_args``,
                outside [0, 1).
        """
        return self._draw(sample_size(sample_shape), generator, noise, selection=False).counts

    def rsample_selection(
        self,
        sample_shape: Sequence[int] = torch.Size(),
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Selection:
        """Counts with their one-hot vectors over 0..M and prefix masks of length M, M the largest group size.

        Args:
            sample_shape: shape of independent draws.
            generator: source of randomness on the weights' device; torch's default if None.
            noise: as in ``rsample``.

        Returns:
            ``Selection`` of counts [sample, batch, c], one_hot [sample, batch, c, M + 1] and prefix_mask
            [sample, batch, c, M], groups in the order of ``group_sizes``.

        Raises:
            ValueError: for vectors of more than 2^33 entries, naming ``group_sizes``.
        """
        sample_shape = sample_size(sample_shape)
        check_selection(self._extended_shape(sample_shape), self._bounds.group)
        return self._draw(sample_shape, generator, noise, selection=True)

    def noise_shape(self, sample_shape: Sequence[int] = torch.Size()) -> torch.Size:
        """Shape of the ``noise`` that ``rsample`` and ``rsample_selection`` take: [sample, batch, numbers a draw]."""
        return sample_size(sample_shape) + self.batch_shape + (noise_columns(self._relaxation(False)),)

    def _within_reach(self) -> Tensor:
        """The temperature where it makes a difference; on an accelerator as it was given, which saves a kernel."""
        least, most = TEMPERATURES[self._dtype if self._hard else torch.float64]
        if self._given_temperature is None:
            number: Any = self._host_temperature
            number = min(max(number, least), most)
            return torch.full((), number, dtype=torch.float64, device=self._importance.device)
        temperature = self.temperature
        return temperature.clamp(least, most) if can_look(temperature) else temperature

    def _relaxation(self, selection: bool) -> Relaxation:
        size, log_weights, total = self._law()
        groups = self.event_shape[0]
        return Relaxation(
            size.reshape(-1, groups),
            log_weights.reshape(-1, groups),
            total.reshape(-1),
            self._within_reach().expand(self.batch_shape).reshape(-1),
            self._highest_temperature,
            hard=self._hard,
            merged=self.conditionals == "merged",
            order=self.group_order,
            dtype=self._dtype,
            bounds=self._bounds,
            largest=self._bounds.group if selection else None,
            tilt=lambda: self._tilt.reshape(-1),
        )

    def _draw(
        self, sample_shape: torch.Size, generator: torch.Generator | None, noise: Tensor | None, selection: bool
    ) -> Selection:
        check_generator(generator)
        num_draws, batch = math.prod(sample_shape), math.prod(self.batch_shape)
        if noise is not None:
            device = self._importance.device
            noise = given_noise(noise, lambda: self.noise_shape(sample_shape), device, self._validate_args)
            noise = noise.reshape(num_draws, batch, noise.shape[-1])
        urn = self._single_urn(noise) if num_draws == 1 else None
        if urn is not None:
            selected = self._draw_single(urn, generator, noise, selection)
            if not sample_shape:
                return selected
            return Selection(*(part.reshape(*sample_shape, *part.shape) for part in selected))
        shape = self._extended_shape(sample_shape)
        counts, one_hot, prefix_mask = draw_relaxed(self._relaxation(selection), num_draws, generator, noise)
        counts = counts.reshape(shape)
        if not selection:
            return Selection(counts, counts, counts)
        return Selection(
            counts, one_hot.reshape(*shape, one_hot.shape[-1]), prefix_mask.reshape(*shape, prefix_mask.shape[-1])
        )

    def _single_urn(self, noise: Tensor | None) -> Plan | None:
        """The common urn of the batch, if one draw from each is best made by ``_single_draws``."""
        groups, merged = self.event_shape[0], self.conditionals == "merged"
        temperature = self._highest_temperature
        if not self._hard or (merged and groups > 2) or temperature is None:
            return None
        if not can_look(self._importance) or torch._C._are_functorch_transforms_active():
            return None
        given = self._given_temperature
        if given is not None and given.requires_grad:
            return None
        urn = plan(self._bounds)
        depth = depth_read(temperature, True, self._dtype)
        batch = math.prod(self.batch_shape)
        if urn is None or batch == 0 or not urn.serves(min(batch, URNS_AT_ONCE), depth):
            return None
        if noise is not None:  # which is for narrower tables where the general way has them
            columns = _conditionals.columns(self._bounds, groups, merged, depth)
            return urn if columns == widths(self._bounds, groups)[0] else None
        return urn

    def _draw_single(
        self, urn: Plan, generator: torch.Generator | None, noise: Tensor | None, selection: bool
    ) -> Selection:
        log_weights = self._importance if self._parameter == "log_weights" else self._importance.double().log()
        groups, given = self.event_shape[0], self._given_temperature
        if groups > 3 and not are_small(log_weights):  # of two and three groups the differences are taken
            log_weights = self._law()[1]
        order = drawing_order(self.group_order, groups, self.conditionals == "merged", True)
        scale: Any
        least, most = TEMPERATURES[self._dtype]
        if given is None or given.numel() == 1:
            scale = 1 / min(max(self._highest_temperature, least), most)  # type: ignore[type-var, operator]
        else:
            scale = given.double().clamp(least, most).reciprocal().expand(self.batch_shape).reshape(-1)
        batch, rest = math.prod(self.batch_shape), (order, self._dtype, selection, generator)
        if batch <= URNS_AT_ONCE:
            drawn = _single_draws.draw(urn, log_weights, scale, *rest, noise if noise is None else noise[0])
            return Selection(*drawn) if selection else Selection(*drawn[:1] * 3)
        log_weights, parts = log_weights.reshape(-1, groups), []
        for k in range(0, batch, URNS_AT_ONCE):
            rows = slice(k, k + URNS_AT_ONCE)
            part = scale[rows] if isinstance(scale, Tensor) else scale
            given_noise = noise if noise is None else noise[0, rows]
            parts.append(_single_draws.draw(urn, log_weights[rows], part, *rest, given_noise))
        joined = [
            torch.cat(field).unflatten(0, self.batch_shape)
            for field in zip(*parts, strict=True)
            if field[0] is not None
        ]
        return Selection(*joined) if selection else Selection(*joined * 3)

    def log_prob(self, value: Tensor) -> Tensor:
        """Not defined: soft counts are a sum over a softmax and have no density in closed form."""
        raise NotImplementedError(
            "soft counts have no density in closed form; use MultivariateHypergeometric(...).log_prob for whole "
            "counts, or MultivariateHypergeometricStraightThrough, whose counts are whole"
        )


class MultivariateHypergeometricStraightThrough(RelaxedMultivariateHypergeometric):
    r"""Whole counts forward, the gradient of the relaxation backward (straight-through, paper Algorithm 2).

    Draws follow the discrete law of ``MultivariateHypergeometric`` with the same arguments and sum to ``total_count``
    exactly; the gradient is that of ``RelaxedMultivariateHypergeometric`` at the same noise, except that the
    remaining count is whole, so that the derivative in it is the central difference of the log-weights. It is biased;
    the bias and its standard deviation are measured in the project's gradient study. The last group drawn takes what is
    left; of two groups its vectors are the first one's, reversed, in the derivative too, so that their order is
    irrelevant.

    Example::

        >>> log_weights = torch.zeros(3, requires_grad=True)
        >>> urn = MultivariateHypergeometricStraightThrough(0.5, 5, group_sizes=[3, 5, 4], log_weights=log_weights)
        >>> counts = urn.rsample()  # e.g. [1., 2., 2.]
        >>> counts[0].backward()

    Args:
        temperature: positive, a number or a tensor that broadcasts with the batch shape; kept in float64.
        total_count: number of draws [...], as in ``MultivariateHypergeometric``.
        group_sizes: elements in each group [..., c], as there.
        weights: importance of each group [..., c], as there.
        log_weights: log importance [..., c], as there.
        conditionals: ``"exact"`` or ``"merged"``, as there.
        group_order: order in which groups are drawn, as there.
        validate_args: as there.

    Raises:
        ValueError: naming the argument, its shape and the bad values.
    """

    _hard = True
    has_enumerate_support = True

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return HypergeometricSupport(self.total_count, self.group_sizes)

    def sample(self, sample_shape: Sequence[int] = torch.Size(), *, generator: torch.Generator | None = None) -> Tensor:
        """Counts [sample_shape, batch, c] in the dtype of the weights, as ``MultivariateHypergeometric.sample``."""
        return MultivariateHypergeometric.sample(self, sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability under the discrete law, as in ``MultivariateHypergeometric.log_prob``."""
        return MultivariateHypergeometric.log_prob(self, value)
