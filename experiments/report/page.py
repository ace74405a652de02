"""Puts the page together: one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.claims.summary import judge_by_room
from experiments.report.charts import HEIGHT, WIDTH
from experiments.report.sections import sections
from experiments.results import Provenance, read_left_out
from experiments.settings import ExperimentError

FILES = Path(__file__).resolve().parent
Facts = tuple[tuple[str, str], ...]  # name and value of each
ROOMS = {
    "kolmogorov_smirnov": "Kolmogorov-Smirnov tests",
    "urn": "Urn",
    "weak_supervision": "Weak supervision",
    "clustering": "Clustering",
}
SIGNS = {
    "reproduced": "✓",
    "close": "≈",
    "not reproduced": "✕",
    "not comparable": "○",
    "holds": "✓",
    "no difference": "=",
    "fails": "✕",
    "not judged": "○",
}
# A mark of its own for every series: circle, square, triangle, diamond, triangle pointing down, cross.
MARKS = (
    "M0-4.2a4.2 4.2 0 1 0 .01 0Z",
    "M-3.8-3.8h7.6v7.6h-7.6Z",
    "M0-5 4.8 3.6h-9.6Z",
    "M0-5.4 5 0 0 5.4-5 0Z",
    "M0 5-4.8-3.6h9.6Z",
    "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5Z",
)


def render(metrics: Path, figures: Path) -> str:
    """Returns the page.

    Args:
        metrics: Folder of the CSVs; that of the benchmarks lies beside it.
        figures: Folder of the figures.

    Raises:
        ExperimentError: there is nothing to show, or a file can't be read.
    """
    sources: dict[Facts, int] = {}  # in the order in which the page names them first; equal ones share a number

    def number(provenance: Provenance | None, place: str = "") -> int:
        return sources.setdefault(facts_of(provenance, place), len(sources) + 1)

    claims, problems = judge_by_room(metrics)
    found, missing = sections(metrics, figures)
    if not found:
        raise ExperimentError(f"{metrics} holds no metrics: run `make reproduce` first, or name another folder")
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"typeset": typeset, "sentence": sentence}
    every = [one for some in claims.values() for one in some]
    page = environment.get_template("page.html.j2").render(
        files={name: (FILES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js", "theme.js")},
        claims=claims,
        rooms=ROOMS,
        counts=_counts(one.verdict for one in every if not one.is_ours),
        own_counts=_counts(one.verdict for one in every if one.is_ours),
        verdicts=_counts(one.verdict for one in every),
        outcomes=_counts(one.outcome for one in every),
        signs=SIGNS,
        sections=found,
        left_out=read_left_out(metrics),
        missing=[*(f"claims of {problem}" for problem in problems), *missing],
        smoke="smoke" in _profiles(metrics),
        marks=MARKS,
        width=WIDTH,
        height=HEIGHT,
        sources=sources,
        number_of=number,
        numbers_of=lambda chart: [number(one.provenance) if one.provenance else 0 for one in chart.series],
    )
    return page + "\n"


def facts_of(provenance: Provenance | None, place: str = "") -> Facts:
    """Returns name and value of what is known of some numbers' source.

    Args:
        provenance: Of the numbers; None where they are the paper's.
        place: Where the paper's numbers stand.
    """
    if provenance is None:
        return (("from the paper", place or "as the text says"),)
    if not provenance.profile:
        return (("runs", "no run of this line is in these results"), ("file", provenance.source))
    return tuple((name, value) for name, value in provenance.lines() if value)


def typeset(text: str) -> str:
    """Writes formulas as a page can: k-hat, squares."""
    return text.replace("k-hat", "k\u0302").replace("^2", "²")


def sentence(text: str) -> str:
    """Begins with a capital letter, and has formulas typeset."""
    return typeset(text[:1].upper() + text[1:])


def _counts(words: Iterable[str]) -> dict[str, int]:
    """How often each word is there, those that are, in the order of ``SIGNS``."""
    found = list(words)
    return {word: found.count(word) for word in SIGNS if word in found}


def _profiles(metrics: Path) -> set[str]:
    """Profiles of everything in the folder."""
    found: set[str] = set()
    for path in sorted(metrics.glob("*.csv")):
        with suppress(ValueError):  # of a file that can't be read: named where it is wanted
            found |= set(pd.read_csv(path, usecols=lambda name: name == "profile").get("profile", ()))
    return found
