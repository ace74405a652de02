"""Reads the tables of a LaTeX file without LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass

TABULARS = ("tabular", "longtable")
RULE = re.compile(r"\\(top|mid|bottom)rule|\\addlinespace|\\end(first|last)?(head|foot)")


@dataclass
class LatexTable:
    """One tabular or longtable.

    Attributes:
        columns: How many its specification declares.
        rows: The cells of every row, headings included; a multicolumn counts as the cells that it spans.
    """

    columns: int
    rows: list[list[str]]


def _group(text: str, start: int) -> int:
    """Returns the place behind the group that opens at a place."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise AssertionError(f"a group is never closed: {text[start : start + 60]}")


def count_columns(specification: str) -> int:
    """Returns the number of columns of a specification such as ``>{...}p{1em}rr``."""
    letters, place = "", 0
    while place < len(specification):
        if specification[place] == "{":
            place = _group(specification, place)
        else:
            letters += specification[place]
            place += 1
    assert set(letters) <= set("lrcp>"), letters
    return sum(letter in "lrcp" for letter in letters)


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("%"))


def unbalanced(text: str) -> list[str]:
    """Returns what is opened and not closed, or closed and not opened, in this order."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)(group\b|\{[^}]*\})", text):
        if kind == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            return [f"end {name}"]
    return opened


def special(text: str) -> list[str]:
    """Returns the special characters that are neither escaped nor where LaTeX wants them, each with what is around."""
    bare = re.sub(r"(?<!\\)\$.*?(?<!\\)\$", "", without_comments(text))  # an underscore belongs into a formula
    bare = re.sub(r"(?<!\\)(\\\\)+$", "", bare, flags=re.MULTILINE)
    found = [bare[max(0, one.start() - 20) : one.end() + 5] for one in re.finditer(r"(?<!\\)[%#_^~]", bare)]
    return found + [mark for mark in text if not mark.isascii()] + (["$"] if re.search(r"(?<!\\)\$", bare) else [])


def read_tables(text: str) -> list[LatexTable]:
    """Returns every table; lines that are neither rows nor rules nor the caption are a mistake."""
    tables = []
    for begin in re.finditer(rf"\\begin\{{({'|'.join(TABULARS)})\}}", text):
        start = _group(text, begin.end())
        table = LatexTable(count_columns(text[begin.end() + 1 : start - 1]), [])
        for line in text[start : text.index(rf"\end{{{begin[1]}}}", start)].strip().splitlines():
            if RULE.fullmatch(line) or line.startswith((r"\caption{", r"\caption[]{")):
                continue
            assert line.endswith(r" \\"), line
            cells = re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))
            spanned = [int(found) - 1 for found in re.findall(r"^\\multicolumn\{(\d+)\}", line)]
            table.rows.append(cells + [""] * sum(spanned))
        tables.append(table)
    return tables
