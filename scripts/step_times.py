"""Seconds per training step of the VAEs beside each other (`make benchmark-weak-supervision`, `-clustering`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.settings import one_line_errors
from experiments.speed import report
from experiments.speed.steps import ROOMS, Steps, measure_steps

TITLES = {
    "weak_supervision": "Training on image pairs: seconds per step",
    "clustering": "Training of the VaDE: seconds per step",
}
TEXT = """Sides
Every side is the training of a run, with its Lightning trainer and checkpoints; they take turns in one process, and the
first chunk of steps of a turn warms up. Seconds are medians over the rounds; ratios, to the first side, are medians of
the ratios within a round, with the lowest and the highest."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("--output", type=Path, default=Path("results/local/benchmark"), help="folder (%(default)s)")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a look at the page, not a measurement")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        sizes = Steps(accelerator=options.accelerator)
        if options.quick:
            sizes = Steps(image_size=32, pairs=4, digits=64, steps=4, rounds=2, accelerator=options.accelerator)
        facts = report.before_a_run(options.accelerator)
        table = measure_steps(options.room, sizes, print)
        for path in report.write(options.output, TITLES[options.room], {options.room: (TEXT, table)}, facts):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
