"""The pages of the documentation and their fenced blocks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OURS = ("simscaleai", "simscaleai-plugin-bc", "simscaleai-plugin-ddp")
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
    *(ROOT / "plugins" / name / "README.md" for name in OURS),
]

_OPEN = re.compile(r"^```(\w*|\{[\w-]+\})\s*$")
_DIRECTIVE = re.compile(r"^<!-- (skip|file|script|exit)(?:: (.+))? -->$")


@frozen
class Block:
    """One fenced block, and the directive in the HTML comment on the line before it.

    ``skip: reason`` leaves it out; ``file: path`` writes it to a file; ``script`` runs it as a
    whole by bash, in the slow part; ``exit: n`` is the status that its last command ends with.
    """

    page: Path
    line: int
    language: str
    text: str
    directive: str = ""
    value: str = ""

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return list(_blocks(page, page.read_text("utf-8") if text is None else text))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        opened = _OPEN.match(lines[number])
        if opened is None:
            number += 1
            continue
        end = lines.index("```", number + 1)
        directive = _DIRECTIVE.match(lines[number - 1]) if number else None
        yield Block(
            page,
            number + 1,
            opened[1],
            "\n".join(lines[number + 1 : end]) + "\n",
            directive[1] if directive else "",
            (directive[2] or "") if directive else "",
        )
        number = end + 1


def install(folder: Path, site: Path) -> list[str]:
    """Do without pip what it does for a distribution that a page has written.

    Args:
        folder: The distribution.
        site: Gets its metadata and entry points.

    Returns:
        What to put on the path.
    """
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    package = project["name"].replace("-", "_")  # where hatchling looks
    assert (folder / package / "__init__.py").is_file()
    info = site / f"{package}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    fields = {
        "Name": project["name"],
        "Version": project["version"],
        "Summary": project.get("description"),
        "License-Expression": project.get("license"),
        "Requires-Python": project.get("requires-python"),
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    lines += [f"Requires-Dist: {wanted}" for wanted in project["dependencies"]]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", *lines, ""]))
    text = "".join(
        f"[{group}]\n" + "".join(f"{n} = {target}\n" for n, target in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(text)
    return [str(folder.resolve()), str(site.resolve())]
