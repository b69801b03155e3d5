"""Configuration of the documentation. The build needs no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import skorchlike

project = "skorchlike"
author = "the skorchlike developers"
copyright = author
version = release = skorchlike.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "tables_from_code",
    "public_names",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings name the types
autodoc_member_order = "groupwise"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"skorchlike {version}"
html_static_path = ["_static"]
html_css_files = ["skorchlike.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#b5460f", "color-brand-content": "#b5460f"},
    "dark_css_variables": {"color-brand-primary": "#f59e5b", "color-brand-content": "#f59e5b"},
}
pygments_style = "friendly"
pygments_dark_style = "native"


def resolve_sklearn_label(app, env, node, contnode):
    """Show labels of scikit-learn's own docs, in inherited docstrings, as plain text."""
    if node["reftype"] == "ref" and node["reftarget"] in ("accuracy_score", "r2_score"):
        return contnode
    return None


def setup(app):
    app.connect("missing-reference", resolve_sklearn_label)
