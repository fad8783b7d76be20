"""Notebooks as MyST Markdown, so that Sphinx builds them offline and without Jupyter.

`docs/conf.py` calls `write_pages` before the build. Only cells are rendered, and outputs that are text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_pages(notebooks: Path, pages: Path) -> list[Path]:
    """Write a Markdown page into the folder *pages* for each notebook in *notebooks*; return the pages."""
    pages.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(notebooks.glob("*.ipynb")):
        page = pages / f"{path.stem}.md"
        page.write_text(as_markdown(json.loads(path.read_text(encoding="utf-8")), path.name), encoding="utf-8")
        written.append(page)
    return written


def as_markdown(notebook: dict[str, Any], name: str) -> str:
    """Return the content of the notebook *name* as MyST Markdown."""
    blocks = [block for cell in notebook["cells"] for block in _blocks(cell)]
    source = f"This page is the notebook `docs/notebooks/{name}`. Run it in Jupyter to see tables and pictures."
    return "\n\n".join([blocks[0], source, *blocks[1:]]) + "\n"


def _blocks(cell: dict[str, Any]) -> list[str]:
    """Return the Markdown blocks of a cell: its source, and its outputs that are text."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source.replace(".ipynb)", ".md)")]  # links between notebooks lead to their pages
    texts = ["".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream"]
    return [_fenced(source, "python"), *(_fenced(text.rstrip("\n"), "text") for text in texts)]


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
