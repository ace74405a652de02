"""The interface of the paper's authors, so that code written for their package runs on this one.

``from mvhg.pt_fmvhg import MVHG`` takes the arguments and gives the shapes of github.com/thomassutter/mvhg. New code is
better served by ``MultivariateHypergeometricStraightThrough``, whose results are tensors instead of lists.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from mvhg._fisher import log_partition
from mvhg._given import TensorLike, as_integers
from mvhg._kept import CPU, Memory, may_be_kept
from mvhg._validation import require_values
from mvhg.distribution import MultivariateHypergeometric
from mvhg.relaxed import MultivariateHypergeometricStraightThrough, RelaxedMultivariateHypergeometric

_ROUNDING = torch.finfo(torch.float32).eps  # what vectors of float32 weigh by mistake
# Laws of so few count vectors, of so few groups, are summed one by one; measured, where that is the faster way.
_FEW_VECTORS, _FEW_GROUPS = 256, 16
# What the law's arguments are called here.
_NAMES = {"group_sizes": "m_all", "total_count": "n", "log_weights": "log_w_all"}
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def _by_our_names(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """``function``, whose errors call the law's arguments as this interface does."""

    @functools.wraps(function)
    def renamed(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            message = re.sub(rf"\b({'|'.join(_NAMES)})\b", lambda found: _NAMES[found[0]], str(error))
            raise ValueError(message) from None

    return renamed


class MVHG(nn.Module):
    """Differentiable draws of group sizes, called and answering as the authors' module of the same name.

    Differences from theirs: the law is exact unless ``conditionals="merged"``; ``hard=False`` gives soft counts that
    sum to n; without noise the result is the same at every call; results are on the device of ``log_w_all``; the random
    order of the groups follows torch's seed; impossible counts have probability 0 and send no gradient.

    Args:
        device: accepted for compatibility and not used: the inputs' device counts.
        eps: accepted for compatibility and not used: nothing is padded.
        conditionals: ``"exact"``, or ``"merged"`` for the authors' approximation (paper Eq. 3).

    Raises:
        ValueError: for other conditionals.
    """

    def __init__(self, device: Any = None, eps: float | None = None, conditionals: str = "exact") -> None:
        super().__init__()
        if conditionals not in ("exact", "merged"):
            raise ValueError(f"conditionals must be 'exact' or 'merged', got {conditionals!r}")
        self.conditionals = conditionals

    @_by_our_names
    def forward(
        self,
        m_all: TensorLike,
        n: TensorLike,
        log_w_all: Tensor,
        temperature: float | Tensor,
        add_noise: bool = True,
        hard: bool = True,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """One draw for each row of the log weights.

        Args:
            m_all: group sizes, whole numbers [c] of any dtype.
            n: number of draws, whole numbers [B, 1], [1], or one number.
            log_w_all: log weights [B, c], float32 or float64.
            temperature: positive; a number, or a tensor of 1 or B entries.
            add_noise: False takes the most probable count of each group given those before it, in the groups' order
                (or, with ``hard=False``, the softmax of those laws): the same result at every call.
            hard: whole counts forward and the softmax's gradient backward; False for the softmax itself.

        Returns:
            Four, each group by group: one-hot vectors y, c tensors [B, 1, m_i + 1]; counts x, c tensors [B, 1, 1] that
            sum to n; masks, c tensors [B, 1, m_i + 1], of which entry k is the sum of y from k on, so that the first
            is 1 and x_i more are; and the log-probability of the draw [B], see ``get_log_probs``.

        Raises:
            ValueError: naming the argument, its shape and the bad values.
        """
        sizes, total = _urn(m_all, n, log_w_all)
        groups, batch = len(sizes), len(log_w_all)
        kind = MultivariateHypergeometricStraightThrough if hard else RelaxedMultivariateHypergeometric
        order = None
        if not add_noise:
            order = list(range(groups))
        elif self.conditionals == "merged":
            order = torch.randperm(groups, device=CPU).tolist()
        law = kind(_temperature(temperature, batch), total, sizes, None, log_w_all, self.conditionals, order)
        noise = None
        if not add_noise and groups > 1:  # Gumbel noise shifts all counts alike where it is the same for all
            noise = torch.full(law.noise_shape(), 0.5, dtype=torch.float64, device=log_w_all.device)
        counts, one_hot, prefix_mask = law.rsample_selection(noise=noise)
        mask = torch.cat([torch.ones_like(counts).unsqueeze(-1), prefix_mask], -1)
        y, y_mask = _by_group(one_hot, sizes), _by_group(mask, sizes)
        x = list(counts.unsqueeze(-1).split(1, dim=1))
        return y, x, y_mask, self._log_probability(law, sizes, total, x, y, order)

    @_by_our_names
    def get_log_probs(
        self,
        m_all: TensorLike,
        n: TensorLike,
        x_all: Sequence[Tensor] | Tensor,
        y_all: Sequence[Tensor] | Tensor,
        log_w_all: Tensor,
    ) -> Tensor:
        """Log-probability of a draw [B], differentiable in the log weights, the counts and the one-hot vectors.

        Linear in counts and vectors, so that soft draws have a value as well, the mean over their vectors; that of
        whole counts is the law's. Under ``conditionals="merged"`` the groups follow one another in their order, as
        in the authors' function; their ``forward``, like this one, uses the order drawn. Soft draws of another order
        can weigh counts that are impossible in this one, and then have none.

        Args:
            m_all: group sizes [c].
            n: number of draws, as in ``forward``.
            x_all: counts, c tensors [B, 1, 1].
            y_all: one-hot vectors, c tensors [B, 1, m_i + 1].
            log_w_all: log weights [B, c].

        Raises:
            ValueError: naming the argument, for shapes and types that do not fit, and (on the CPU) for vectors that are
                no probabilities, for counts that are not those of the vectors or do not sum to n, and for soft draws
                without a log-probability, which is minus infinity elsewhere.
        """
        sizes, total = _urn(m_all, n, log_w_all)
        batch = len(log_w_all)
        for name, values in (("x_all", x_all), ("y_all", y_all)):
            if not isinstance(values, (list, tuple, Tensor)) or len(values) != len(sizes):
                got = len(values) if hasattr(values, "__len__") else type(values).__name__
                raise ValueError(f"{name} must hold one tensor a group: got {got} for {len(sizes)} groups")
        for i, size in enumerate(sizes):
            for name, value, last in (("x_all", x_all[i], 1), ("y_all", y_all[i], size + 1)):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                if shape not in ((batch, 1, last), (1, 1, last)):
                    raise ValueError(
                        f"{name}[{i}] must be a tensor of shape [{batch}, 1, {last}] for {size} elements, got {shape}"
                    )
        x, y = ([values[i].expand(batch, -1, -1) for i in range(len(sizes))] for values in (x_all, y_all))
        if log_w_all.device.type == "cpu":
            _check_counts(x, y, total)
        law = MultivariateHypergeometric(total, sizes, log_weights=log_w_all, validate_args=False)
        value = self._log_probability(law, sizes, total, x, y, None)
        if value.device.type == "cpu" and bool((value.detach() == -math.inf).any()):
            row = int((value.detach() == -math.inf).nonzero()[0])
            raise ValueError(
                f"y_all weighs counts that are impossible where the groups follow one another in their order (row {row}"
                "): a soft draw of merged conditionals has a log-probability in its own order, which forward returns"
            )
        return value

    def _log_probability(
        self,
        law: MultivariateHypergeometric,
        sizes: list[int],
        total: int | Tensor,
        x: list[Tensor],
        y: list[Tensor],
        order: list[int] | None,
    ) -> Tensor:
        if self.conditionals == "merged":
            return _merged(sizes, total, y, law._law()[1], order or list(range(len(sizes)))).to(law.log_weights.dtype)
        # In double: large terms cancel. Of whole counts, sum_i log (m_i choose x_i) omega_i^x_i - log P_0 (Eq. 1).
        urn = law._given_law().relative()
        log_weights = urn.log_weights
        counts, vectors = torch.cat(x, -1).squeeze(1).double(), torch.cat(y, -1).squeeze(1).double()
        value = vectors @ _log_binomials(tuple(sizes), log_weights.device) + (counts * log_weights).sum(-1)
        every = _every_vector(tuple(sizes), total, log_weights.device) if isinstance(total, int) else None
        if every is None:
            normaliser = log_partition(urn if urn.is_pair else law._urn())  # by the tilt that the draw was made with
        else:
            normaliser = torch.addmm(every[1], log_weights, every[0]).logsumexp(1)
        return urn.in_counts(value - normaliser, counts).to(law.log_weights.dtype)


def _urn(m_all: TensorLike, n: TensorLike, log_w_all: Tensor) -> tuple[list[int], int | Tensor]:
    """Sizes as numbers, since they are lengths of results, and the total as one number where all rows share it."""
    if not isinstance(log_w_all, Tensor) or log_w_all.dim() != 2:
        got = f"shape {tuple(log_w_all.shape)}" if isinstance(log_w_all, Tensor) else type(log_w_all).__name__
        raise ValueError(f"log_w_all must be a tensor of log weights [batch, groups], got {got}")
    sizes, totals = as_integers("m_all", m_all), as_integers("n", n)
    if sizes.dim() != 1 or len(sizes) != log_w_all.shape[1]:
        raise ValueError(
            f"m_all must hold one size a group: got shape {tuple(sizes.shape)} for log_w_all of shape "
            f"{tuple(log_w_all.shape)}"
        )
    batch = len(log_w_all)
    if totals.numel() not in (1, batch):
        raise ValueError(f"n must have shape [{batch}, 1], one number a row of log_w_all, got {tuple(totals.shape)}")
    require_values(sizes, totals, names="m_all and n")
    both = [sizes.double(), totals.reshape(-1).double()]
    if sizes.device == totals.device:  # one read from it for both
        both = list(torch.cat(both).cpu().split([len(sizes), totals.numel()]))
    sizes_known, totals_known = _whole("m_all", both[0]), _whole("n", both[1])
    if len(set(totals_known)) == 1:
        return sizes_known, totals_known[0]
    return sizes_known, torch.tensor(totals_known, dtype=torch.int64, device=log_w_all.device)


def _whole(name: str, values: Tensor) -> list[int]:
    numbers = values.tolist()
    bad = [v for v in numbers if not (math.isfinite(v) and v == int(v) and v >= 0)]
    if bad:
        raise ValueError(f"{name} must be whole numbers, 0 or more: shape {tuple(values.shape)}, bad values {bad[:5]}")
    return [int(v) for v in numbers]


def _temperature(temperature: float | Tensor, batch: int) -> float | Tensor:
    if not isinstance(temperature, Tensor):
        return temperature
    if temperature.numel() not in (1, batch):
        raise ValueError(f"temperature must be a number or have {batch} entries, got shape {tuple(temperature.shape)}")
    if temperature.numel() == 1 and temperature.device.type == "cpu" and not temperature.requires_grad:
        return float(temperature)
    return temperature.reshape(-1)


def _check_counts(x: list[Tensor], y: list[Tensor], total: int | Tensor) -> None:
    drawn = torch.zeros((), dtype=torch.float64, device=CPU)
    for i, (count, vector) in enumerate(zip(x, y, strict=True)):
        vector = vector.detach().double()
        proper = (vector >= -1e-3).all(-1) & ((vector.sum(-1) - 1).abs() <= 1e-3)
        if not bool(proper.all()):
            row = int((~proper).flatten().nonzero()[0])
            raise ValueError(
                f"y_all[{i}] must be one-hot or probabilities, 0 or more that sum to 1: row {row} has a least entry of "
                f"{float(vector.amin(-1).flatten()[row]):.6g} and sums to {float(vector.sum(-1).flatten()[row]):.6g}"
            )
        counted = vector @ _counts(vector.shape[-1] - 1, vector.device)
        off = (count.detach().double().squeeze(-1) - counted).abs()
        if not bool((off <= 1e-3 + 1e-5 * counted).all()):
            raise ValueError(f"x_all[{i}] must be the counts of y_all[{i}], not off by {float(off.max()):.6g}")
        drawn = drawn + counted.squeeze(-1)
    off = (drawn - total).abs()
    if not bool((off <= 1e-3 + 1e-5 * drawn).all()):
        row = int(off.argmax())
        raise ValueError(f"x_all must sum to n: row {row} sums to {float(drawn[row]):.6g}")


def _counts(size: int, device: torch.device) -> Tensor:
    return torch.arange(size + 1, dtype=torch.float64, device=device)


def _by_group(values: Tensor, sizes: list[int]) -> list[Tensor]:
    """[B, c, M + 1] as c tensors [B, 1, m_i + 1]."""
    parts = values.split(1, dim=1)  # whose gradients are put together at once
    most = values.shape[-1] - 1
    return [part if size == most else part[..., : size + 1] for part, size in zip(parts, sizes, strict=True)]


_LOG_BINOMIALS: Memory[Tensor] = Memory(8)
_EVERY_VECTOR: Memory[tuple[Tensor, Tensor]] = Memory(8)


def _log_binomials(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """log (m_i choose k) for k = 0..m_i, one group after another; they depend on the sizes alone."""
    found = None if torch.compiler.is_compiling() else _LOG_BINOMIALS.get(sizes, device)
    if found is None:
        found = torch.cat([_log_binomial(_counts(size, device), size) for size in sizes])
        if may_be_kept(found):
            _LOG_BINOMIALS.keep(sizes, device, found)
    return found


def _every_vector(sizes: tuple[int, ...], total: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """All count vectors [c, K] and sum_i log (m_i choose x_i) of each [K]; None of laws that have many."""
    if len(sizes) > _FEW_GROUPS:
        return None
    found = None if torch.compiler.is_compiling() else _EVERY_VECTOR.get((sizes, total), device)
    if found is None:
        few = list(itertools.islice(_vectors(sizes, total), _FEW_VECTORS + 1))
        if len(few) > _FEW_VECTORS:
            return None
        counts = torch.tensor(few, dtype=torch.float64, device=CPU).T.contiguous()
        each = [_log_binomial(row, size) for row, size in zip(counts, sizes, strict=True)]
        found = counts.to(device), torch.stack(each).sum(0).to(device)
        if may_be_kept(found[0]):
            _EVERY_VECTOR.keep((sizes, total), device, found)
    return found


def _vectors(sizes: tuple[int, ...], total: int) -> Iterator[tuple[int, ...]]:
    if len(sizes) == 1:
        yield (total,)
        return
    for count in range(max(0, total - sum(sizes[1:])), min(sizes[0], total) + 1):
        for later in _vectors(sizes[1:], total - count):
            yield (count, *later)


def _log_binomial(counts: Tensor, size: int) -> Tensor:
    """Without the sizes' factorial where the counts are not whole: its extension by the gamma function."""
    return math.lgamma(size + 1) - torch.lgamma(counts + 1) - torch.lgamma(size - counts + 1)


def _merged(sizes: list[int], total: int | Tensor, y: list[Tensor], log_weights: Tensor, order: list[int]) -> Tensor:
    """Product of univariate conditionals in which all later groups are one (paper Eqs. 3, 5, 6), [B].

    What is left to draw may be a fraction, in soft draws: the binomial coefficient is extended by the gamma function,
    which vanishes at the first impossible whole numbers, -1 and size + 1, and is 0 beyond them. What rounding leaves on
    impossible counts weighs nothing.
    """
    log_omega, batch = log_weights, len(log_weights)
    left = torch.as_tensor(total, dtype=torch.float64, device=log_weights.device).expand(batch).unsqueeze(1)
    result = torch.zeros(batch, dtype=torch.float64, device=log_weights.device)
    for position, i in enumerate(order[:-1] or order):  # of one group its own, which takes all
        size, later = sizes[i], order[position + 1 :]
        others = [sizes[j] for j in later]
        own = _counts(size, log_weights.device)
        vector = y[i].double().squeeze(1).expand(batch, -1)
        logits = _log_binomial(own, size) + own * log_omega[:, i : i + 1]
        rest, remainder = sum(others), left - own
        if rest:
            shares = [math.log(m / rest) if m else -math.inf for m in others]
            parts = torch.tensor(shares, dtype=torch.float64, device=log_omega.device)
            log_rest = torch.logsumexp(log_omega[:, later] + parts, 1, keepdim=True)
            logits = logits + remainder * log_rest
        inside = (remainder > -1) & (remainder < rest + 1)
        logits = logits + _log_binomial(torch.where(inside, remainder, 0.0), rest)
        log_p = torch.where(inside, logits, -math.inf).log_softmax(1)
        # 0 times a log-probability of minus infinity is 0, in the derivative too.
        result = result + (vector * torch.where(inside | (vector > _ROUNDING), log_p, 0.0)).sum(1)
        left = left - (vector * own).sum(1, keepdim=True)
    return result
