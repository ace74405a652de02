"""Maximum-likelihood estimation of the weights from observed counts."""

from typing import NamedTuple

import torch
from torch import Tensor

from mvhg import _fisher, _moments
from mvhg._given import TensorLike, as_integers
from mvhg._urn import Urn
from mvhg._validation import broadcast_parameters, describe, require_values

_MAX_ITERATIONS = 200
# Below this information in some direction, the likelihood has no finite maximum.
_LEAST_INFORMATION = 1e-5


class WeightsFit(NamedTuple):
    """Maximum-likelihood weights; the scale, which the law does not depend on, is fixed by mean log weight 0.

    Attributes:
        log_weights: [c], mean 0.
        standard_errors: [c], square roots of the diagonal of ``covariance``.
        covariance: [c, c], inverse of the Fisher information within the vectors of mean 0.
    """

    log_weights: Tensor
    standard_errors: Tensor
    covariance: Tensor


def fit_weights(counts: TensorLike, group_sizes: TensorLike) -> WeightsFit:
    """Maximum-likelihood weights of a multivariate hypergeometric law, with standard errors.

    The log-likelihood is concave in the log weights; Newton's method with the exact mean and covariance maximises it.

    Example::

        >>> urn = MultivariateHypergeometric(180, [200, 200, 200], weights=torch.tensor([1.0, 5.0, 1.0]))
        >>> fit = fit_weights(urn.sample((1000,)), [200, 200, 200])
        >>> (fit.log_weights - fit.log_weights[0]).exp()  # about [1, 5, 1]

    Args:
        counts: whole numbers [rows, c], or [c] for one row; each row's sum is its number of draws.
        group_sizes: whole numbers [c], or [rows, c].

    Returns:
        ``WeightsFit`` in float64, on the device of the counts, or of the sizes where counts are given as numbers.

    Raises:
        ValueError: for counts outside the support, and where no finite maximum exists (a group that is never drawn,
            or always as often as possible), naming the group.
    """
    observed, sizes = as_integers("counts", counts), as_integers("group_sizes", group_sizes)
    require_values(observed, sizes, names="counts and group_sizes")
    device = sizes.device if observed.device.type == "cpu" else observed.device
    observed, sizes = observed.to(device), sizes.to(device)
    if observed.dim() not in (1, 2) or observed.numel() == 0:
        raise ValueError(f"counts must be [rows, c] with at least one row, got shape {tuple(observed.shape)}")
    observed = observed.double().reshape(-1, observed.shape[-1])
    if (
        sizes.dim() not in (1, 2)
        or sizes.shape[-1] != observed.shape[1]
        or sizes.shape[:-1] not in ((), (1,), (len(observed),))
    ):
        raise ValueError(
            f"group_sizes must be [c] or [rows, c], got shape {tuple(sizes.shape)} for counts {tuple(observed.shape)}"
        )
    broadcast_parameters(0, sizes, None, torch.zeros_like(observed[0]), check_values=True)
    sizes = sizes.double()
    bad = ~((observed >= 0) & (observed <= sizes) & (observed == observed.round()))
    if bad.any():
        raise ValueError(f"counts must be whole numbers with 0 <= counts <= group_sizes: {describe(observed, bad)}")
    totals = observed.sum(1)
    size = sizes.expand_as(observed)
    _check_maximum_exists(observed, size, totals)
    # Rows with the same urn and number of draws share their mean and covariance.
    urns, repeats = torch.unique(torch.cat([size, totals.unsqueeze(1)], 1), dim=0, return_counts=True)
    return _maximise(observed.sum(0), urns[:, :-1], urns[:, -1], repeats.double())


def _check_maximum_exists(observed: Tensor, size: Tensor, totals: Tensor) -> None:
    if observed.shape[1] == 1:
        return
    most = torch.minimum(size, totals.unsqueeze(1))
    least = (totals.unsqueeze(1) - (size.sum(1, keepdim=True) - size)).clamp(min=0)
    for group in range(observed.shape[1]):
        x = observed[:, group]
        for bound, words in (
            (least, "never drawn more often than it must be"),
            (most, "always drawn as often as it can be"),
        ):
            if bool((x == bound[:, group]).all()):
                times = f"{int(x.sum())} times in {len(x)} rows"
                raise ValueError(
                    f"no finite maximum-likelihood weight exists for group {group}: it is {words} ({times}). "
                    "Leave the group out or collect more counts"
                )


def _maximise(observed: Tensor, size: Tensor, total: Tensor, repeats: Tensor) -> WeightsFit:
    groups = observed.shape[0]
    if groups == 1:
        nothing = torch.zeros(1, dtype=torch.float64, device=observed.device)
        return WeightsFit(nothing, nothing.clone(), nothing.unsqueeze(0))
    log_weights = torch.zeros(groups, dtype=torch.float64, device=observed.device)
    with torch.no_grad():
        likelihood = _log_likelihood(log_weights, observed, size, total, repeats)
        for _ in range(_MAX_ITERATIONS):
            expanded = log_weights.expand_as(size)
            urn = Urn.of(size, expanded, total)
            covariance = _moments.covariance(urn)
            score = observed - repeats @ _moments.mean(urn)
            information = torch.einsum("r,rij->ij", repeats, covariance)
            if float(torch.linalg.eigvalsh(information + _ones(information))[0]) < 1e-3 * _LEAST_INFORMATION:
                break
            step = _solve(information, score)
            # The likelihood is flat near its maximum: accept a step that loses no more than rounding.
            scale, slack = 1.0, 1e-12 * likelihood.abs().clamp(min=1)
            while True:
                proposal = log_weights + scale * step
                candidate = _log_likelihood(proposal, observed, size, total, repeats)
                if candidate >= likelihood - slack or scale < 1e-10:
                    break
                scale *= 0.5
            log_weights, likelihood = proposal - proposal.mean(), candidate
            if float(step.abs().max()) < 1e-10:
                break
        else:
            raise ValueError(f"no maximum-likelihood weights found in {_MAX_ITERATIONS} iterations of Newton's method")
        covariance = _inverse(_checked(information))
        return WeightsFit(log_weights, covariance.diagonal().clamp(min=0).sqrt(), covariance)


def _checked(information: Tensor) -> Tensor:
    """The information at the maximum, unless there is none: then it vanishes along the direction of the ascent.

    At a finite maximum every group has as many draws as expected, at least one and one less than it can have, so the
    information is of order one or more.
    """
    values, vectors = torch.linalg.eigh(information + _ones(information))
    if float(values[0]) > _LEAST_INFORMATION:
        return information
    group = int(vectors[:, 0].abs().argmax())
    raise ValueError(
        f"no finite maximum-likelihood weight exists for group {group}: the likelihood keeps rising or stays as it is "
        "as its weight, relative to others, goes to zero or to infinity. Leave the group out or collect more counts"
    )


def _log_likelihood(log_weights: Tensor, observed: Tensor, size: Tensor, total: Tensor, repeats: Tensor) -> Tensor:
    urn = Urn.of(size, log_weights.expand_as(size), total)
    return observed @ log_weights - repeats @ _fisher.log_partition(urn)


def _solve(information: Tensor, score: Tensor) -> Tensor:
    """Newton step of mean 0: the information is singular along the vector of ones, the scale of the weights."""
    return torch.linalg.solve(information + _ones(information), score)


def _inverse(information: Tensor) -> Tensor:
    groups = information.shape[0]
    ones = torch.full_like(information, 1 / groups)
    regular = information + _ones(information)
    scale = information.diagonal().mean().clamp(min=1e-300)
    return torch.linalg.inv(regular) - ones / scale


def _ones(information: Tensor) -> Tensor:
    """The projector on the vector of ones, in the information's scale."""
    return torch.full_like(information, 1 / information.shape[0]) * information.diagonal().mean().clamp(min=1e-300)
