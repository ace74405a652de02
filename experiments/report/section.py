"""A part of the page, and how tables, charts and pictures come into it or are named as missing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from PIL import Image

from experiments.report.charts import Chart
from experiments.results import Provenance
from experiments.settings import ExperimentError, named_problems
from experiments.tables import NOTHING, Table

WIDE = 9  # columns from which a table is printed across the page
LONG = 140  # characters of a line, from which on it is wide, too
DASH = "\u2013"
_NUMBER = re.compile(r"[-+]?\d.*|not legible.*|undefined.*|-|", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A table with the place of the paper's numbers in it."""

    kind: ClassVar[str] = "table"
    table: Table
    place: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether it needs a page across in print."""
        characters = sum(max(map(len, column)) for column in zip(*self.table.rows, strict=True))
        return len(self.table.header) >= WIDE or characters > LONG

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers; the first one names the line."""
        columns = list(zip(*self.table.rows, strict=True))
        return [False, *(all(_NUMBER.fullmatch(cell) for cell in column) for column in columns[1:])]

    def lines(self) -> Iterator[tuple[list[str], Provenance | None]]:
        """Yields the cells of every line and where they come from; None: from the paper."""
        for cells, provenance in zip(self.table.rows, self.table.provenance, strict=True):
            yield [DASH if cell == NOTHING else cell for cell in cells], provenance


@dataclass(frozen=True)
class Picture:
    """A figure of the results folder.

    Attributes:
        path: The PNG.
        caption: What it shows; the page's caption and the image's alternative text.
        provenance: Of what it shows.
    """

    kind: ClassVar[str] = "picture"
    path: Path
    caption: str
    provenance: Provenance

    def embedded(self) -> tuple[str, int, int]:
        """Returns a data URI, the width and the height in pixels.

        WebP without loss: half of the PNG's bytes, and no pixel is changed.

        Raises:
            ExperimentError: the file can't be read as an image.
        """
        file = io.BytesIO()
        try:
            with Image.open(self.path) as opened:
                opened.convert("RGB").save(file, "WEBP", lossless=True, method=6)
                width, height = opened.size
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
            raise ExperimentError(f"{self.path} can't be read as an image ({error}): draw it again") from None
        return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}", width, height


@dataclass
class Section:
    """A room's part of the page.

    Attributes:
        key: Its id on the page.
        heading: Its heading.
        text: A sentence or two.
        parts: Tables, charts and pictures in their order.
        missing: What is left out and why.
    """

    key: str
    heading: str
    text: str
    parts: list[Shown | Chart | Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, name: str, make: Callable[[], Table | Chart | Sequence[Table]], place: str = "") -> None:
        """Adds a chart, a table or several, or names what is missing."""
        with named_problems(name, self.missing):
            made = make()
            tables = [made] if isinstance(made, Table | Chart) else made
            self.parts += [Shown(one, place) if isinstance(one, Table) else one for one in tables]

    def add_pictures(self, folder: Path, captions: Mapping[str, str], made: Provenance, ending: str = "") -> None:
        """Adds figures by the names of their files, or names those that are missing.

        Args:
            folder: Where they lie.
            captions: Name of the file, without its ending -> what it shows.
            made: Of what they show.
            ending: Of all names.
        """
        for name, caption in captions.items():
            path = folder / f"{name}{ending}.png"
            if path.is_file():
                self.parts.append(Picture(path, caption, made))
            else:
                self.missing.append(f"{path.stem}: {path} does not exist")
