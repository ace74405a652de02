"""Measure the VaDE's training beside a plain PyTorch loop, and several seeds at once (`make benchmark-clustering`)."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

import torch

from experiments.clustering.benchmark import report
from experiments.clustering.benchmark.run import Benchmark
from experiments.clustering.benchmark.settings import PRIORS, Settings
from experiments.common.errors import ExperimentError


def main(arguments: list[str] | None = None) -> None:
    full = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results/local/benchmark"), help="folder (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (%(default)s, as in a run)")
    parser.add_argument("--rounds", type=int, help=f"how often every side has its turn ({full.rounds})")
    parser.add_argument("--steps", type=int, help=f"timed steps per side and round ({full.steps})")
    parser.add_argument("--prior", nargs="+", choices=PRIORS, default=["hypergeometric", "uniform"], help="%(default)s")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="%(default)s")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, minutes per prior")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a look at the table, not a measurement")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}; it must be at least 1.")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output} can't be written: {error.strerror}.")
    torch.set_num_threads(options.threads)
    given = {name: getattr(options, name) for name in ("rounds", "steps") if getattr(options, name) is not None}
    if options.no_compile:
        given["compile"] = False
    given["accelerator"] = options.accelerator
    make = Settings.quick if options.quick else Settings
    settings = [replace(make(prior=prior), **given) for prior in dict.fromkeys(options.prior)]
    benchmark = Benchmark(settings)
    try:
        benchmark.run()
    except ExperimentError as error:
        parser.error(str(error))
    for path in report.write(benchmark, options.output):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
