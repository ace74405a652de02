"""The exact law and straight-through selections in Keras 3 operations, for TensorFlow, JAX and torch.

Group sizes and totals are Python numbers, so that every shape is static: under ``jax.jit`` and ``tf.function`` nothing
is traced again for other weights. Laws of sums are convolutions of positive terms under a tilt at which n is expected
(see ``docs/library.md``): nothing cancels, and no logarithm of the gamma function is asked of a backend.

Everything is computed in float64 where the backend has it, else in float32 with the binomial coefficients in two parts.
Time and memory of a law go with c min(M, n) n, M being the largest group; the torch classes have no such limit.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

try:
    import keras
    from keras import ops
except ImportError as error:
    raise ImportError("mvhg.keras needs Keras 3 and one of its backends: pip install 'mvhg[keras]'") from error

from mvhg import _keras_input

__all__ = ["MultivariateHypergeometric", "MultivariateHypergeometricStraightThrough", "Selection"]

# Of the range of the log weights; any tilt gives the same laws, one that expects about n draws loses least to rounding.
_BISECTIONS = 24
# Instead of minus infinity, whose differences are not numbers.
_IMPOSSIBLE = -1e30


class Selection(NamedTuple):
    """A draw in three forms; M is the largest group size.

    Attributes:
        counts: number drawn from each group, [sample, batch, c].
        one_hot: indicator of the count over 0..M, [sample, batch, c, M + 1].
        prefix_mask: 1 in the first ``counts`` places of M and 0 after, [sample, batch, c, M].
    """

    counts: Any
    one_hot: Any
    prefix_mask: Any


class MultivariateHypergeometric:
    """As ``mvhg.MultivariateHypergeometric``, on the Keras backend in use.

    Args:
        total_count: number of draws n, a Python number.
        group_sizes: elements in each group, c Python numbers.
        log_weights: log importance [..., c], between -1e6 and 1e6, a tensor of the backend or what becomes one, such as
            a list that may hold tensors. Values are checked where they are at hand: not within ``jax.jit`` or
            ``tf.function``, and not of torch on a GPU.

    Raises:
        ValueError: naming the argument and the bad values; if the urn is too large for convolutions.
    """

    def __init__(self, total_count: int, group_sizes: Sequence[int], log_weights: Any) -> None:
        self.total_count, self.group_sizes = _keras_input.urn(total_count, group_sizes)
        self.log_weights = _keras_input.weights(log_weights, len(self.group_sizes))
        self.dtype = keras.backend.standardize_dtype(self.log_weights.dtype)
        self._working = _keras_input.working_dtype()
        self._width = min(max(self.group_sizes), self.total_count) + 1
        table = _log_binomials(self.group_sizes, self._width)
        # Two float32 numbers have the digits of the differences that count.
        upper = np.where(np.isfinite(table), table, 0.0).astype(self._working)
        lower = np.where(np.isfinite(table), table - upper, 0.0).astype(self._working)
        self._upper, self._lower = upper, lower
        self._inside = np.isfinite(table)

    @property
    def log_partition(self) -> Any:
        """log P_0 of paper Eq. 1, [...]; its gradient in the log weights is the mean."""
        tilted = self._tilted()
        sums = self._sums(tilted.log_terms)
        value = sums.log_probability + ops.sum(tilted.log_peak + tilted.peak * tilted.log_weights, -1)
        value = value + (ops.sum(tilted.peak, -1) - self.total_count) * tilted.tilt
        return ops.cast(self._reshaped(value), self.dtype)

    @property
    def mean(self) -> Any:
        """E[X], [..., c]."""
        terms, counts = self._tilted().log_terms, self._numbers(self._width)
        later, earlier, means = self._sums(terms).tables, self._one(terms), []
        for i in range(len(self.group_sizes)):
            others = _convolved(earlier, later[i], self.total_count + 1)
            # Of a count x the others have n - x.
            masses = ops.exp(terms[:, i]) * ops.flip(others, -1)[:, : self._width]
            means.append(ops.sum(masses * counts, -1) / ops.sum(masses, -1))
            earlier = _scaled(_convolved(ops.exp(terms[:, i]), earlier, self.total_count + 1))[0]
        return ops.cast(self._reshaped(ops.stack(means, -1), len(self.group_sizes)), self.dtype)

    def log_prob(self, value: Any) -> Any:
        """Log-probability of counts [..., c], differentiable in the log weights; -inf outside the support."""
        counts, groups = _keras_input.tensor("value", value, self._working), len(self.group_sizes)
        _keras_input.check_counts(tuple(counts.shape), tuple(self.log_weights.shape))
        tilted = self._tilted()
        sizes = ops.convert_to_tensor(np.array(self.group_sizes, self._working))
        whole = ops.logical_and(counts == ops.round(counts), ops.logical_and(counts >= 0, counts <= sizes))
        inside = ops.logical_and(ops.all(whole, -1), ops.abs(ops.sum(counts, -1) - self.total_count) < 0.5)
        counts = ops.where(whole, counts, 0.0)
        of_counts = self._coefficients(ops.minimum(counts, self._width - 1))
        each = [(tilted.peak, groups), (tilted.upper, groups), (tilted.lower, groups), (tilted.logits, groups)]
        peak, upper, lower, logits = (self._reshaped(part, last) for part, last in each)
        terms = (of_counts[0] - upper) + (of_counts[1] - lower) + (counts - peak) * logits
        result = ops.sum(terms, -1) - self._reshaped(self._sums(tilted.log_terms).log_probability)
        return ops.cast(ops.where(inside, result, -math.inf), self.dtype)

    def sample(self, sample_shape: Sequence[int] = (), seed: Any = None, noise: Any = None) -> Any:
        """Counts [sample_shape, batch, c], by inverse transform.

        Args:
            sample_shape: shape of independent draws, Python numbers.
            seed: as ``keras.random`` takes it: a number, a ``SeedGenerator`` or None.
            noise: what to draw by instead, uniform on [0, 1), of shape [sample_shape, batch, c]; within ``jax.jit``,
                which has no state to draw from.
        """
        groups, sample_shape = len(self.group_sizes), _keras_input.sample_size(sample_shape)
        terms = ops.stop_gradient(self._tilted().log_terms)
        later = self._sums(terms).tables
        uniform = self._noise(sample_shape, groups, seed, noise)
        left = ops.full_like(uniform[:, :, 0], self.total_count)  # [B, S]
        counts = []
        for i in range(groups - 1):
            masses = ops.exp(ops.expand_dims(terms[:, i], 1)) * _at(later[i], left, self._width)
            cumulative = ops.cumsum(masses, -1)
            below = cumulative <= ops.expand_dims(uniform[:, :, i], -1) * cumulative[:, :, -1:]
            # Rounding may not take a draw beyond the last count that is possible.
            most = ops.max(ops.where(masses > 0, self._numbers(self._width), 0.0), -1)
            counts.append(ops.minimum(ops.sum(ops.cast(below, self._working), -1), most))
            left = left - counts[-1]
        drawn = ops.stack([*counts, left], -1)
        return ops.cast(self._drawn(drawn, sample_shape, (groups,)), self.dtype)

    def _tilted(self) -> "_Tilted":
        """The terms of each group's binomial, at a tilt that expects about n draws."""
        groups = len(self.group_sizes)
        log_weights = ops.cast(ops.reshape(self.log_weights, (-1, groups)), self._working)
        sizes = ops.convert_to_tensor(np.array(self.group_sizes, self._working))
        most = ops.convert_to_tensor(np.minimum(self.group_sizes, self._width - 1).astype(self._working))
        fixed = ops.stop_gradient(log_weights)
        of_equal = math.log((self.total_count + 0.5) / (sum(self.group_sizes) - self.total_count + 0.5))
        low, high = (of_equal - edge(fixed, -1, keepdims=True) for edge in (ops.max, ops.min))
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            less = ops.sum(sizes * ops.sigmoid(fixed + middle), -1, keepdims=True) < self.total_count
            low, high = ops.where(less, middle, low), ops.where(less, high, middle)
        tilt = ops.stop_gradient(0.5 * (low + high))
        logits = log_weights + tilt
        peak = ops.stop_gradient(ops.floor((sizes + 1) * ops.sigmoid(logits)))
        peak = ops.minimum(peak, most)
        upper, lower = self._coefficients(peak)
        tables = [ops.convert_to_tensor(part) for part in (self._upper, self._lower, self._inside)]
        steps = self._numbers(self._width) - ops.expand_dims(peak, -1)
        terms = (tables[0] - ops.expand_dims(upper, -1)) + (tables[1] - ops.expand_dims(lower, -1))
        terms = ops.where(tables[2], terms + steps * ops.expand_dims(logits, -1), _IMPOSSIBLE)
        return _Tilted(log_weights, logits, ops.squeeze(tilt, -1), peak, upper, lower, terms)

    def _coefficients(self, counts: Any) -> tuple[Any, Any]:
        """log (m_i choose x_i) of counts [..., c], in two parts."""
        # JAX makes floats of whole numbers whose dtype is not given, where Keras' floatx is bfloat16.
        starts = ops.convert_to_tensor(np.arange(len(self.group_sizes)) * self._width, dtype="int32")
        index = ops.cast(counts, "int32") + starts
        upper, lower = (ops.take(ops.convert_to_tensor(part.ravel()), index) for part in (self._upper, self._lower))
        return upper, lower

    def _sums(self, log_terms: Any) -> "_Sums":
        """Relative masses of the sum over the groups after each one, by convolution from the last to the first."""
        table, tables, scale = self._one(log_terms), [], 0.0
        for i in reversed(range(log_terms.shape[1])):
            tables.append(table)
            terms = ops.exp(log_terms[:, i])
            if len(tables) == 1:  # after nothing, the group's own law
                table = ops.pad(terms, ((0, 0), (0, self.total_count + 1 - self._width)))
                continue
            table, factor = _scaled(_convolved(terms, table, self.total_count + 1))
            scale = scale + factor
        return _Sums(tables[::-1], ops.log(table[:, self.total_count]) + scale)

    def _one(self, log_terms: Any) -> Any:
        """The law of an empty sum, [B, n + 1]."""
        unit = np.zeros(self.total_count + 1, self._working)
        unit[0] = 1
        return ops.ones_like(log_terms[:, 0, :1]) * ops.convert_to_tensor(unit)

    def _numbers(self, length: int) -> Any:
        return ops.convert_to_tensor(np.arange(length).astype(self._working))

    def _noise(self, sample_shape: tuple[int, ...], columns: int, seed: Any, noise: Any) -> Any:
        """Uniform numbers [B, S, columns]."""
        if noise is None:
            shape = (*sample_shape, *tuple(ops.shape(self.log_weights))[:-1], columns)
            noise = keras.random.uniform(shape, dtype=self._working, seed=seed)
        else:
            noise = _keras_input.noise(noise, sample_shape, tuple(self.log_weights.shape), columns, self._working)
        return ops.transpose(ops.reshape(noise, (math.prod(sample_shape), -1, columns)), (1, 0, 2))

    def _reshaped(self, values: Any, *last: int) -> Any:
        return ops.reshape(values, (*tuple(ops.shape(self.log_weights))[:-1], *last))

    def _drawn(self, values: Any, sample_shape: tuple[int, ...], last: tuple[int, ...]) -> Any:
        """[B, S, ...] as [sample_shape, batch, ...]."""
        turned = ops.transpose(values, (1, 0, *range(2, len(values.shape))))
        return ops.reshape(turned, (*sample_shape, *tuple(ops.shape(self.log_weights))[:-1], *last))


class MultivariateHypergeometricStraightThrough(MultivariateHypergeometric):
    """As ``mvhg.MultivariateHypergeometricStraightThrough``: whole counts forward, a softmax's gradient backward.

    Groups are drawn in an order that is random for each law; the gradient also flows through the number of elements
    left to draw, by the central difference of the log-weights. Counts less probable than the smallest positive number
    (exp(-87) in float32, exp(-708) in float64) are left out, so temperatures should stay below 4 and 17.

    Args:
        temperature: positive, a number or a tensor of one, checked where its value is at hand.
        total_count: as in ``MultivariateHypergeometric``.
        group_sizes: as there.
        log_weights: as there.
    """

    def __init__(self, temperature: Any, total_count: int, group_sizes: Sequence[int], log_weights: Any) -> None:
        super().__init__(total_count, group_sizes, log_weights)
        self.temperature = _keras_input.temperature(temperature, self._working)

    def noise_shape(self, sample_shape: Sequence[int] = ()) -> tuple[int, ...]:
        """Shape of the ``noise`` that ``rsample`` and ``rsample_selection`` take."""
        return (*_keras_input.sample_size(sample_shape), *tuple(self.log_weights.shape)[:-1], self._columns)

    @property
    def _columns(self) -> int:
        return len(self.group_sizes) + (len(self.group_sizes) - 1) * self._width

    def rsample(self, sample_shape: Sequence[int] = (), seed: Any = None, noise: Any = None) -> Any:
        """The counts of ``rsample_selection``."""
        sample_shape = _keras_input.sample_size(sample_shape)
        counts, _ = self._draw(sample_shape, seed, noise)
        return ops.cast(self._drawn(counts, sample_shape, (len(self.group_sizes),)), self.dtype)

    def rsample_selection(self, sample_shape: Sequence[int] = (), seed: Any = None, noise: Any = None) -> Selection:
        """Counts with their one-hot vectors and prefix masks, differentiable in the log weights.

        Args:
            sample_shape: shape of independent draws, Python numbers.
            seed: as ``keras.random`` takes it: a number, a ``SeedGenerator`` or None.
            noise: what to draw by instead, uniform on [0, 1), of shape ``noise_shape(sample_shape)``; within
                ``jax.jit``, which has no state to draw from.
        """
        groups, most = len(self.group_sizes), max(self.group_sizes)
        sample_shape = _keras_input.sample_size(sample_shape)
        counts, one_hot = self._draw(sample_shape, seed, noise)
        one_hot = ops.pad(one_hot, ((0, 0), (0, 0), (0, 0), (0, most + 1 - self._width)))
        mask = ops.flip(ops.cumsum(ops.flip(one_hot, -1), -1), -1)[..., 1:]
        shaped = (
            self._drawn(part, sample_shape, (groups, *last))
            for part, last in ((counts, ()), (one_hot, (most + 1,)), (mask, (most,)))
        )
        return Selection(*(ops.cast(part, self.dtype) for part in shaped))

    def _draw(self, sample_shape: tuple[int, ...], seed: Any, noise: Any) -> tuple[Any, Any]:
        """Counts [B, S, c] and their vectors over the counts that can be drawn, [B, S, c, W]."""
        groups, width = len(self.group_sizes), self._width
        uniform = self._noise(sample_shape, self._columns, seed, noise)
        order = ops.argsort(uniform[:, 0, :groups], -1)  # [B, c], one for all draws of a law
        info = np.finfo(self._working)  # Within (0, 1) by arithmetic: on torch, Keras clips in float32.
        inside = uniform[:, :, groups:] * (1 - 2 * float(info.epsneg)) + float(info.tiny)
        gumbel = -ops.log(-ops.log(inside))
        terms = ops.take_along_axis(self._tilted().log_terms, ops.expand_dims(order, -1), 1)
        later = self._sums(terms).tables
        left = ops.full_like(uniform[:, :, 0], self.total_count)  # [B, S]
        numbers, vectors = self._numbers(width), []
        for i in range(groups - 1):
            whole = ops.stop_gradient(left)
            # With a neighbour on either side, whose difference says how the logarithm rises with what is left.
            log_sums, rise = _logarithm(_at(later[i], whole + 1, width + 2))
            logits = ops.expand_dims(terms[:, i], 1) + log_sums + ops.expand_dims(left - whole, -1) * rise
            logits = ops.where(logits > 0.5 * _IMPOSSIBLE, logits, _IMPOSSIBLE)
            noisy = logits + gumbel[:, :, i * width : (i + 1) * width]
            # The largest at 0, where no temperature makes it overflow.
            noisy_scaled = noisy - ops.stop_gradient(ops.max(noisy, -1, keepdims=True))
            noisy_scaled = noisy_scaled / ops.cast(self.temperature, self._working)
            soft = ops.softmax(noisy_scaled, -1) if width > 1 else ops.ones_like(noisy)
            hard = ops.one_hot(ops.argmax(ops.stop_gradient(noisy), -1), width, dtype=self._working)
            vectors.append(hard + (soft - ops.stop_gradient(soft)))  # whole numbers to the last bit
            left = left - ops.sum(vectors[-1] * numbers, -1)
        vectors.append(self._rest(left, order, numbers))
        back = ops.expand_dims(ops.expand_dims(ops.argsort(order, -1), 1), -1)
        one_hot = ops.take_along_axis(ops.stack(vectors, 2), back, 2)
        return ops.sum(one_hot * numbers, -1), one_hot

    def _rest(self, left: Any, order: Any, numbers: Any) -> Any:
        """The last group's vector: what is left; its derivative is the difference of the neighbouring counts'."""
        sizes = ops.take(ops.convert_to_tensor(np.array(self.group_sizes, self._working)), order[:, -1])
        whole = ops.stop_gradient(left)
        up = ops.minimum(whole + 1, ops.minimum(ops.expand_dims(sizes, -1), float(self._width - 1)))
        down = ops.maximum(whole - 1, 0.0)
        at = [ops.cast(ops.expand_dims(place, -1) == numbers, self._working) for place in (whole, up, down)]
        rise = (at[1] - at[2]) / ops.expand_dims(ops.maximum(up - down, 1.0), -1)
        return at[0] + ops.expand_dims(left - whole, -1) * rise


class _Tilted(NamedTuple):
    log_weights: Any  # [B, c]
    logits: Any  # [B, c]
    tilt: Any  # [B]
    peak: Any  # [B, c], the count about which terms are taken
    upper: Any  # [B, c], the logarithm of its binomial coefficient, in two parts
    lower: Any
    log_terms: Any  # [B, c, W]

    @property
    def log_peak(self) -> Any:
        return self.upper + self.lower


class _Sums(NamedTuple):
    tables: list[Any]  # c of [B, n + 1]
    log_probability: Any  # [B], of n in all, relative to the terms at the peaks


def _convolved(a: Any, b: Any, length: int) -> Any:
    """sum_x a_x b_(k - x) for k < length, [B, length], of b [B, length].

    Of x = row * block + place, sums over places are a matrix product, whose rows then add up along diagonals.
    """
    terms = a.shape[-1]
    rows = max(1, math.isqrt(terms) * 2 // 3)
    block = -(-terms // rows)
    a = ops.reshape(ops.pad(a, ((0, 0), (0, rows * block - terms))), (-1, rows, block))
    moved = _staircase(ops.tile(ops.expand_dims(b, 1), (1, block, 1)), 1)
    return ops.sum(_staircase(_products(a, moved), block), 1)


def _staircase(rows: Any, step: int) -> Any:
    """Row r of [B, R, T] moved on by r step places, of which the first T are kept: by padding and reshaping."""
    count, width = rows.shape[1:]
    padded = ops.pad(rows, ((0, 0), (0, 0), (0, step * count)))
    length = width + step * (count - 1)
    flat = ops.reshape(padded, (-1, count * (length + step)))[:, : count * length]
    return ops.reshape(flat, (-1, count, length))[:, :, :width]


def _products(a: Any, b: Any) -> Any:
    """Matrix products by the backend's operator: that of Keras makes float32 of float64 on torch."""
    if keras.backend.backend() != "jax":
        return a @ b
    import jax

    with jax.default_matmul_precision("highest"):  # which it has in float32 on a CPU only, unless told
        return a @ b


def _scaled(table: Any) -> tuple[Any, Any]:
    """The table relative to its largest entry, and that entry's logarithm."""
    largest = ops.stop_gradient(ops.max(table, -1, keepdims=True))
    return table / largest, ops.log(largest[:, 0])


def _logarithm(table: Any) -> tuple[Any, Any]:
    """Logarithms of entries [..., K + 2] but the first and the last, and how they rise with the sum, [..., K].

    The rise is the central difference, one-sided at the edges of what is possible. Sums fall along the entries.
    """
    positive = table > 0
    values = ops.where(positive, ops.log(ops.where(positive, table, 1.0)), _IMPOSSIBLE)
    both = ops.logical_and(positive[..., 1:], positive[..., :-1])
    rises = ops.where(both, values[..., :-1] - values[..., 1:], 0.0)
    known = ops.cast(both, values.dtype)
    rise = (rises[..., 1:] + rises[..., :-1]) / ops.maximum(known[..., 1:] + known[..., :-1], 1.0)
    return values[..., 1:-1], ops.stop_gradient(rise)


def _at(table: Any, left: Any, width: int) -> Any:
    """Entries at left - x for x = 0..width - 1 of a table [B, K] for left [B, S], 0 outside it."""
    index = ops.expand_dims(ops.cast(left, "int32"), -1) - ops.convert_to_tensor(np.arange(width), dtype="int32")
    last = table.shape[-1] - 1
    inside = ops.logical_and(index >= 0, index <= last)
    flat = ops.reshape(ops.clip(index, 0, last), (-1, index.shape[1] * width))
    found = ops.reshape(ops.take_along_axis(table, flat, 1), (-1, index.shape[1], width))
    return ops.where(inside, found, 0.0)


def _log_binomials(sizes: tuple[int, ...], width: int) -> np.ndarray[Any, Any]:
    """log (m_i choose x) for x = 0..width - 1 in float64, -inf where x is above m_i; [c, width].

    Sums of logarithms of ratios: the logarithms of large factorials lose digits.
    """
    size, x = np.array(sizes, np.longdouble)[:, np.newaxis], np.arange(1, width, dtype=np.longdouble)
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(size - x + 1, 0) / x)
    return np.pad(np.cumsum(logs, 1), ((0, 0), (1, 0))).astype(np.float64)
