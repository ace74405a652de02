"""Measures the claims of Section 5.2 (Figure 2, Table 1) on every profile and data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from experiments.common.paper import read_paper
from experiments.verdicts.rules import Measurement, read_rules, too_few
from experiments.weak_supervision.blocks import BASELINES, METHODS, OURS, SHARED, Block, mean_and_error, read_blocks

FILE = "weak_supervision_metrics.csv"
INDEPENDENT_PAIRS = (0, 1, 3)  # of the paper's claim: at s = 5 it reports next to nothing itself
SHARED_PAIRS = (1, 3, 5)  # without shared factors there is no shared part
ROUNDED = 0.005  # half of the last digit of the paper's accuracies
PARTS = {"shared": "shared_accuracy", "independent": "independent_accuracy"}


class Cell:
    """Values of some methods on the pairs of one s, on the seeds that all have.

    Args:
        block: Profile and data.
        methods: The first is the one that is judged.
        shared: s.
        column: Of the metrics.
    """

    def __init__(self, block: Block, methods: Sequence[str], shared: int, column: str) -> None:
        self.block, self.methods, self.shared = block, methods, shared
        runs = {method: block.runs(method, shared).dropna(subset=[column]) for method in methods}
        columns = {method: part.set_index("seed")[column].sort_index() for method, part in runs.items()}
        self.values = pd.concat(columns, axis=1, join="inner")  # [seed, method]
        self.absent = [METHODS[method] for method, part in runs.items() if part.empty]
        lines = pd.concat(list(runs.values()))
        self.lines = lines[lines["seed"].isin(self.values.index)]

    def differences(self) -> dict[str, tuple[float, float]]:
        """Mean paired difference of the first method to each other one, with its standard error."""
        first, *others = self.values.columns
        return {other: mean_and_error(self.values[first] - self.values[other]) for other in others}

    def measurement(
        self,
        rule: str,
        text: str,
        values: Sequence[tuple[float, float]],
        short: str,
        fills: Mapping[str, str] | None = None,
    ) -> Measurement:
        """Returns the measurement, or why there is none."""
        fewest = read_rules()[rule].get("seeds", 1)
        missing = f"no run of {', '.join(self.absent)}" if self.absent else ""
        if not missing and len(self.values) < fewest:
            missing = "one seed is too few" if len(self.values) else "no seed is common to all"
        return Measurement(
            rule,
            text if not self.absent and len(self.values) else missing,
            [] if missing else values,
            self.lines,
            FILE,
            self.block.profile,
            self.block.data,
            {"method": METHODS[self.methods[0]], "shared": self.shared, **(fills or {})},
            part=", ".join([*(fills or {}).values(), f"s = {self.shared}"]),
            short="" if self.values.empty else short,
            missing=missing,
        )


def _with_error(mean: float, error: float, sign: str = "") -> str:
    """A mean with its error, which a single value does not have."""
    return f"{mean:{sign}.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}")


def _rule(rule: str, method: str) -> str:
    """A method that is not the paper's is not held against its claims."""
    return f"{rule}_ours" if method in OURS else rule


def below_baselines(block: Block, method: str, shared: int) -> Measurement:
    """Figure 2 at one s; both baselines decide."""
    cell = Cell(block, (method, *BASELINES), shared, "count_error")
    means = cell.values.mean()
    text = "; ".join(f"{METHODS[one]} {mean:.2f}" for one, mean in means.items())
    short = f"{means[method]:.2f} beside {' and '.join(f'{means[one]:.2f}' for one in BASELINES)}"
    return cell.measurement(_rule("figure_2_error", method), text, list(cell.differences().values()), short)


def near_truth(block: Block, method: str, shared: int) -> Measurement:
    """The named method finds k."""
    cell = Cell(block, (method,), shared, "count_error")
    mean = float(cell.values[method].mean())
    text = f"{mean:.2f}, largest {cell.values[method].max():.2f}"
    return cell.measurement("near_truth", text, [(mean, 1.0)], f"{mean:.2f}")


def bound_of_truth(block: Block, method: str, shared: int) -> Measurement:
    """The bound of the named method beside that of the same networks with k given."""
    cell = Cell(block, (method, "fixed_k_joint"), shared, "joint_bound")
    mean, error = cell.differences()["fixed_k_joint"]
    text = f"{mean:+.2f} nats per image" + ("" if math.isnan(error) else f", standard error {error:.2f}")
    return cell.measurement("bound_of_truth", text, [(mean, error)], f"{mean:+.1f} nats")


def independent_part(block: Block, method: str, shared: int) -> Measurement:
    """Table 1, column I; both baselines decide."""
    cell = Cell(block, (method, *BASELINES), shared, "independent_accuracy")
    differences = cell.differences()
    shown = "; ".join(
        f"{_with_error(mean, error, '+')} to {METHODS[other]}" for other, (mean, error) in differences.items()
    )
    means = cell.values.mean()
    short = f"{means[method]:.2f} beside {' and '.join(f'{means[one]:.2f}' for one in BASELINES)}"
    rule = _rule("table_1_independent", method)
    return cell.measurement(rule, f"{means[method]:.3f}: {shown}", list(differences.values()), short)


def shared_part(block: Block, method: str, shared: int) -> Measurement:
    """Table 1, column S: the paper says that HGVAE does as well as the baselines."""
    cell = Cell(block, (method, *BASELINES), shared, "shared_accuracy")
    means, deviations = cell.values.mean(), cell.values.std()
    text, short, values = "", "", []
    if not cell.values.empty:
        mean, lower = float(means[method]), means[list(BASELINES)].idxmin()
        better = ", above both" if mean > (means + deviations)[list(BASELINES)].max() else ""
        shown = "; ".join(f"{METHODS[other]} {_with_error(means[other], deviations[other])}" for other in BASELINES)
        text = f"{mean:.3f}{better}; {shown}"
        short = f"{mean:.2f} beside {' and '.join(f'{means[one]:.2f}' for one in BASELINES)}"
        values = [(mean - float(means[lower]), float(deviations[lower]))]
    return cell.measurement(_rule("table_1_shared", method), text, values, short)


def paper_number(block: Block, part: str, shared: int, number: Sequence[float]) -> Measurement:
    """One legible cell of Table 1."""
    cell = Cell(block, ("hgvae",), shared, PARTS[part])
    mean, paper = float(cell.values["hgvae"].mean()), number[0]
    value = (abs(mean - paper), max(number[1], 2 * ROUNDED))
    measured = cell.measurement("table_1_number", f"{mean:.3f}", [value], f"{mean:.2f} for {paper:.2f}", {"part": part})
    difference = "-" if measured.missing else f"{mean - paper:+.3f}"
    return Measurement(**{**vars(measured), "paper": f"{paper:.2f} ± {number[1]:.2f}", "difference": difference})


def same_estimate(block: Block, method: str) -> Measurement:
    """Both baselines' estimate of the number of shared latents over s."""
    runs = block.runs(method)
    means = (runs["latents"] - runs["expected_count"]).groupby(runs["shared"]).mean()
    missing = f"no run of {METHODS[method]} at two s"
    if len(means) > 1:
        missing = too_few("figure_2_baselines", int(runs.groupby("shared")["seed"].nunique().min()))
    spread = float(means.max() - means.min()) if len(means) else 0.0
    return Measurement(
        "figure_2_baselines",
        f"{means.min():.2f} to {means.max():.2f} of {runs['latents'].max()} latents" if len(means) else missing,
        [] if missing else [(spread, 1.0)],
        runs,
        FILE,
        block.profile,
        block.data,
        {"method": METHODS[method]},
        part=METHODS[method],
        short=f"range {spread:.2f}" if len(means) > 1 else "",
        missing=missing,
    )


def weak_supervision(metrics: Path) -> list[Measurement]:
    """Section 5.2, each profile and data set by itself.

    Of a block without any pairs of some s, or without any run of a method of ours, nothing is said.
    """
    measured = []
    paper = read_paper("table_1")["hgvae"]
    for block in read_blocks(metrics):
        pairs = [shared for shared in SHARED if shared in block.shared]
        ours = [method for method in OURS if method in block.methods]
        for method in ("hgvae", *ours):
            measured += [below_baselines(block, method, shared) for shared in pairs]
            judged = pairs if method in OURS else [shared for shared in pairs if shared in INDEPENDENT_PAIRS]
            measured += [independent_part(block, method, shared) for shared in judged]
            measured += [shared_part(block, method, shared) for shared in pairs if shared in SHARED_PAIRS]
        measured += [same_estimate(block, method) for method in BASELINES]
        measured += [
            paper_number(block, part, shared, paper[shared][part])
            for part in PARTS
            for shared in pairs
            if part in paper.get(shared, {})
        ]
        for method in ours:
            measured += [near_truth(block, method, shared) for shared in pairs]
            measured += [bound_of_truth(block, method, shared) for shared in pairs]
    return measured
