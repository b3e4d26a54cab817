"""How Sphinx builds these pages: `make docs`. Strict: a warning is an error, and so is a broken reference."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from simam_deploy import __version__

project = "simam-deploy"
author = "the simam-deploy authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "typer_commands"]
exclude_patterns = ["_ext"]

smartquotes = False  # an empty text is written ""

html_theme = "furo"
html_title = "simam-deploy"
html_show_sphinx = False
html_show_copyright = False

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
# The types of other libraries, and our own that no page lists, stand in signatures as plain text.
nitpick_ignore_regex = [("py:.*", r"(?!simam_deploy\.(?:\w+)$).*")]
