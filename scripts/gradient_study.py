"""Measure bias and variance of the gradient estimators and write metrics/gradient_study.csv."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import environment_facts
from experiments.common.store import write_atomically
from experiments.gradient_study.study import Settings, run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, help="checkout of the authors' code; without it their side is skipped")
    parser.add_argument("--output", type=Path, default=Path("results/local"), help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all generators (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one temperature and few samples: seconds, noisy")
    options = parser.parse_args(arguments)
    path = options.output / "metrics" / "gradient_study.csv"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output} can't be written: {error.strerror}.")
    settings = Settings.quick(options.seed) if options.quick else Settings(seed=options.seed)
    facts = environment_facts("cpu")  # before the run: the checkout may change under a long one
    try:
        frame = run(settings, options.official)
    except ExperimentError as error:
        parser.error(str(error))
    frame = frame.assign(
        profile="quick" if options.quick else "paper",
        seed=options.seed,
        commit=facts["commit"],
        dirty=facts["dirty"],
        device=facts["device"],
        torch=facts["packages"]["torch"],
    )
    write_atomically(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
