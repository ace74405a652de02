"""What figures share: style, colours for grey and colour-blind readers, captions, reproducible files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.backends import backend_pdf
from matplotlib.figure import Figure

from experiments.settings import ExperimentError

# Okabe-Ito colours, dark to light, each with a marker of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
# Ten classes at once: Tol's muted scheme with a dark grey.
CLASS_COLOURS = (
    *("#332288", "#CC6677", "#117733", "#999933", "#882255"),
    *("#44AA99", "#AA4499", "#0072B2", "#D55E00", "#555555"),
)
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
}


def draw(figures: Mapping[str, Callable[[], Figure]], output: Path) -> list[Path]:
    """Draws and saves figures; one whose runs are not there is named and left out.

    Args:
        figures: Name of the file -> what draws it.
        output: Folder.

    Returns:
        The paths written.

    Raises:
        ExperimentError: nothing could be drawn.
    """
    paths: list[Path] = []
    reasons = []
    for name, make in figures.items():
        try:
            with plt.rc_context(STYLE):
                paths += save(make(), output, name)
        except ExperimentError as error:
            reasons.append(f"{name}: {error}")
    if not paths:
        raise ExperimentError(f"nothing to draw: {'; '.join(reasons)}")
    for line in [*(f"wrote {path}" for path in paths), *(f"not drawn: {reason}" for reason in reasons)]:
        print(line)
    return paths


def add_caption(figure: Figure, text: str, width: int) -> None:
    """Writes a caption below the panels, ``width`` characters a line."""
    figure.text(0.01, -0.01, fill(text, width), ha="left", va="top", fontsize=8)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Saves ``<name>.png`` and ``<name>.pdf`` without dates, so that the same numbers give the same bytes.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _freeze_layout(figure)
    png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
    figure.savefig(png, bbox_inches="tight", metadata={"Software": None})
    with _short_numbers():
        figure.savefig(pdf, bbox_inches="tight", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
    return [png, pdf]


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
