"""Measure speed, memory and precision beside the authors' code, BiasedUrn and plain NumPy (`make benchmark`)."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.benchmark import report
from experiments.benchmark.run import Benchmark
from experiments.benchmark.settings import Settings
from experiments.common.errors import ExperimentError


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, help="checkout of the authors' code; without it their side is skipped")
    parser.add_argument("--output", type=Path, default=Path("results/local/benchmark"), help="folder (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch and NumPy (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a look at the table, not a measurement")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}; it must be at least 1.")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output} can't be written: {error.strerror}.")
    settings = Settings.quick() if options.quick else Settings()
    benchmark = Benchmark(settings, options.official, options.threads)
    try:
        benchmark.run()
    except ExperimentError as error:
        parser.error(str(error))
    for path in report.write(benchmark, options.output):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
