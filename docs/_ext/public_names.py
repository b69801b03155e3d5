"""Warn when a public name of skorchlike has no entry on the API page."""

import re
from pathlib import Path

from sphinx.util import logging

import skorchlike

logger = logging.getLogger(__name__)


def check_public_names(app):
    pages = Path(app.srcdir, "api").glob("*.rst")
    words = {word for page in pages for word in re.findall(r"^\s+(\w+)$", page.read_text(), re.M)}
    for name in skorchlike.__all__:
        if name not in words:
            logger.warning("The API pages lack the public name %s.", name)


def setup(app):
    app.connect("builder-inited", check_public_names)
    return {"parallel_read_safe": True}
