"""Tables of text cells as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from experiments.common.provenance import Provenance

NOTHING = "-"

_LATEX = str.maketrans(
    {"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$", "\\": r"\textbackslash{}"}
)


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

    def latex(self) -> str:
        """Returns a ``table`` environment; needs the package booktabs."""
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{self.title.translate(_LATEX)}}}"]
        width = 0.9 / len(self.header)  # of the line, less what stands between the columns
        columns = f"p{{{width:.2f}\\linewidth}}" * len(self.header) if self.text else f"l{'r' * (len(self.header) - 1)}"
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        cells = [" & ".join(cell.translate(_LATEX) for cell in line) + r" \\" for line in (self.header, *self.rows)]
        lines += [cells[0], r"\midrule", *cells[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        return "\n".join(lines) + "\n"
