"""What README, docs and notebooks show runs and prints what they say, and their links and commands lead somewhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import hydra
import nbformat
import pytest
from nbclient import NotebookClient

import mvhg

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
PAGES = ["README.md", "results/README.md", "data/README.md", *DOCS]
CODE = [page for page in PAGES if "```python" in (ROOT / page).read_text(encoding="utf-8")]
NOTEBOOKS = sorted(path.name for path in (ROOT / "examples").glob("*.ipynb"))


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, body) of every fenced block in order."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def shell_lines(page: str) -> list[str]:
    """The commands of the bash blocks, continuation lines joined, comments and the variable RUN taken away."""
    text = "\n".join(body for language, body in blocks(page) if language == "bash").replace("\\\n", " ")
    text = text.replace("$RUN", ".venv/bin/python -m experiments.run -m")
    return [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip() and "RUN=" not in line]


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


def test_the_reference_has_every_public_name_once() -> None:
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in DOCS)
    found = re.findall(r"^::: mvhg\.(\w+)$", text, re.MULTILINE)
    assert sorted(found) == sorted(mvhg.__all__)


@pytest.mark.parametrize("page", CODE)
def test_python_blocks_run_and_print_what_is_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, compared = blocks(page), 0
    namespace: dict[str, object] = {}
    for position, (language, code) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page}, block {position + 1}", "exec"), namespace)
        following = found[position + 1] if position + 1 < len(found) else ("", "")
        if following[0] == "text":
            assert lines(printed.getvalue()) == lines(following[1]), f"output of block {position + 1}"
            compared += 1
        else:
            assert not printed.getvalue(), f"block {position + 1} prints, but no text block shows it"
    assert compared


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "experiments/report/page.html.j2"])
def test_every_make_target_that_is_named_exists(page: str) -> None:
    named = set(
        re.findall(r"(?:^|`|<code>)make ([a-z][\w-]*)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    )
    makefile = (ROOT / "Makefile").read_text()
    known = {name for line in re.findall(r"^([\w. -]+):(?!=)", makefile, re.MULTILINE) for name in line.split()}
    assert not named - known
    assert named or page not in ("README.md", "experiments/report/page.html.j2")


def test_every_run_that_is_named_composes() -> None:
    commands = [line for page in PAGES for line in shell_lines(page) if " -m experiments.run " in line]
    assert len(commands) >= 10
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for command in commands:
            overrides = shlex.split(command.partition("experiments.run")[2], comments=True)
            single = [one.split(",")[0] if not one.startswith("hydra.") else "" for one in overrides if one != "-m"]
            hydra.compose("config", [one for one in single if one and not one.startswith(("launcher", "sweep"))])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_and_end_with_a_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "examples" / name, as_version=4)
    kept = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    made = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    for outputs in (kept, made):  # as committed, and as made now
        assert "image/png" in outputs[-1][-1].data
    assert len(NOTEBOOKS) == 3


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra `dev`")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "site" / "results" / "figures" / "figure_1.png").is_file()
    for page in (tmp_path / "site").glob("*.html"):  # of a link to a file that the site doesn't have its name is left
        assert not re.findall(r"\[[^][<>]{1,80} \(<code>", page.read_text(encoding="utf-8")), page.name
