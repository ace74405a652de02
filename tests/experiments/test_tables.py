"""The LaTeX tables: what may stand in a cell, and whether the committed files compile and fit a page."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
from pathlib import Path

import pytest

from experiments.tables import Table, escaped, floats, longtables, write
from tests.experiments.helpers import CHECKOUT

TABLES = CHECKOUT / "results" / "tables"
FILES = sorted(TABLES.glob("*.tex"))
ONE_COLUMN, TWO_COLUMNS = r"\documentclass[a4paper]{article}", r"\documentclass[a4paper,twocolumn]{article}"
needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


def test_there_are_files() -> None:
    assert [path.stem for path in FILES] == ["table_1", "table_2", "table_3", "verdicts"]


def test_no_claim_is_lost() -> None:
    """A float longer than a page would be cut at its end, and a longtable isn't."""
    lines = (TABLES / "verdicts.md").read_text().splitlines()
    claims = [line for line in lines if line.startswith("| ") and not line.startswith(("| claim", "| ---"))]
    text = (TABLES / "verdicts.tex").read_text()
    tables, rows = text.count("\\begin{longtable}"), [line for line in text.splitlines() if " & " in line]
    assert len(rows) - 2 * tables == len(claims) > 0  # headings: on the first page of a table, and on the others
    assert "{table" not in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"50 % of A&B_c #1 $2 {x}", r"50 \% of A\&B\_c \#1 \$2 \{x\}"),
        ("a\\b^c~d", r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}d"),
        ("k = -1, +3 ± 2, 0-1, 1e-3, -", r"k = $-$1, +3 $\pm$ 2, 0-1, 1e-3, -"),
        ("Café ² →", "Cafe 2 ?"),
    ],
)
def test_text_is_escaped(text: str, written: str) -> None:
    assert escaped(text) == written


def made_up() -> Table:
    """A row of everything that can be typed, and rows that LaTeX would take for an argument of the line before."""
    typed = string.printable.strip()
    rows = [[typed, "0.5 ± 0.1"], ["[an argument]", "not legible ± 2.0"], ["*", "-0.5 ± 0.1"], ["é ™", "-"]]
    return Table("Table 7: 100 % of A_b", ["name", "all: score"], rows)


def test_cells_of_every_kind() -> None:
    text = floats([made_up()])
    assert text.isascii()
    lines = [line.removesuffix(" \\\\") for line in text.splitlines() if " & " in line]
    assert [line.rpartition(" & ")[2] for line in lines] == [
        r"\shortstack[r]{all: \\ score}",
        r"$0.5_{\pm 0.1}$",
        r"\shortstack[r]{not \\ legible $\pm$ 2.0}",
        r"$-0.5_{\pm 0.1}$",
        "-",
    ]
    assert [line.partition(" & ")[0] for line in lines[2:4]] == ["{}[an argument]", "{}*"]
    assert r"\caption{Table 7 of the paper: 100 \% of A\_b}" in text
    assert r"\caption{Table 3 of the paper: b}" in floats([Table("Table 3 of the paper: b", ["a"], [])])


def test_markdown_is_not_padded() -> None:
    table = Table("Title", ["a", "long heading"], [["1", "0.5 ± 0.1"]])
    assert table.markdown() == "Title\n\n| a | long heading |\n| --- | ---: |\n| 1 | 0.5 ± 0.1 |\n"


def test_files_are_written_into_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = write({"a.md": "text"}, tmp_path / "new")
    assert path.read_text() == "text"
    assert capsys.readouterr().out == f"wrote {path}\n"


def compile_latex(document_class: str, text: str, folder: Path) -> str:
    """Compiles a document with the packages that the text's first line names, and returns the log."""
    packages = re.match(r"% In the preamble: \\usepackage\{([a-z,]+)\}\n", text)
    assert packages
    for name in packages[1].split(","):
        if subprocess.run(["kpsewhich", f"{name}.sty"], capture_output=True).returncode:
            pytest.skip(f"the LaTeX package {name} is not installed")
    preamble = f"{document_class}\n\\usepackage{{{packages[1]}}}\n\\begin{{document}}\nText.\n"
    (folder / "page.tex").write_text(f"{preamble}{text}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    run = subprocess.run(command, cwd=folder, capture_output=True)
    log = (folder / "page.log").read_text(errors="replace")
    assert run.returncode == 0, log[-2000:]
    assert (folder / "page.pdf").stat().st_size > 10_000
    return log


@needs_latex
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("document_class", [ONE_COLUMN, TWO_COLUMNS], ids=["one_column", "two_columns"])
def test_committed_files_compile_and_fit(path: Path, document_class: str, tmp_path: Path) -> None:
    text = path.read_text()
    if document_class == TWO_COLUMNS and "longtable" in text:
        text = text.replace("\\begingroup", "\\onecolumn\n\\begingroup")  # as its first lines say
    log = compile_latex(document_class, text, tmp_path)
    assert re.findall(r"^(?:Overfull.*|.*Float too large.*)$", log, re.MULTILINE) == []


@needs_latex
@pytest.mark.parametrize("kind", ["floats", "longtables"])
def test_what_can_be_typed_compiles(kind: str, tmp_path: Path) -> None:
    text = floats([made_up()]) if kind == "floats" else longtables([made_up()], (0.5, 0.5))
    assert "Missing character" not in compile_latex(ONE_COLUMN, text, tmp_path)
