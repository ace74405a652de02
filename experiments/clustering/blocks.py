"""Collected clustering metrics in blocks that may be shown together: a recipe at one profile on one data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from experiments.results import MetricsBlock, blocks, describe_seeds, ordered, read_metrics
from experiments.settings import ExperimentError

PAPER_PRIORS = ("uniform", "categorical", "hypergeometric")
WEIGHTED = {  # learned weights of Figure 3
    "hypergeometric": "learned, exact law",
    "hypergeometric, merged conditionals": "learned, merged conditionals",
    "hypergeometric over assignments": "learned, prior over assignments",
}
PRIORS = tuple(dict.fromkeys([*PAPER_PRIORS, *WEIGHTED]))  # in their order
PAPER_VERSIONS = ("full", "80", "60")
VERSIONS = {"full": "full", "80": "80 %", "60": "60 %", "20": "20 %", "10": "10 %"}
RECIPES = {"vade": "VaDE's recipe", "n2d": "N2D start, then VaDE"}
DATA = {"mnist": "MNIST", "digits_5000": "5,000-digit subset"}  # from the largest
_OWN_AXES = ["conditionals", "reading"]  # of the hypergeometric prior


def prior_in_words(axes: Mapping[str, Any]) -> str:
    """Returns the prior's name, with what its own axes say beyond the usual."""
    name = str(axes["prior"])
    if axes.get("reading") == "assignments":
        name += " over assignments"
    return f"{name}, merged conditionals" if axes.get("conditionals") == "merged" else name


def shows_pictures(axes: Mapping[str, Any]) -> bool:
    """Whether a figure shows the generated digits of runs with these axes."""
    return prior_in_words(axes) in WEIGHTED and str(axes["version"]) in PAPER_VERSIONS


def read_lines(metrics: Path, name: str) -> pd.DataFrame:
    """Reads ``<metrics>/clustering_<name>.csv``, runs with changed settings left out and the priors in words.

    Raises:
        ExperimentError: the file isn't there or holds no such run.
    """
    text = dict.fromkeys(["version", *_OWN_AXES], str)  # 80 and 60 would be numbers where "full" is missing
    table = read_metrics(metrics, f"clustering_{name}", dtype=text)
    words = [prior_in_words(axes) for axes in table[["prior", *_OWN_AXES]].to_dict("records")]
    return table.assign(prior=words).drop(columns=_OWN_AXES)


@dataclass(frozen=True)
class Block(MetricsBlock):
    """What one recipe measured at one profile on one data set; the priors of its metrics are in words.

    Attributes:
        recipe: name of the recipe.
    """

    recipe: str

    usual_data: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("paper", "medium"), "mnist"),
        **dict.fromkeys(("quick", "smoke"), "digits_5000"),
    }

    @property
    def data_in_words(self) -> str:
        return DATA.get(self.data, self.data)

    @property
    def source(self) -> str:
        return f"{RECIPES.get(self.recipe, f'recipe {self.recipe}')}, {super().source}"

    @property
    def suffix(self) -> str:
        return f"{super().suffix}_{self.recipe}"

    @property
    def priors(self) -> list[str]:
        """Priors with a run."""
        return ordered(self.metrics["prior"], PRIORS)

    @property
    def versions(self) -> dict[str, str]:
        """Dataset versions with a run -> their names in words."""
        return {one: VERSIONS.get(one, f"{one} %") for one in ordered(self.metrics["version"], VERSIONS)}

    def described(self, lines: pd.DataFrame) -> str:
        """Profile, data and seeds of a figure's lines, the last sentence of its caption."""
        return f"{self.heading}, {describe_seeds(lines, 'version', VERSIONS)}."

    def scores(self, split: str = "test", stage: str = "vade") -> pd.DataFrame:
        """Returns the metrics of one split and stage, a line per run."""
        return self.metrics[(self.metrics["split"] == split) & (self.metrics["stage"] == stage)]

    def table(self, name: str, priors: Collection[str] | None = None) -> pd.DataFrame:
        """Returns this block's lines of another table.

        Args:
            name: ``weights``, ``confusion``, ``history`` or ``generated``.
            priors: whose lines; None for all.

        Raises:
            ExperimentError: there is no such file, or no run of these priors.
        """
        table = read_lines(self.folder, name)
        table = table[table["run_id"].isin(self.metrics["run_id"])]
        if priors is None:
            return table
        table = table[table["prior"].isin(priors)]
        if table.empty:
            raise ExperimentError(f"the metrics hold no run of {' or '.join(priors)} at {self.source}")
        return table


def paired(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of the seeds that the paper's priors of a version share, as seeds differ more than priors.

    Where they share none, all of that version.
    """
    of_paper = lines["prior"].where(lines["prior"].isin(PAPER_PRIORS))
    wanted = of_paper.groupby(lines["version"]).transform("nunique")
    common = of_paper.groupby([lines["version"], lines["seed"]]).transform("nunique") == wanted
    return lines[common | ~common.groupby(lines["version"]).transform("any")]


def read_blocks(metrics: Path) -> list[Block]:
    """Returns a block for every profile, data set and recipe with a run, the largest first.

    Raises:
        ExperimentError: there is none.
    """
    parts = blocks(read_lines(metrics, "metrics"), DATA)
    return [
        Block(metrics, part.profile, part.data, part.lines[part.lines["recipe"] == recipe], recipe)
        for part in parts
        for recipe in ordered(part.lines["recipe"], RECIPES)
    ]
