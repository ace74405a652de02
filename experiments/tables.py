"""Tables of text cells, as Markdown and for LaTeX documents.

The LaTeX files are plain ASCII, say in their first lines what they need, and fit an A4 page under pdflatex: a float
that is wider than the text shrinks to it, a longtable goes on on the next page under the same heading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.store import write_atomically

if TYPE_CHECKING:
    from experiments.results import Provenance

NOTHING = "-"

_ESCAPES = {mark: rf"\{mark}" for mark in "%&_#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
}
_SPREAD = re.compile(r"(-?[\d.]+) ± ([\d.]+)")
_FLOATS = """\
% In the preamble: \\usepackage{adjustbox,array,booktabs}
% The floats are as wide as the text, in a document of two columns too.
"""
_FLOAT = """\
\\begin{table*}
\\centering
\\caption{%s}
\\smallskip
\\footnotesize
\\setlength{\\tabcolsep}{3pt}
\\begin{adjustbox}{max width=\\linewidth}
%s\\end{adjustbox}
\\end{table*}
"""
_LONGTABLES = """\
% In the preamble: \\usepackage{array,booktabs,longtable}
% A longtable needs a page of one column: in a document of two, \\onecolumn before this file.
\\begingroup
\\scriptsize
\\setlength{\\tabcolsep}{3pt}
\\renewcommand{\\arraystretch}{1.4}
"""
_LABEL = r">{\raggedright\hangindent=1em\arraybackslash}p{10em}"  # of a line
_SENTENCES = r">{{\raggedright\arraybackslash}}p{{\dimexpr {:.3f}\linewidth-2\tabcolsep\relax}}"


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
        """Returns title and table; cells are not padded, so that a new number changes no line but its own."""
        lines = [self.header, ["---", *["---" if self.text else "---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join([self.title, "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Writes files of tables and says so.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(folder / name, content)
        print(f"wrote {folder / name}")
    return [folder / name for name in files]


def floats(tables: Iterable[Table]) -> str:
    """Returns a file of tables of numbers; the first column holds labels, and deviations become subscripts."""
    return "\n".join([_FLOATS, *(_float(table) for table in tables)])


def longtables(tables: Iterable[Table], widths: Sequence[float]) -> str:
    """Returns a file of tables of sentences, in small print.

    Args:
        tables: All with the same columns.
        widths: Of the columns, shares of the line; their sum is 1.
    """
    return "\n".join([_LONGTABLES, *(_longtable(table, widths) for table in tables), "\\endgroup\n"])


def escaped(text: str) -> str:
    """Returns text that LaTeX prints as it is, in ASCII: accents are lost, and an unknown mark becomes "?"."""
    text = "".join(_ESCAPES.get(mark) or (mark if mark.isascii() else _plain(mark)) for mark in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)  # a minus is longer than a hyphen


def _plain(mark: str) -> str:
    return unicodedata.normalize("NFKD", mark).encode("ascii", "ignore").decode() or "?"


def _float(table: Table) -> str:
    header = [_stacked(re.split(r"(?<=:) ", cell)) for cell in table.header]
    rows = [[_first(row[0]), *(_number(cell) for cell in row[1:])] for row in table.rows]
    return _FLOAT % (_caption(table), _latex(header, rows, column_format=_LABEL + "r" * (len(header) - 1)))


def _longtable(table: Table, widths: Sequence[float]) -> str:
    header = [escaped(cell) for cell in table.header]
    rows = [[_first(row[0]), *(escaped(cell) for cell in row[1:])] for row in table.rows]
    columns = "".join(_SENTENCES.format(width) for width in widths)
    return _latex(header, rows, column_format=columns, environment="longtable", caption=_caption(table))


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]], **options: Any) -> str:
    """Lays out cells that are LaTeX already; columns have numbers for names, since two may have the same heading."""
    styler = pd.DataFrame(rows, columns=range(len(header))).style.hide(axis="index")
    return str(styler.format_index(lambda column: header[column], axis=1).to_latex(hrules=True, **options))


def _caption(table: Table) -> str:
    """The title; the number in it is that of the paper's table, the caption has its own."""
    return escaped(re.sub(r"^(Table \d+)(?! of the paper)", r"\1 of the paper", table.title))


def _first(cell: str) -> str:
    """A line's first cell; the line break before it would take either mark for its own."""
    return f"{'{}' if cell.startswith(('[', '*')) else ''}{escaped(cell)}"


def _number(cell: str) -> str:
    if found := _SPREAD.fullmatch(cell):
        return "${}_{{\\pm {}}}$".format(*found.groups())
    return _stacked(re.split(r" (?=[a-z])", cell))


def _stacked(parts: Sequence[str]) -> str:
    """Parts one below the other, which keeps a column of numbers narrow."""
    text = r" \\ ".join(escaped(part) for part in parts)
    return text if len(parts) == 1 else rf"\shortstack[r]{{{text}}}"
