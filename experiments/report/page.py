"""Puts the page together: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.common.errors import ExperimentError
from experiments.common.left_out import read_left_out
from experiments.common.tables import NOTHING
from experiments.report.charts import HEIGHT, WIDTH, Chart
from experiments.report.claims import claims
from experiments.report.pictures import Picture
from experiments.report.section import Inputs, Section, Shown
from experiments.report.sections import sections
from experiments.report.sources import Sources
from experiments.verdicts.claim import Claim

DASH = "\u2013"
FILES = Path(__file__).resolve().parent
ROOMS = {
    "kolmogorov_smirnov": "Kolmogorov-Smirnov tests",
    "urn": "Urn",
    "weak_supervision": "Weak supervision",
    "disentanglement": "Disentanglement scores",
    "clustering": "Clustering",
}
SIGNS = {
    "reproduced": "✓",
    "close": "≈",
    "not reproduced": "✕",
    "not comparable": "○",
    "holds": "✓",
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
WIDE = 9  # columns from which a table is printed across the page
_NUMBER = re.compile(r"[-+]?\d.*|not legible.*|undefined.*|-|", re.DOTALL)


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its room and the number of its source."""

    room: str
    ours: bool
    source: int
    claim: Claim


def typeset(text: str) -> str:
    """Writes formulas as a page can: k-hat, squares."""
    return text.replace("k-hat", "k\u0302").replace("^2", "²")


def sentence(text: str) -> str:
    """Begins with a capital letter, and has formulas typeset."""
    return typeset(text[:1].upper() + text[1:])


def _table(shown: Shown, sources: Sources) -> dict[str, Any]:
    table = shown.table
    numeric = [all(_NUMBER.fullmatch(row[column]) for row in table.rows) for column in range(len(table.header))]
    numeric[0] = False
    rows = []
    for cells, provenance in zip(table.rows, table.provenance, strict=True):
        cells = [DASH if cell == NOTHING else cell for cell in cells]
        number = sources.number(provenance, shown.place)
        rows.append({"cells": cells, "source": number, "paper": provenance is None})
    shape = {"header": table.header, "rows": rows, "numeric": numeric, "wide": len(table.header) >= WIDE}
    return {"kind": "table", "title": table.title} | shape


def _chart(chart: Chart, sources: Sources) -> dict[str, Any]:
    numbers = [sources.number(one.provenance) if one.provenance else 0 for one in chart.series]
    return {"kind": "chart", "chart": chart, "sources": numbers}


def _picture(picture: Picture, sources: Sources) -> dict[str, Any]:
    uri, width, height = picture.embedded()
    image = {"uri": uri, "width": width, "height": height}
    return {"kind": "picture", "caption": picture.caption, "source": sources.number(picture.provenance)} | image


def _part(part: Shown | Chart | Picture, sources: Sources) -> dict[str, Any]:
    if isinstance(part, Shown):
        return _table(part, sources)
    return _chart(part, sources) if isinstance(part, Chart) else _picture(part, sources)


def _judged(found: Iterable[tuple[str, Claim]], sources: Sources) -> list[JudgedClaim]:
    judged = []
    for room, claim in found:
        number = sources.number(claim.provenance) if claim.provenance else 0
        judged.append(JudgedClaim(room, claim.place.startswith("ours"), number, claim))
    return judged


def _counts(words: list[str]) -> dict[str, int]:
    """How often each word is there, those that are, in the order of ``SIGNS``."""
    return {word: words.count(word) for word in SIGNS if word in words}


def _profiles(metrics: Path) -> set[str]:
    """Profiles of everything in the folder."""
    found: set[str] = set()
    for path in sorted(metrics.glob("*.csv")):
        columns = pd.read_csv(path, nrows=0).columns
        if "profile" in columns:
            found |= set(pd.read_csv(path, usecols=["profile"])["profile"])
    return found


def render(inputs: Inputs) -> str:
    """Returns the page.

    Args:
        inputs: Where the committed files lie.

    Raises:
        ExperimentError: there is nothing to show, or a file can't be read.
    """
    sources = Sources()
    judged_claims, not_judged = claims(inputs.metrics)
    judged = _judged(judged_claims, sources)
    found, missing = sections(inputs)
    if not found:
        raise ExperimentError(f"{inputs.metrics} holds no metrics: run `make reproduce` first, or name another folder")
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"typeset": typeset, "sentence": sentence}
    page = environment.get_template("page.html.j2").render(
        style=(FILES / "style.css").read_text(encoding="utf-8"),
        script=(FILES / "script.js").read_text(encoding="utf-8"),
        theme=(FILES / "theme.js").read_text(encoding="utf-8"),
        rooms={room: ROOMS.get(room, room) for room in dict.fromkeys(one.room for one in judged)},
        judged=judged,
        counts=_counts([one.claim.verdict for one in judged if not one.ours]),
        own_counts=_counts([one.claim.verdict for one in judged if one.ours]),
        verdicts=_counts([one.claim.verdict for one in judged]),
        outcomes=_counts([one.claim.outcome for one in judged]),
        signs=SIGNS,
        sections=[_section(section, sources) for section in found],
        left_out=read_left_out(inputs.metrics),
        missing=[*not_judged, *missing],
        smoke="smoke" in _profiles(inputs.metrics),
        marks=MARKS,
        width=WIDTH,
        height=HEIGHT,
        sources=sources,
    )
    return page + "\n"


def _section(section: Section, sources: Sources) -> dict[str, Any]:
    parts = [_part(part, sources) for part in section.parts]
    return {"key": section.key, "heading": section.heading, "text": section.text, "parts": parts}
