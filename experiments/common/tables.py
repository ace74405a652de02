"""Tables of text cells, and as Markdown; experiments/common/latex.py writes them for LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from experiments.common.provenance import Provenance

NOTHING = "-"


def spread(values: pd.Series, decimals: int) -> str:
    """Writes mean and standard deviation (n - 1) of the values; the mean alone for one, "-" for none."""
    if values.empty:
        return NOTHING
    mean = f"{values.mean():.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std():.{decimals}f}"


@dataclass(frozen=True)
class Table:
    """A table with a heading row; the first column is aligned left, the others right unless they hold text.

    Attributes:
        title: Shown above.
        header: A cell per column.
        rows: The lines below, as long as the header.
        provenance: Of each line; None for a line of the paper's numbers. Empty: not known of any.
        text: Whether every column holds sentences rather than numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    provenance: Sequence[Provenance | None] = ()
    text: bool = False

    def markdown(self) -> str:
        """Returns title and table."""
        lines = [self.header, ["---", *["---" if self.text else "---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join([self.title, "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"
