"""Many draws: beside BiasedUrn and the authors' code; few elements from huge groups; precision of the conditionals."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mvhg
from experiments.settings import ExperimentError, PositiveInt, settings
from experiments.speed.measure import comparison, in_turns, in_words, median_ratio, memory_growth_mib, seconds_of

SIZES, TOTAL, WEIGHTS = (200, 200, 200), 180, (1.0, 2.0, 1.0)  # the paper's urn
COEFFICIENTS = torch.tensor([1.0, -2.0, 0.5])  # of the loss, a linear function of the counts
HUGE = ((100_000_000, 50_000_000, 500_000), 1000)


@settings
class Rates:
    """What is measured.

    Attributes:
        draws: Of one law.
        batch: Straight-through draws, forward and backward.
        authors_batch: Of the authors' code, which takes 0.7 MB a draw; their rate is taken as it is at this size.
        rounds: How often the sides take turns.
        threads: Of torch.
    """

    draws: PositiveInt = 1_000_000
    batch: PositiveInt = 10_000
    authors_batch: PositiveInt = 1_000
    rounds: PositiveInt = 5
    threads: PositiveInt = 2


class BiasedUrn:
    """The R package of that name (C++, one thread), if it is there."""

    def __init__(self) -> None:
        self.program = shutil.which("Rscript")
        probe = 'quit(status = as.integer(!requireNamespace("BiasedUrn", quietly = TRUE)))'
        if self.program is None or subprocess.run([self.program, "-e", probe], capture_output=True).returncode != 0:
            raise ExperimentError("R with the package BiasedUrn is not there (Debian: r-base-core, r-cran-biasedurn)")

    def seconds(self, draws: int) -> float:
        """Of so many draws of the paper's urn, by R's own clock."""
        sizes, weights = (",".join(map(str, values)) for values in (SIZES, WEIGHTS))
        script = Path(__file__).with_name("biased_urn.R")
        arguments = [str(self.program), str(script), str(draws), "1", str(TOTAL), sizes, weights]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"][0])


def _straight_through(batch: int, per_element: bool) -> Callable[[], object]:
    def call() -> object:
        log_weights = torch.tensor(WEIGHTS).log()
        if per_element:
            log_weights = log_weights.expand(batch, -1).clone()
        log_weights.requires_grad_()
        law = mvhg.MultivariateHypergeometricStraightThrough(0.5, TOTAL, list(SIZES), log_weights=log_weights)
        counts = law.rsample(() if per_element else (batch,))
        return torch.autograd.grad((counts @ COEFFICIENTS).sum(), log_weights)

    return call


def _authors(sampler: Callable[..., Any], batch: int) -> Callable[[], object]:
    sizes, total = torch.tensor(SIZES), torch.full((batch, 1), TOTAL)

    def call() -> object:
        log_weights = torch.tensor(WEIGHTS).log().expand(batch, -1).clone().requires_grad_()
        counts = sampler(sizes, total, log_weights, 0.5)[1]
        loss = sum(c * count.sum() for c, count in zip(COEFFICIENTS.tolist(), counts, strict=True))
        return torch.autograd.grad(loss, log_weights)

    return call


def measure_rates(
    settings: Rates, sampler: Callable[..., Any] | None, log: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measures the paper's urn at temperature 0.5 in float32.

    Returns:
        A ``comparison`` per piece of work, and what was left out.
    """
    lines: list[dict[str, Any]] = []
    left_out: list[str] = []

    def add(work: str, ours: float, unit: str, beside: str, theirs: float, ratio: float, wanted: str) -> None:
        lines.append(comparison(work, ours, unit, beside, theirs, ratio, wanted))
        log(in_words(lines[-1]))

    one_law = mvhg.MultivariateHypergeometric(TOTAL, list(SIZES), torch.tensor(WEIGHTS))
    soft = mvhg.MultivariateHypergeometricStraightThrough(0.5, TOTAL, list(SIZES), torch.tensor(WEIGHTS))
    draw = {"exact": lambda: one_law.sample((settings.draws,)), "st": lambda: soft.sample((settings.draws,))}
    seconds = in_turns(draw, settings.rounds, threads=settings.threads)
    rate = {name: settings.draws / statistics.median(values) for name, values in seconds.items()}
    try:
        peer = BiasedUrn()
        theirs = settings.draws / statistics.median(peer.seconds(settings.draws) for _ in range(settings.rounds))
        title = f"sample, one law, {settings.draws:,} draws"
        add(title, rate["exact"], "draws/s", "BiasedUrn, one thread", theirs, rate["exact"] / theirs, ">= 1.5")
    except ExperimentError as error:
        left_out.append(f"BiasedUrn: {error}")
    ratio = median_ratio(seconds["exact"], seconds["st"])
    add("sample of the straight-through class", rate["st"], "draws/s", "exact class", rate["exact"], ratio, ">= 0.9")
    if sampler is None:
        left_out.append("the authors' code: no checkout given")
    else:
        for per_element, wanted in ((False, ">= 138"), (True, ">= 35")):
            sides = {
                "ours": _straight_through(settings.batch, per_element),
                "authors": _authors(sampler, settings.authors_batch),
            }
            seconds = in_turns(sides, settings.rounds, threads=settings.threads)
            ours = settings.batch / statistics.median(seconds["ours"])
            theirs = settings.authors_batch / statistics.median(seconds["authors"])
            ratio = median_ratio(seconds["authors"], seconds["ours"]) * settings.batch / settings.authors_batch
            law = "a law per element" if per_element else "one law"
            title = f"straight-through counts, {law}, forward + backward, batch {settings.batch:,}"
            add(title, ours, "draws/s", "authors' code", theirs, ratio, wanted)
            memory = {name: memory_growth_mib(call) for name, call in sides.items()}
            theirs = memory["authors"] * settings.batch / settings.authors_batch
            ratio = memory["ours"] / max(theirs, 1e-9)
            add(f"peak memory, {title}", memory["ours"], "MiB", "authors' code, scaled", theirs, ratio, "<= 1")
    sizes, total = HUGE
    huge = mvhg.MultivariateHypergeometric(total, list(sizes), torch.tensor(WEIGHTS))
    title = f"sample, n = {total:,} from {sizes[0]:.0e}, {sizes[1]:.0e}, {sizes[2]:.0e}, two draws"
    grown = memory_growth_mib(lambda: huge.sample((2,)))
    milliseconds = 1e3 * statistics.median(seconds_of(lambda: huge.sample((2,))) for _ in range(settings.rounds))
    add(title, milliseconds, "ms", "wanted", 50.0, milliseconds / 50.0, "<= 1")
    add(f"peak memory, {title}", grown, "MiB", "wanted", 50.0, grown / 50.0, "<= 1")
    return lines, left_out


def precision(dtype: torch.dtype) -> float:
    """Largest total-variation distance of p(x_1) and every p(x_2 | x_1) of the paper's urn from a convolution."""
    first, second = conditional_laws(TOTAL, SIZES, WEIGHTS)
    weights = torch.tensor(WEIGHTS, dtype=dtype)
    law = mvhg.MultivariateHypergeometric(TOTAL, list(SIZES), weights)
    marginal = law.marginal_log_probs()[0].double().exp().numpy()[: len(first)]
    possible = np.flatnonzero(second.sum(1))
    rest = mvhg.MultivariateHypergeometric(TOTAL - torch.from_numpy(possible), list(SIZES[1:]), weights[1:])
    conditional = rest.marginal_log_probs()[:, 0].double().exp().numpy()[:, : second.shape[1]]
    apart = np.abs(marginal - first).sum() / 2, np.abs(conditional - second[possible]).sum(1).max() / 2
    return float(max(apart))


def conditional_laws(
    total: int, sizes: tuple[int, ...], weights: tuple[float, ...]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """p(x_1) [n + 1] and p(x_2 | x_1) [x_1, x_2] of three groups, by direct convolution of binomial terms."""
    from scipy.special import gammaln

    def terms(size: int, weight: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        x = np.arange(min(size, total) + 1.0)
        log = gammaln(size + 1) - gammaln(x + 1) - gammaln(size - x + 1) + x * np.log(weight)
        return np.pad(np.exp(log - log.max()), (0, total + 1 - len(x)))

    one, two, three = (terms(size, weight) for size, weight in zip(sizes, weights, strict=True))
    joint = np.zeros((total + 1, total + 1))
    for x in range(total + 1):
        left = total - x
        joint[x, : left + 1] = one[x] * two[: left + 1] * three[left::-1]
    joint /= joint.sum()
    first = joint.sum(1)
    return first, np.divide(joint, first[:, None], out=np.zeros_like(joint), where=first[:, None] > 0)
