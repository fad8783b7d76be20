"""The site: `python -m sphinx -W -b html -c docs . docs/_build` writes docs/_build/index.html.

The source folder is the whole repository, so that a link from a page to a study, or to a source file, is the same
relative path here and on a host of repositories. Nothing is fetched from a network.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from notebook_pages import write_pages  # noqa: E402

write_pages(HERE / "notebooks", HERE / "notebooks")  # beside them, so that their links lead the same way

project = "wss"
author = "the wss authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/**/*.md",
    "experiments/README.md",
    "experiments/*/*.md",
]
exclude_patterns = [".*", "build", "results", "docs/_build"]
root_doc = "docs/index"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # pages are read on their own too

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature and the sections of a docstring have them
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "wss"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["wss.css"]
html_extra_path = ["site"]  # index.html, which leads to the front page
