"""Speed: the sampler beside the authors' code and BiasedUrn, or the training steps of the VAEs beside each other."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.authors import load_sampler
from experiments.settings import one_line_errors, typed_path
from experiments.speed import report
from experiments.speed.sampler import Sizes, measure_calls, measure_grid, measure_peers
from experiments.speed.steps import TINY, Steps, measure_steps
from experiments.speed.tables import as_text

QUICK = Sizes(
    urns=(((10, 10), 10), ((3, 5, 4), 5)), batches=(1, 8), temperatures=(0.5, 2.0), draws=10_000, batch=100,
    authors_batch=20, rounds=2, threads=1,
)  # fmt: skip
TITLES = {
    "sampler": "Benchmark of the sampler",
    "weak_supervision": "Training on image pairs: seconds per step",
    "clustering": "Training of the VaDE: seconds per step",
}
CALLS = """Calls
Medians on one thread, in float32, construction of the law included, validation off. The temperature is of selection and
rsample alone."""
STEPS = """Sides
Every side is the training of a run, with its Lightning trainer and checkpoints; they take turns in one process, and the
first chunk of steps of a turn warms up. Seconds are medians over the rounds; ratios, to the first side, are medians of
the ratios within a round, with the lowest and the highest."""


def said(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Prints lines of a table as they are measured."""
    for line in lines:
        print("; ".join(f"{name} {as_text(value)}" for name, value in line.items() if value != ""), flush=True)
        yield line


def sampler_sections(official: Path | None, quick: bool, left_out: list[str]) -> report.Sections:
    """Measures the sampler."""
    sampler = load_sampler(official) if official else None
    sizes = QUICK if quick else Sizes()
    grid = pd.DataFrame(said(measure_grid(sizes, sampler)))
    lines = [*report.grid_lines(grid), *said(measure_peers(sizes, sampler, left_out))]
    worst = report.grid_in_words(grid)
    main = (f"Beside others\n{worst}", pd.DataFrame(lines))
    calls = (CALLS, pd.DataFrame(said(measure_calls(sizes.rounds))))
    return {"benchmark": main, "grid": (f"Urns, batches, temperatures\n{worst}", grid), "calls": calls}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=TITLES)
    parser.add_argument("--official", type=typed_path, help="checkout of the authors' code; without it not their side")
    parser.add_argument("--output", type=typed_path, default="results/local/benchmark", help="folder (%(default)s)")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="of the VAEs (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a look at the page, not a measurement")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        options.output.mkdir(parents=True, exist_ok=True)
        facts, left_out = report.before_a_run(options.accelerator), list[str]()
        if options.what == "sampler":
            sections = sampler_sections(options.official, options.quick, left_out)
        else:
            sizes = Steps(accelerator=options.accelerator, **(TINY if options.quick else {}))
            sections = {options.what: (STEPS, pd.DataFrame(said(measure_steps(options.what, sizes))))}
        for path in report.write(options.output, TITLES[options.what], sections, facts, left_out):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
