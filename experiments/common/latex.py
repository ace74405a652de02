"""Files of tables for LaTeX documents: floats for tables of numbers, longtables for tables of sentences.

They are plain ASCII, say in their first lines what they need, and fit an A4 page under pdflatex: a float that is wider
than the text shrinks to it, a longtable goes on on the next page under the same heading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from experiments.common.tables import Table

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
_LONGTABLES = """\
% In the preamble: \\usepackage{array,booktabs,longtable}
% A longtable needs a page of one column: in a document of two, \\onecolumn before this file.
"""
_LABEL = r">{\raggedright\hangindent=1em\arraybackslash}p{10em}"  # of a line
_SENTENCES = r">{{\raggedright\arraybackslash}}p{{\dimexpr {:.3f}\linewidth-2\tabcolsep\relax}}"


def escaped(text: str) -> str:
    """Returns text that LaTeX prints as it is, in ASCII: accents are lost, and an unknown mark becomes "?"."""
    text = "".join(_ESCAPES.get(mark) or (mark if mark.isascii() else _plain(mark)) for mark in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)  # a minus is longer than a hyphen


def _plain(mark: str) -> str:
    return unicodedata.normalize("NFKD", mark).encode("ascii", "ignore").decode() or "?"


def _stacked(parts: Sequence[str]) -> str:
    """Parts one below the other, which keeps a column of numbers narrow."""
    text = r" \\ ".join(escaped(part) for part in parts)
    return text if len(parts) == 1 else rf"\shortstack[r]{{{text}}}"


def _number(cell: str) -> str:
    if found := _SPREAD.fullmatch(cell):
        return "${}_{{\\pm {}}}$".format(*found.groups())
    return _stacked(re.split(r" (?=[a-z])", cell))


def _line(cells: Iterable[str]) -> str:
    line = " & ".join(cells)
    return rf"{'{}' if line.startswith(('[', '*')) else ''}{line} \\"  # either belongs to the line break before it


def _caption(title: str) -> str:
    """The title; the number in it is that of the paper's table, the caption has its own."""
    title = re.sub(r"^(Table \d+)(?! of the paper)", r"\1 of the paper", title)
    return rf"\caption{{{escaped(title)}}}"


def _float(table: Table) -> str:
    first, *others = table.header
    head = _line([escaped(first), *(_stacked(re.split(r"(?<=:) ", cell)) for cell in others)])
    body = [_line([escaped(row[0]), *(_number(cell) for cell in row[1:])]) for row in table.rows]
    lines = [r"\begin{table*}", r"\centering", _caption(table.title), r"\smallskip"]
    lines += [r"\footnotesize", r"\setlength{\tabcolsep}{3pt}", r"\begin{adjustbox}{max width=\linewidth}"]
    lines += [rf"\begin{{tabular}}{{{_LABEL}{'r' * len(others)}}}"]
    lines += [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", r"\end{adjustbox}", r"\end{table*}"]) + "\n"


def _longtable(table: Table, widths: Sequence[float]) -> str:
    head = _line(escaped(cell) for cell in table.header)
    body = [_line(escaped(cell) for cell in row) for row in table.rows]
    again = rf"\multicolumn{{{len(widths)}}}{{r}}{{continued on the next page}} \\"
    lines = [rf"\begin{{longtable}}{{{''.join(_SENTENCES.format(width) for width in widths)}}}"]
    lines += [rf"{_caption(table.title)} \\", r"\toprule", head, r"\midrule", r"\endfirsthead"]
    lines += [r"\toprule", head, r"\midrule", r"\endhead", r"\midrule", again, r"\endfoot", r"\bottomrule"]
    lines += [r"\endlastfoot", "\n\\addlinespace\n".join(body), r"\end{longtable}"]
    return "\n".join(lines) + "\n"


def floats(tables: Iterable[Table]) -> str:
    """Returns a file of tables of numbers; the first column holds labels, and deviations become subscripts."""
    return "\n".join([_FLOATS, *(_float(table) for table in tables)])


def longtables(tables: Iterable[Table], widths: Sequence[float]) -> str:
    """Returns a file of tables of sentences, in small print.

    Args:
        tables: all with the same columns.
        widths: of the columns, shares of the line; their sum is 1.
    """
    small = "\\begingroup\n\\scriptsize\n\\setlength{\\tabcolsep}{3pt}\n"
    return "\n".join([_LONGTABLES + small, *(_longtable(table, widths) for table in tables), "\\endgroup\n"])
