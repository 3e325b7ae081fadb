"""Sphinx configuration; `make docs` treats every warning as an error."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "SecureMLlib"
author = "The SecureMLlib developers"
project_copyright = author
version = release = installed_version("securemllib")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon", "leakage", "parity"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_tables", "adr/template.md"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "SecureMLlib"
