"""Configuration of the documentation site: ``sphinx-build -W -b html .docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import voicenter_cdr

project = "voicenter_cdr"
author = "The voicenter_cdr maintainers"
release = version = voicenter_cdr.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated_reference"]
html_theme = "furo"
html_title = f"voicenter_cdr {release}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 88
suppress_warnings = ["ref.python"]
