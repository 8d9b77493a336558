"""The configuration of Sphinx: ``make docs``."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from celery.utils.dispatch import Signal
from pygments.lexers.special import TextLexer

import celery_segment
from celery_segment.calls.api import CALLS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "celery-segment"
author = "The celery-segment authors"
project_copyright = author
version = release = celery_segment.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
highlight_language = "none"
smartquotes = False

# As on GitHub, links to any heading work: page.md#heading.
myst_heading_anchors = 3

# Of a block with prompts, the commands alone are copied, without these.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

autodoc_member_order = "bysource"
autodoc_type_aliases = {
    name: name for name in ("EventName", "Identifier", "Json", "Properties", "Traits")
}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# A reference that is not found is an error. References to other projects are ignored, since
# the site is built without access to the internet.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!celery_segment\b).*"),
    # What an Event is to the rest of the library.
    ("py:class", r"celery_segment\.messages\.typed\.\w+"),
]

html_theme = "furo"
html_title = f"celery-segment {release}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_js_files = ["tables.js"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#3b6fd4", "color-brand-content": "#3b6fd4"},
    "dark_css_variables": {"color-brand-primary": "#8fb2f5", "color-brand-content": "#8fb2f5"},
}

#: The pages of the site that include a file outside of docs/. Other pages link to the file, so
#: that the link works on GitHub; on the site, it is replaced with a link to the page.
OUTSIDE = {
    "how-to/examples": "examples/README.md",
    "explanation/results": "benchmarks/RESULTS.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security-policy": "SECURITY.md",
}


def setup(app: Sphinx) -> None:
    """Connect the handlers for links and signals, and document the calls by their signatures."""
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", _link_to_included)
    app.connect("autodoc-process-docstring", _name_arguments)
    for name, call in CALLS.items():
        # The signature is that of the task's ``build``, but a call returns the messageId.
        call.build.__annotations__["return"] = "str"
        setattr(celery_segment, name, call.build)


def _link_to_included(_app: Sphinx, page: str, source: list[str]) -> None:
    folder = posixpath.dirname(page)
    for included, file in OUTSIDE.items():
        there = posixpath.relpath(f"../{file}", folder or ".")
        here = posixpath.relpath(f"{included}.md", folder or ".")
        source[0] = re.sub(rf"(?<=\]\(){re.escape(there)}(?=[)#])", here, source[0])


def _name_arguments(*event: Any) -> None:
    _app, _what, _name, documented, _options, lines = event
    if isinstance(documented, Signal):
        names = ", ".join(f"``{name}``" for name in sorted(documented.providing_args))
        lines += ["", f"Receivers get {names}."]
