"""Linear classification of the generative factors from parts of the representation (Table 1, Appendix C.2.5).

A score is the balanced accuracy, adjusted so that guessing scores 0 and perfection 1.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

log = logging.getLogger("experiments")

SHARED, INDEPENDENT = "shared", "independent"
# A limit, not a budget: what converges earlier is the same fit with any larger limit.
MAX_ITERATIONS = 10_000


@dataclass(frozen=True, eq=False)
class EncodedPairs:
    """The two parts of the representation of pairs of images beside the truth.

    Attributes:
        names: of the generative factors.
        shared: [pairs, latents], posterior means of the shared latents, 0 elsewhere; see :func:`parts`.
        independent: [pairs, 2, latents], posterior means of each view's independent latents, 0 elsewhere.
        factors: int64 [pairs, 2, factors], the generative factors of both images.
        shared_factors: bool [pairs, factors], which generative factors the pair shares.

    Raises:
        ValueError: a mean isn't finite, or a factor said to be shared differs between the views.
    """

    names: Sequence[str]
    shared: Tensor
    independent: Tensor
    factors: Tensor
    shared_factors: Tensor

    def __post_init__(self) -> None:
        if not (self.shared.isfinite().all() and self.independent.isfinite().all()):
            raise ValueError("means must be finite")
        if (self.shared_factors & (self.factors[:, 0] != self.factors[:, 1])).any():
            raise ValueError("factors that are shared must be equal in both views")


def parts(own: Tensor, average: Tensor, independent: Tensor) -> tuple[Tensor, Tensor]:
    """Expected posterior means of the shared part, [pairs, latents], and of the independent, [pairs, 2, latents].

    Args:
        own: [pairs, 2, latents], posterior means of the views.
        average: [pairs, latents], those that the views have in common where a latent is shared.
        independent: [pairs, latents], the probability of being independent: 0 or 1 where a method decides.
    """
    return (1 - independent) * average, independent.unsqueeze(1) * own


class _Split(NamedTuple):
    """Something of the training and of the test pairs."""

    train: npt.NDArray[Any]
    test: npt.NDArray[Any]


class _Fit(NamedTuple):
    """How a classifier did; no accuracy where there was nothing to tell apart."""

    accuracy: float
    iterations: int
    converged: bool


def subset_accuracies(train: EncodedPairs, test: EncodedPairs) -> pd.DataFrame:
    """Scores shared factors on the shared part, and independent factors on each view's independent part.

    A classifier is fitted and scored on those pairs alone in which its factor is shared (or independent). A value that
    no training pair shows counts as missed in the test; without two values in both splits there is no accuracy (NaN),
    and a warning is logged.

    Args:
        train: pairs to fit on.
        test: pairs to score on, of images that ``train`` has not.

    Returns:
        A line for every factor and part that occur: ``factor``, ``part`` (``shared`` or ``independent``), ``view`` (0
        or 1; none for the shared part), ``train_pairs``, ``test_pairs``, ``accuracy``, ``iterations`` (0: not fitted),
        ``converged``.
    """
    features = {
        (SHARED, None): _Split(_array(train.shared), _array(test.shared)),
        (INDEPENDENT, 0): _Split(_array(train.independent[:, 0]), _array(test.independent[:, 0])),
        (INDEPENDENT, 1): _Split(_array(train.independent[:, 1]), _array(test.independent[:, 1])),
    }
    records: list[dict[str, Any]] = []
    for position, factor in enumerate(train.names):
        for (part, view), encoded in features.items():
            chosen = _Split(*(_array(split.shared_factors[:, position] == (part == SHARED)) for split in (train, test)))
            if not (chosen.train.any() or chosen.test.any()):
                continue
            labels = _Split(*(_array(split.factors[:, view or 0, position]) for split in (train, test)))
            fit = _fit(
                _Split(encoded.train[chosen.train], encoded.test[chosen.test]),
                _Split(labels.train[chosen.train], labels.test[chosen.test]),
                f"{factor} from the {part} latents",
            )
            pairs = {"train_pairs": int(chosen.train.sum()), "test_pairs": int(chosen.test.sum())}
            records.append({"factor": factor, "part": part, "view": view, **pairs, **fit._asdict()})
    table = pd.DataFrame(records)
    table["view"] = table["view"].astype("Int64")  # integers, and none for the shared part
    return table


def average_accuracies(table: pd.DataFrame) -> tuple[float, float]:
    """Averages over the factors; of an independent factor, over the views first.

    Args:
        table: from :func:`subset_accuracies`.

    Returns:
        The accuracies on the shared and on the independent part; NaN where no factor has one.
    """
    by_factor = table.groupby(["part", "factor"])["accuracy"].mean()
    by_part = by_factor.groupby("part").mean().reindex([SHARED, INDEPENDENT])
    return float(by_part[SHARED]), float(by_part[INDEPENDENT])


def downstream_accuracy(
    names: Sequence[str],
    train_means: Tensor,
    train_factors: Tensor,
    test_means: Tensor,
    test_factors: Tensor,
) -> float:
    """Scores the whole representation of single images, averaged over the factors (Figure 11).

    Args:
        names: of the factors.
        train_means: [images, latents], posterior means to fit on.
        train_factors: int64 [images, factors].
        test_means: [images, latents], posterior means to score on.
        test_factors: int64 [images, factors].

    Returns:
        The mean over the factors that take two values in both splits; NaN if none does.
    """
    features = _Split(_array(train_means), _array(test_means))
    train_labels, test_labels = _array(train_factors), _array(test_factors)
    fits = [
        _fit(
            features,
            _Split(train_labels[:, position], test_labels[:, position]),
            f"{factor} from all latents",
        )
        for position, factor in enumerate(names)
    ]
    defined = [fit.accuracy for fit in fits if not math.isnan(fit.accuracy)]
    return float(np.mean(defined)) if defined else math.nan


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor in NumPy; numbers in double precision, in which the optimiser's tolerance can be met."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _fit(features: _Split, labels: _Split, what: str) -> _Fit:
    """Fits on the training pairs and scores on the test pairs."""
    if min(len(np.unique(labels.train)), len(np.unique(labels.test))) < 2:
        log.warning(
            "  %s: no accuracy, %d training and %d test examples do not both show two values",
            what,
            len(labels.train),
            len(labels.test),
        )
        return _Fit(math.nan, 0, False)
    classifier = LogisticRegression(max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(features.train, labels.train)
    iterations = int(classifier.n_iter_.max())
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    if not converged:
        log.warning("  %s: logistic regression did not converge in %d iterations", what, iterations)
    with warnings.catch_warnings():
        # A value that only training examples show may be predicted; the mean is over the values of the test.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        accuracy = balanced_accuracy_score(labels.test, classifier.predict(features.test), adjusted=True)
    return _Fit(float(accuracy), iterations, converged)
