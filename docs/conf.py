"""Sphinx settings of the documentation: ``make docs`` builds the site without the network."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

project = "SimScaleAI"
author = "The SimScaleAI developers"
project_copyright = author
version = release = metadata.version("simscaleai-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 4
suppress_warnings = ["myst.xref_missing"]  # tests/docs checks the links, also those out of docs/

default_role = "py:obj"  # docstrings write `name`, as Markdown does
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}


def contents(markdown: str) -> str:
    """Return hidden toctrees for the sections of the index, in its order.

    The index stays plain Markdown: a line in bold opens a section, and each link below it that
    leads to a page of the site becomes an entry of the site's navigation.
    """
    trees = []
    for section in re.split(r"^(?=\*\*)", markdown, flags=re.MULTILINE)[1:]:
        caption = re.match(r"\*\*(.+?)\*\*", section)
        pages = re.findall(r"\]\((?!\.\./|\w+:)([\w/.-]+)\.md\)", section)
        if caption and pages:
            entries = "\n".join(dict.fromkeys(pages))
            trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption[1]}\n\n{entries}\n```")
    return "\n\n".join(trees)


def _add_contents(_app: Any, page: str, source: list[str]) -> None:
    if page == "index":
        source[0] += "\n\n" + contents(source[0])


def _keep_colons(
    _app: Any, what: str, _name: str, _value: Any, _options: Any, lines: list[str]
) -> None:
    """Keep napoleon from taking what stands before a colon for a type: ours are annotations.

    It looks at the first line only, so an escaped space, which shows as nothing, goes before it.
    """
    if what in {"attribute", "data", "property"}:
        lines.insert(0, "\\ ")
    for number in range(len(lines) - 1, 0, -1):
        if lines[number - 1].strip() in {"Returns:", "Yields:"}:
            indent = re.match(r" *", lines[number])
            lines.insert(number, f"{indent[0] if indent else ''}\\ ")


def _readable_defaults(
    _app: Any, _what: str, _name: str, _value: Any, _options: Any, signature: str | None, to: Any
) -> tuple[str | None, Any]:
    """Show the default of an attrs factory as ``...``."""
    return (re.sub(r"\bNOTHING\b", "...", signature) if signature else signature), to


def setup(app: Any) -> None:
    """Connect what this file adds to Sphinx."""
    app.connect("source-read", _add_contents)
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _readable_defaults)
