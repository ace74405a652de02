"""Every Python block of the README runs, in order, in one namespace, and prints what the text block after it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """(language, body) of every fenced block in order."""
    return BLOCK.findall(README.read_text(encoding="utf-8"))


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", ["README.md", "results/README.md"])
def test_links_to_files_lead_somewhere(name: str) -> None:
    page = README.parent / name
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert links and not [link for link in links if not (page.parent / link).exists()]


def test_python_blocks_run_and_print_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, namespace, ran, compared = blocks(), {}, 0, 0
    for position, (language, code) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"README.md, block {position + 1}", "exec"), namespace)
        ran += 1
        following = found[position + 1] if position + 1 < len(found) else ("", "")
        if following[0] == "text":
            assert lines(printed.getvalue()) == lines(following[1]), f"output of README block {position + 1}"
            compared += 1
        else:
            assert not printed.getvalue(), f"README block {position + 1} prints, but no text block shows it"
    assert ran and compared, "the README shows the library at work, with its output"
