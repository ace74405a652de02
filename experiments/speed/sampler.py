"""The sampler beside the authors' code, over urns, batches and temperatures, and beside BiasedUrn on the paper's urn.

One favourable case says nothing: users have small urns and small batches, and every annealing starts above 1.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mvhg
from experiments.settings import ExperimentError, PositiveInt, settings
from experiments.speed.calls import Urn, every_call
from experiments.speed.measure import comparison, in_turns, median_ratio, memory_growth_mib

SIZES, TOTAL, WEIGHTS = (200, 200, 200), 180, (1.0, 2.0, 1.0)  # the paper's urn
MOST_MASKS = 9e7  # entries of the authors' masks, beyond which they take gigabytes
Sampler = Callable[..., Any]  # the authors'
Call = Callable[[], object]


@settings
class Sizes:
    """What is measured.

    Attributes:
        urns: Group sizes and total count, for selection masks on one thread.
        batches: Laws at once, each with weights of its own.
        temperatures: Of the relaxation.
        draws: Of one law, the paper's.
        batch: Straight-through draws of the paper's urn.
        authors_batch: Of the authors' code, which takes 0.7 MB a draw; their rate is taken as it is at this size.
        rounds: How often the sides take turns.
        threads: Of torch, for the paper's urn.
    """

    urns: tuple[tuple[tuple[int, ...], int], ...] = (
        ((10, 10), 10),
        ((3, 5, 4), 5),
        ((10,) * 10, 50),
        (SIZES, TOTAL),
        ((128,) * 10, 128),
    )
    batches: tuple[int, ...] = (1, 64, 512)
    temperatures: tuple[float, ...] = (0.1, 0.5, 2.0, 10.0)
    draws: PositiveInt = 1_000_000
    batch: PositiveInt = 10_000
    authors_batch: PositiveInt = 1_000
    rounds: PositiveInt = 7
    threads: PositiveInt = 2


def ours(urn: Urn, temperature: float, masks: bool) -> Call:
    """A distribution with new log weights, a draw of masks or of counts, forward and backward."""
    start = urn.log_weights(0.5).float()

    def call() -> None:
        log_weights = start.clone().requires_grad_(True)
        law = mvhg.MultivariateHypergeometricStraightThrough(
            temperature, urn.total_count, urn.group_sizes, log_weights=log_weights
        )
        drawn = law.rsample_selection(urn.draws).prefix_mask if masks else law.rsample(urn.draws)
        drawn.square().sum().backward()

    return call


def authors(urn: Urn, temperature: float, masks: bool, sampler: Sampler) -> Call:
    """The same work through their sampler, a law for each draw: it knows no other."""
    start, sizes = urn.log_weights(0.5).float(), torch.tensor(urn.group_sizes)
    total = torch.full((*urn.batch, 1), urn.total_count)

    def call() -> None:
        log_weights = start.clone().requires_grad_(True)
        drawn: list[Tensor] = sampler(sizes, total, log_weights, temperature)[2 if masks else 1]
        torch.stack([one.square().sum() for one in drawn]).sum().backward()

    return call


def cells(sizes: Sizes) -> Iterator[tuple[Urn, float]]:
    """Yields the urns, at a batch size and temperature, that fit in memory on the authors' side."""
    for groups, total in sizes.urns:
        for batch in sizes.batches:
            if batch * len(groups) * max(groups) ** 2 <= MOST_MASKS:
                for temperature in sizes.temperatures:
                    yield Urn(tuple(groups), total, (batch,)), temperature


def measure_grid(sizes: Sizes, sampler: Sampler | None) -> Iterator[dict[str, Any]]:
    """Measures selection masks in every cell on one thread, beside the authors' sampler if there is one.

    Yields:
        A line per cell: urn, groups, batch, temperature, milliseconds and MiB of both sides, and ratios theirs / ours.
    """
    for urn, temperature in cells(sizes):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the order of the authors' classes comes from NumPy's global state
        sides = {"ours": ours(urn, temperature, masks=True)}
        if sampler is not None:
            sides["authors"] = authors(urn, temperature, True, sampler)
        seconds = in_turns(sides, sizes.rounds)
        memory = {name: memory_growth_mib(call) for name, call in sides.items()}
        line: dict[str, Any] = {"urn": urn.name, "groups": len(urn.group_sizes), "batch": urn.batch[0]}
        line |= {"temperature": temperature}
        line |= {f"{name}_ms": 1e3 * statistics.median(values) for name, values in seconds.items()}
        line |= {f"{name}_mib": value for name, value in memory.items()}
        yield line | ({"ratio": median_ratio(seconds["authors"], seconds["ours"])} if sampler else {})


def measure_peers(sizes: Sizes, sampler: Sampler | None, left_out: list[str]) -> Iterator[dict[str, Any]]:
    """Measures counts of the paper's urn: exact draws beside BiasedUrn, relaxed ones beside the authors' code.

    What can't be measured is added to ``left_out``, with the reason.

    Yields:
        A ``comparison`` per piece of work.
    """
    law = TOTAL, list(SIZES), torch.tensor(WEIGHTS)
    laws = {"exact": mvhg.MultivariateHypergeometric(*law)}
    laws["hard"] = mvhg.MultivariateHypergeometricStraightThrough(0.5, *law)
    draws = {name: lambda one=one: one.sample((sizes.draws,)) for name, one in laws.items()}
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
    scale, one_law = sizes.batch / sizes.authors_batch, Urn(SIZES, TOTAL, draws=(sizes.batch,))
    theirs_call = authors(Urn(SIZES, TOTAL, (sizes.authors_batch,)), 0.5, False, sampler)
    law_each = Urn(SIZES, TOTAL, (sizes.batch,))
    for words, urn, wanted in (("one law", one_law, ">= 138"), ("a law per element", law_each, ">= 35")):
        sides = {"ours": ours(urn, 0.5, masks=False), "authors": theirs_call}
        seconds = in_turns(sides, sizes.rounds, threads=sizes.threads)
        mine, theirs = (statistics.median(seconds[name]) for name in sides)
        ratio = scale * median_ratio(seconds["authors"], seconds["ours"])
        work, both = f"straight-through counts, {words}, forward + backward, batch {sizes.batch:,}", "authors' code"
        yield comparison(work, sizes.batch / mine, "draws/s", both, sizes.authors_batch / theirs, ratio, wanted)
        mine, theirs = memory_growth_mib(sides["ours"]), scale * memory_growth_mib(theirs_call)
        ratio = mine / max(theirs, 1e-9)
        yield comparison(f"peak memory, {work}", mine, "MiB", f"{both}, scaled", theirs, ratio, "<= 1")


def measure_calls(rounds: int) -> Iterator[dict[str, Any]]:
    """Measures every call of the library on one thread.

    Yields:
        A line per call: urn, temperature, call and milliseconds.
    """
    for urn, temperature, name, call in every_call(torch.device("cpu")):
        milliseconds = 1e3 * statistics.median(in_turns({"": call}, rounds, shortest=0.02)[""])
        yield {"urn": urn.words, "temperature": temperature, "call": name, "milliseconds": milliseconds}


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
