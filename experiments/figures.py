"""What figures share: style, colours for grey and colour-blind readers, captions, reproducible files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends import backend_pdf
from matplotlib.figure import Figure

from experiments.settings import ExperimentError, named_problems
from experiments.store import write_atomically

# Okabe-Ito colours, dark to light, each with a marker of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
CAPTION = 17.5  # characters per inch
STYLE: Any = {
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2,
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
}


def draw(figures: Mapping[str, Callable[[], Figure]], output: Path) -> list[Path]:
    """Draws and saves figures; one whose runs are not there is named, and an earlier one by its name removed.

    Returns:
        The paths written.

    Raises:
        ExperimentError: nothing could be drawn.
    """
    paths: list[Path] = []
    reasons: list[str] = []
    for name, make in figures.items():
        with named_problems(name, reasons), plt.rc_context(STYLE):
            paths += save(make(), output, name)
    for name in set(figures) - {path.stem for path in paths}:
        for ending in ("png", "pdf"):
            (output / f"{name}.{ending}").unlink(missing_ok=True)  # of other runs
    if not paths:
        raise ExperimentError(f"nothing to draw: {'; '.join(reasons)}")
    for line in [*(f"wrote {path}" for path in paths), *(f"not drawn: {reason}" for reason in reasons)]:
        print(line)
    return paths


def look(name: str, known: Iterable[str]) -> dict[str, Any]:
    """Returns colour, marker and line of a name: the same in every figure that knows the names in this order."""
    place = list(known).index(name) % len(COLOURS)
    return {"color": COLOURS[place], "marker": MARKERS[place], "linestyle": LINES[place]}


def shades(values: Iterable[Any]) -> dict[Any, Any]:
    """Returns a colour for each of some ordered values, from dark to light."""
    found = list(values)
    return dict(zip(found, plt.get_cmap("viridis")(np.linspace(0.0, 0.88, len(found)))))


def draw_means(axes: Axes, lines: pd.DataFrame, by: str, quantity: str, offset: float = 0, **style: Any) -> None:
    """Draws means over the values of ``by``, moved sideways, with bars of their standard error; none for one value."""
    values = lines.groupby(by)[quantity]
    mean, error = values.mean(), values.sem().fillna(0)
    axes.errorbar(mean.index + offset, mean, yerr=error, elinewidth=1, **style)


def no_run(axes: Axes) -> None:
    """Says in a panel that nothing was measured."""
    axes.text(0.5, 0.5, "no run", ha="center", va="center", transform=axes.transAxes)


def legend_above(figure: Figure, entries: tuple[Sequence[Any], Sequence[str]], columns: int) -> None:
    """Puts one legend above all panels; entries: handles and labels, as ``get_legend_handles_labels`` returns them."""
    figure.legend(*entries, loc="outside upper center", ncols=columns)


def add_caption(figure: Figure, text: str) -> None:
    """Writes a caption below the panels, as wide as they are."""
    width = int(CAPTION * figure.get_figwidth())
    figure.text(0.01, -0.01, fill(text, width), ha="left", va="top", fontsize=8)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Saves ``<name>.png`` and ``<name>.pdf`` without dates, so that the same numbers give the same bytes.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _freeze_layout(figure)
    no_dates = {"png": {"Software": None}, "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer"))}
    paths = []
    with _short_numbers():
        for ending, metadata in no_dates.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, bbox_inches="tight", metadata=metadata)
            paths.append(folder / f"{name}.{ending}")
            write_atomically(paths[-1], buffer.getvalue())
    plt.close(figure)
    return paths


def _freeze_layout(figure: Figure) -> None:
    """Lays out once and rounds: the layout's solver may differ in the last digit from one call to the next."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(edge, 4) for edge in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


@contextmanager
def _short_numbers() -> Iterator[None]:
    """Writes the numbers of a PDF to a ten-thousandth of a point, not to the tenth digit.

    Products of small matrices may differ in their last bit from one call to the next, by where they lie in memory.
    """
    write = backend_pdf.pdfRepr
    backend_pdf.pdfRepr = lambda value: write(round(value, 4) if isinstance(value, float) else value)
    try:
        yield
    finally:
        backend_pdf.pdfRepr = write
