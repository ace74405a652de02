"""The study: every urn, set of weights, function, temperature and estimator, as one tidy table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.authors import REPOSITORY, load_sampler
from experiments.gradient_study.estimators import Moments, authors, collect, score_function, through_draws
from experiments.gradient_study.problems import Problem, exact_gradient, merged_gradient, problems
from experiments.settings import ExperimentError
from experiments.training import derive_seed
from mvhg import MultivariateHypergeometricSecondOrder, MultivariateHypergeometricStraightThrough

EXACT, MERGED, AUTHORS, SECOND, SCORE = "exact", "merged", "authors", "second order", "score function"
JUDGED_TEMPERATURE, JUDGED_FUNCTIONS = 0.5, ("linear", "quadratic")
Cell = tuple[Problem, float]  # and the temperature


@dataclass(frozen=True)
class Settings:
    """Temperatures and numbers of samples (blocks times block) per cell of the table."""

    temperatures: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    blocks: int = 50
    block: int = 4_000
    authors_blocks: int = 100
    authors_block: int = 600
    seed: int = 0

    @classmethod
    def quick(cls, seed: int = 0) -> Settings:
        return cls(temperatures=(0.5,), blocks=4, block=250, authors_blocks=4, authors_block=60, seed=seed)


def _lines(
    estimator: str, problem: Problem, temperature: float | None, samples: int, moments: dict[str, Moments]
) -> Iterator[dict[str, Any]]:
    groups = tuple(range(len(problem.weights)))
    orders = {MERGED: [groups], AUTHORS: list(itertools.permutations(groups))}.get(estimator)
    for name, function in problem.functions.items():
        judged = estimator == EXACT and temperature == JUDGED_TEMPERATURE and name in JUDGED_FUNCTIONS
        exact = exact_gradient(function, problem)
        own = merged_gradient(function, problem, orders) if orders else exact.gradient  # of the estimator's own law
        mean = moments[name].mean.numpy()
        error = float(np.linalg.norm(mean - exact.gradient)) / exact.scale
        yield {
            "estimator": estimator,
            "urn": problem.urn,
            "weights": ", ".join(f"{weight:g}" for weight in problem.weights),
            "function": name,
            "temperature": temperature,
            "samples": samples,
            "exact_norm": exact.norm,
            "floor": exact.floor,
            "error": error,
            "standard_error": moments[name].standard_error / exact.scale,
            "standard_deviation": moments[name].standard_deviation / exact.scale,
            "own_law_error": float(np.linalg.norm(mean - own)) / exact.scale,
            "law_error": float(np.linalg.norm(own - exact.gradient)) / exact.scale,
            "target": problem.target if judged else None,
            "reached": ("yes" if error <= problem.target else "no") if judged else "",
        }


def _authors_lines(sampler: Callable[..., Any], settings: Settings, cells: Iterable[Cell]) -> Iterator[dict[str, Any]]:
    """The authors' code over all cells; the global random states, from which it draws, are put back afterwards.

    Raises:
        ExperimentError: it failed.
    """
    blocks, block = settings.authors_blocks, settings.authors_block
    state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            for problem, temperature in cells:
                moments = collect(authors(problem, temperature, sampler, blocks, block))
                yield from _lines(AUTHORS, problem, temperature, blocks * block, moments)
    except Exception as error:
        raise ExperimentError(f"the authors' code failed: {error}") from error
    finally:
        np.random.set_state(state)  # noqa: NPY002


def run(settings: Settings, official: Path | None = None, log: Callable[[str], None] = print) -> pd.DataFrame:
    """Measure every cell.

    Args:
        settings: what to measure.
        official: checkout of the authors' code; None leaves their estimator out.
        log: called with one line per piece of work.

    Returns:
        One row per estimator, urn, weights, function and temperature (empty for those without one). ``error`` is the
        norm of (mean gradient - exact gradient), ``standard_error`` the standard error of the mean gradient and
        ``standard_deviation`` that of one sample's gradient, all over max(exact_norm, floor). ``law_error`` is the
        part of the error that the estimator's own law explains (0 for the exact law), ``own_law_error`` the error
        against that law's own gradient.
    """
    sampler = None if official is None else load_sampler(official)  # before the minutes of the rest
    rows: list[dict[str, Any]] = []
    size = settings.blocks, settings.block
    cells = list(itertools.product(problems(), settings.temperatures))
    for index, (problem, temperature) in enumerate(cells):
        urn = problem.total_count, torch.tensor(problem.group_sizes)
        for estimator in (EXACT, MERGED):
            law = partial(MultivariateHypergeometricStraightThrough, temperature, *urn, conditionals=estimator)
            generator = torch.Generator().manual_seed(derive_seed(settings.seed, index))
            moments = collect(through_draws(problem, law, *size, generator))
            rows += _lines(estimator, problem, temperature, math.prod(size), moments)
        log(f"straight-through: {problem.urn}, weights {problem.weights}, temperature {temperature}")
    for index, problem in enumerate(problems()):
        second = partial(MultivariateHypergeometricSecondOrder, problem.total_count, torch.tensor(problem.group_sizes))
        gradients = {SECOND: partial(through_draws, problem, second), SCORE: partial(score_function, problem)}
        for estimator, blocks in gradients.items():
            generator = torch.Generator().manual_seed(derive_seed(settings.seed, len(cells) + index))
            rows += _lines(estimator, problem, None, math.prod(size), collect(blocks(*size, generator)))
        log(f"second order, score function: {problem.urn}, weights {problem.weights}")
    if sampler is None:
        log(f"skipped: the authors' code, no --official PATH given (a checkout of {REPOSITORY})")
    else:
        rows += _authors_lines(sampler, settings, cells)
        log("the authors' code: all cells")
    return pd.DataFrame(rows)
