"""Measures bias and variance of the gradient estimators and writes metrics/gradient_study.csv."""

from __future__ import annotations

import argparse

from experiments.environment import environment_facts
from experiments.gradient_study.figures import FILE
from experiments.gradient_study.study import Settings, run
from experiments.settings import one_line_errors, typed_path, typed_seed
from experiments.tables import write


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=typed_path, help="checkout of the authors' code; else their side is skipped")
    parser.add_argument("--output", type=typed_path, default="results/local", help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=typed_seed, default=0, help="seed of all generators (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one temperature and few samples: seconds, noisy")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        metrics = options.output / "metrics"
        metrics.mkdir(parents=True, exist_ok=True)  # before the work
        facts = environment_facts("cpu")  # likewise: the checkout may change under a long run
        settings = Settings.quick(options.seed) if options.quick else Settings(seed=options.seed)
        frame = run(settings, options.official).assign(
            profile="quick" if options.quick else "paper",
            seed=options.seed,
            commit=facts["commit"],
            dirty=facts["dirty"],
            device=facts["device"],
            torch=facts["packages"]["torch"],
        )
        write({FILE: frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")}, metrics)


if __name__ == "__main__":
    main()
