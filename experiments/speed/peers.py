"""The paper's urn beside BiasedUrn and the authors' code."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import mvhg
from experiments.settings import ExperimentError, PositiveInt, settings
from experiments.speed.measure import comparison, in_turns, median_ratio, memory_growth_mib

SIZES, TOTAL, WEIGHTS = (200, 200, 200), 180, (1.0, 2.0, 1.0)  # the paper's urn
COEFFICIENTS = torch.tensor([1.0, -2.0, 0.5])  # of the loss, a linear function of the counts


@settings
class Peers:
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


def biased_urn_seconds(draws: int, repeats: int) -> list[float]:
    """Seconds of so many draws by the R package of that name (C++, one thread), by R's own clock.

    Raises:
        ExperimentError: it is not there.
    """
    program = shutil.which("Rscript")
    numbers = [",".join(map(str, values)) for values in ((draws,), (repeats,), (TOTAL,), SIZES, WEIGHTS)]
    script = str(Path(__file__).with_name("biased_urn.R"))
    done = subprocess.run([program, script, *numbers], capture_output=True, text=True) if program else None
    if done is None or done.returncode != 0:
        raise ExperimentError("R with the package BiasedUrn is not there (Debian: r-base-core, r-cran-biasedurn)")
    return [float(line) for line in done.stdout.split()]


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


def measure_peers(sizes: Peers, sampler: Callable[..., Any] | None, left_out: list[str]) -> Iterator[dict[str, Any]]:
    """Measures the paper's urn at temperature 0.5 in float32.

    Args:
        sizes: What is measured.
        sampler: The authors', if there is one.
        left_out: Takes what could not be measured, and why.

    Yields:
        A ``comparison`` per piece of work.
    """
    exact = mvhg.MultivariateHypergeometric(TOTAL, list(SIZES), torch.tensor(WEIGHTS))
    hard = mvhg.MultivariateHypergeometricStraightThrough(0.5, TOTAL, list(SIZES), torch.tensor(WEIGHTS))
    draws = {"exact": lambda: exact.sample((sizes.draws,)), "hard": lambda: hard.sample((sizes.draws,))}
    seconds = in_turns(draws, sizes.rounds, threads=sizes.threads)
    rate = {name: sizes.draws / statistics.median(values) for name, values in seconds.items()}
    try:
        theirs = sizes.draws / statistics.median(biased_urn_seconds(sizes.draws, sizes.rounds))
        work, ratio = f"sample, one law, {sizes.draws:,} draws", rate["exact"] / theirs
        yield comparison(work, rate["exact"], "draws/s", "BiasedUrn, one thread", theirs, ratio, ">= 1.5")
    except ExperimentError as error:
        left_out.append(f"BiasedUrn: {error}")
    ratio, work = median_ratio(seconds["exact"], seconds["hard"]), "sample of the straight-through class"
    yield comparison(work, rate["hard"], "draws/s", "exact class", rate["exact"], ratio, ">= 0.9")
    if sampler is None:
        left_out.append("the authors' code: no checkout given")
        return
    scale = sizes.batch / sizes.authors_batch
    theirs_call = _authors(sampler, sizes.authors_batch)
    for per_element, wanted in ((False, ">= 138"), (True, ">= 35")):
        sides = {"ours": _straight_through(sizes.batch, per_element), "authors": theirs_call}
        seconds = in_turns(sides, sizes.rounds, threads=sizes.threads)
        ours, theirs = (statistics.median(seconds[name]) for name in sides)
        ratio = scale * median_ratio(seconds["authors"], seconds["ours"])
        law = "a law per element" if per_element else "one law"
        work = f"straight-through counts, {law}, forward + backward, batch {sizes.batch:,}"
        yield comparison(
            work, sizes.batch / ours, "draws/s", "authors' code", sizes.authors_batch / theirs, ratio, wanted
        )
        ours, theirs = memory_growth_mib(sides["ours"]), scale * memory_growth_mib(theirs_call)
        ratio = ours / max(theirs, 1e-9)
        yield comparison(f"peak memory, {work}", ours, "MiB", "authors' code, scaled", theirs, ratio, "<= 1")
