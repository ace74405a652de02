"""What the figure scripts share: style, colours for grey and colour-blind readers, captions, reproducible files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any, Protocol, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.backends import backend_pdf
from matplotlib.figure import Figure

from experiments.common.collected import read_collected
from experiments.common.errors import ExperimentError

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
PROFILES = ("paper", "medium", "quick", "smoke")  # from the largest


def read_table(metrics: Path, name: str, every_seed: bool = False) -> pd.DataFrame:
    """Reads ``<metrics>/<name>.csv``: its largest profile and, unless ``every_seed``, that profile's lowest seed.

    Raises:
        ExperimentError: the file isn't there, can't be read or holds no run.
    """
    path = metrics / f"{name}.csv"
    table = read_collected(path)
    for profile in PROFILES:
        part = table[table["profile"] == profile]
        if len(part):
            return part if every_seed else part[part["seed"] == part["seed"].min()]
    raise ExperimentError(f"{path} holds no run of the profiles {', '.join(PROFILES)}")


def add_caption(figure: Figure, text: str, width: int) -> None:
    """Writes a caption below the panels, ``width`` characters a line."""
    figure.text(0.01, -0.01, fill(text, width), ha="left", va="top", fontsize=8)


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


class Suffixed(Protocol):
    """What a figure may be drawn of: a part of the collected metrics with an ending for file names."""

    @property
    def suffix(self) -> str:
        """Ending of file names."""
        ...


Part = TypeVar("Part", bound=Suffixed)


def draw(figures: Mapping[str, Callable[[Part], Figure]], parts: Iterable[Part], output: Path) -> None:
    """Draws and saves figures of every part; one whose runs are not there is named and left out.

    Args:
        figures: Name of the file -> what draws it.
        parts: Parts of the metrics.
        output: Folder.

    Raises:
        ExperimentError: nothing could be drawn.
    """
    reasons, drawn = [], 0
    for part in parts:
        for name, make in figures.items():
            try:
                with plt.rc_context(STYLE):
                    figure = make(part)
                    for path in save(figure, output, f"{name}_{part.suffix}"):
                        print(f"wrote {path}")
                drawn += 1
            except ExperimentError as error:
                reasons.append(f"{name}_{part.suffix}: {error}")
    if not drawn:
        raise ExperimentError(f"nothing to draw: {'; '.join(reasons)}")
    for reason in reasons:
        print(f"not drawn: {reason}")
