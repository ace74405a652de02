"""Speed, memory and precision of the sampler beside the authors' code and BiasedUrn (`make benchmark`)."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch

from experiments.authors import load_sampler
from experiments.settings import one_line_errors
from experiments.speed import report
from experiments.speed.device_view import measure_device_view
from experiments.speed.grid import Grid, measure_grid
from experiments.speed.limits import Limits, measure_limits
from experiments.speed.peers import Peers, measure_peers, precision

QUICK = (
    Grid(urns=(((10, 10), 10), ((3, 5, 4), 5)), batches=(1, 8), temperatures=(0.5, 2.0), rounds=2),
    Limits(rounds=1, many_groups=60, large_batch=4),
    Peers(draws=10_000, batch=100, authors_batch=20, rounds=1, threads=1),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, help="checkout of the authors' code; else their side is left out")
    parser.add_argument("--output", type=Path, default=Path("results/local/benchmark"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a look at the page, not a measurement")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        options.output.mkdir(parents=True, exist_ok=True)
        sampler = load_sampler(options.official) if options.official else None
        grid_sizes, limit_sizes, peer_sizes = QUICK if options.quick else (Grid(), Limits(), Peers())
        facts = report.before_a_run()
        grid = measure_grid(grid_sizes, sampler, print)
        limits = measure_limits(limit_sizes, print)
        device = measure_device_view(print)
        peers, left_out = measure_peers(peer_sizes, sampler, print)
        distances = {str(dtype)[6:]: precision(dtype) for dtype in (torch.float32, torch.float64)}
        worst = report.grid_in_words(grid)
        precise = ", ".join(f"{dtype} {distance:.1e}" for dtype, distance in distances.items())
        sections = {
            "benchmark": (
                f"Beside others, and beside what was wanted\n{worst}\nOne thread for what is below a second. Largest "
                f"total-variation distance of a conditional law from a float64 convolution: {precise}.",
                pd.DataFrame([*report.grid_lines(grid), *peers, *limits]),
            ),
            "grid": (f"Urns, batches, temperatures\n{worst}", grid),
            "device_view": (
                "What a GPU would be asked\nKernels (ATen calls that are no views) and synchronisations of one call on "
                "torch's meta device, sizes given as numbers, validation off; whether it compiles whole.",
                device,
            ),
        }
        for path in report.write(options.output, "Benchmark of the sampler", sections, facts, left_out):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
