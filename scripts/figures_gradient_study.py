"""Draw figures/gradient_study.{png,pdf} and write tables/gradient_study.md from metrics/gradient_study.csv."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.common.one_line_errors import one_line_errors
from experiments.common.store import write_atomically
from experiments.gradient_study import figure
from experiments.gradient_study.table import markdown


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of the CSV (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        frame = figure.read(options.metrics / "gradient_study.csv")
        paths = figure.save(figure.draw(frame), options.output / "figures")
        table = options.output / "tables" / "gradient_study.md"
        table.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(table, markdown(frame))
    for path in [*paths, table]:
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
