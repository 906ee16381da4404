"""Settings of the documentation site, which `make docs` builds with Sphinx."""

from importlib.metadata import version as installed_version

project = "writebehind"
author = "the writebehind authors"
release = installed_version("writebehind")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]

# Headings get the anchors that they have on GitHub, so that a link works in both places.
myst_heading_anchors = 4

# Docstrings name code in single backticks, as Markdown has it.
default_role = "code"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"writebehind {release}"
html_copy_source = False
html_show_sourcelink = False
