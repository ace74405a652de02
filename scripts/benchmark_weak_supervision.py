"""Measure the training on image pairs: methods beside LabelVAE and a plain loop (`make benchmark-weak-supervision`)."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

import torch

from experiments.common.errors import ExperimentError
from experiments.weak_supervision.benchmark import report
from experiments.weak_supervision.benchmark.run import Benchmark
from experiments.weak_supervision.benchmark.settings import Settings


def main(arguments: list[str] | None = None) -> None:
    full = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results/local/benchmark"), help="folder (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (%(default)s, as in a run)")
    parser.add_argument("--image-size", type=int, nargs="+", help=f"pixels a side, one or several ({full.image_size})")
    parser.add_argument("--batch-size", type=int, nargs="+", help=f"pairs, one per image size ({full.batch_size})")
    parser.add_argument("--rounds", type=int, help=f"how often every side has its turn ({full.rounds})")
    parser.add_argument("--steps", type=int, help=f"timed steps per side and round ({full.steps})")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="%(default)s")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, a minute or two")
    parser.add_argument("--no-memory", action="store_true", help="leave out memory, a process per side")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a look at the table, not a measurement")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}; it must be at least 1.")
    base = Settings.quick() if options.quick else full
    images = options.image_size or [base.image_size]
    batches = options.batch_size or [base.batch_size] * len(images)
    if len(images) != len(batches):
        parser.error(f"--image-size names {len(images)} sizes and --batch-size {len(batches)}; give one for each")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output} can't be written: {error.strerror}.")
    torch.set_num_threads(options.threads)
    given = {name: getattr(options, name) for name in ("rounds", "steps") if getattr(options, name) is not None}
    given["accelerator"] = options.accelerator
    for name in ("compile", "memory"):
        if getattr(options, f"no_{name}"):
            given[name] = False
    try:
        sizes = dict.fromkeys(zip(images, batches))
        benchmark = Benchmark([replace(base, image_size=size, batch_size=batch, **given) for size, batch in sizes])
        benchmark.run()
    except ExperimentError as error:
        parser.error(str(error))
    for path in report.write(benchmark, options.output):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
