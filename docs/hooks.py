"""Pages link to files of the checkout; in the site the linked tables and figures of results/ lie beside the pages."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("*.png", "*.md", "*.csv", "*.tex")
LINK = re.compile(r"\[([^\]]*)\]\(\.\./(?!results/(?:figures|tables|benchmark)/)([^)]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the committed tables and figures."""
    for pattern in SHOWN:
        for path in sorted((ROOT / "results").rglob(pattern)):
            if path.parent.name in ("figures", "tables", "benchmark") and "local" not in path.parts:
                name = path.relative_to(ROOT).as_posix()
                file = File.generated(config, name, abs_src_path=str(path))
                files.append(file)
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Turns links out of docs/: to results/ into links within the site, to other files into their names."""
    markdown = LINK.sub(_named, markdown)
    return markdown.replace("](../results/", "](results/")


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if text == path else f"{text} (`{path}`)"
