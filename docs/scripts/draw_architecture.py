"""Draw the packages and their imports into docs/images/architecture.svg.

    python docs/scripts/draw_architecture.py            draw the picture
    python docs/scripts/draw_architecture.py --check    exit with 1 if it is not current

Rooms, layers and distributions come from the folders, from the import contract in pyproject.toml
and from the import statements. An arrow that a path of other arrows implies is left out.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from attrs import define, frozen

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
CORE = "simscaleai_core"

_WIDTH = 1120  # of the picture [px]
_MARGIN = 24  # [px]
_GAP = 20  # between boxes of one row [px]
_ROW_GAP = 46  # between rows, for the arrows [px]
_PER_ROW = 6  # distributions in one row
_ROOM = 300  # width of a room, at most [px]
_MODULE = 145  # width of a box without contents, at most [px]
_LINE = 15  # height of a line of text [px]
_LETTER = 6.7  # width of a letter of the small text [px]

Edges = Mapping[str, set[str]]
Point = tuple[float, float]

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">
<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#52606d"/></marker></defs>"""


@frozen
class Node:
    """A box of the picture."""

    name: str
    """Title."""
    lines: tuple[str, ...]
    """What is inside, as words to wrap."""


@define
class Box:
    """A node at its place [px]."""

    node: Node
    x: float
    y: float
    width: float
    height: float


# --- what the code says ----------------------------------------------------------------------


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports when it runs, those inside functions included."""
    todo: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        todo += ast.iter_child_nodes(node)


def core_layers() -> list[list[Node]]:
    """Return the rooms of the core by layer, the highest first, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c.get("containers") == [CORE])
    names = [layer.replace(":", "|").split("|") for layer in layers]
    return [[_room(name.strip()) for name in row] for row in names]


def _room(name: str) -> Node:
    folder = ROOT / CORE / name
    files = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
    return Node(f"{name}/" if files else name, tuple(files))


def core_imports() -> Edges:
    """Return which room of the core imports which, by their names in the picture."""
    titles = {node.name.rstrip("/"): node.name for row in core_layers() for node in row}
    edges: dict[str, set[str]] = {title: set() for title in titles.values()}
    for path in (ROOT / CORE).rglob("*.py"):
        here = path.relative_to(ROOT / CORE).with_suffix("").parts[0]
        for module in imported(path):
            package, _, rest = module.partition(".")
            there = rest.partition(".")[0]
            if package == CORE and here in titles and there in titles and there != here:
                edges[titles[here]].add(titles[there])
    return edges


def distributions() -> tuple[list[Node], Edges]:
    """Return the distributions around the core with what else they need, and their imports."""
    core = _project(ROOT)
    shared = {_name(requirement) for requirement in core["dependencies"]}
    nodes, packages = [], {}
    for folder in sorted(p.parent for p in (ROOT / "plugins").glob("*/pyproject.toml")):
        project = _project(folder)
        needs = sorted({_name(r) for r in project["dependencies"]} - shared)
        others = tuple(n for n in needs if not n.startswith("simscaleai"))
        nodes.append(Node(project["name"], others))
        packages[project["name"].replace("-", "_")] = folder
    edges: dict[str, set[str]] = {node.name: set() for node in nodes}
    for package, folder in packages.items():
        for path in (folder / package).rglob("*.py"):
            found = {module.partition(".")[0] for module in imported(path)}
            used = {name.replace("_", "-") for name in found & packages.keys() - {package}}
            edges[package.replace("_", "-")] |= used
    return nodes, edges


def _project(folder: Path) -> Any:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return found[0] if found else requirement


def reduced(edges: Edges) -> dict[str, set[str]]:
    """Return the edges without those that a longer path implies."""

    def reach(name: str) -> set[str]:
        return set().union(*({below} | reach(below) for below in edges.get(name, ())), set())

    return {
        name: {b for b in below if not any(b in reach(other) for other in below if other != b)}
        for name, below in edges.items()
    }


def ranked(nodes: Sequence[Node], edges: Edges) -> list[list[Node]]:
    """Return the nodes in rows of few, so that every edge leads to a lower row."""

    def depth(name: str) -> int:
        return max((1 + depth(below) for below in edges.get(name, ())), default=0)

    used = set().union(*edges.values())
    rows = []
    for level in range(max(depth(node.name) for node in nodes), -1, -1):
        row = [node for node in nodes if depth(node.name) == level]
        row.sort(key=lambda node: (node.name not in used, node.name))
        rows += [row[i : i + _PER_ROW] for i in range(0, len(row), _PER_ROW)]
    return rows


# --- the picture -----------------------------------------------------------------------------


def picture() -> str:
    """Return the picture as SVG text."""
    around, uses = distributions()
    uses = reduced(uses)
    boxes, y = _rows(ranked(around, uses), top=66)
    upper = _arrows(boxes, uses) + "".join(_drawn(box, "#eef4fb") for box in boxes.values())
    core_top = y + 34
    rooms, bottom = _rows(core_layers(), top=core_top + 44)
    lower = _arrows(rooms, reduced(core_imports()))
    lower += "".join(_drawn(box, "#fff6e5") for box in rooms.values())
    height = bottom + _MARGIN
    middle = _WIDTH / 2
    parts = [
        _HEAD.format(width=_WIDTH, height=round(height)),
        _rect(0, 0, _WIDTH, height, fill="#ffffff", stroke="none"),
        _text(_MARGIN, 30, "Distributions", size=17, bold=True),
        _text(_MARGIN, 50, "with what they need besides the core's own dependencies", size=12),
        upper,
        _line((middle, y + 4), (middle, core_top), width=3),
        _text(middle + 14, y + 20, "every distribution imports the core", size=12),
        _rect(8, core_top, _WIDTH - 16, height - core_top - 8, fill="none", stroke="#b7791f"),
        _text(_MARGIN, core_top + 26, f"{CORE}/", size=17, bold=True),
        lower,
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _rows(rows: Sequence[Sequence[Node]], *, top: float) -> tuple[dict[str, Box], float]:
    """Place rows of nodes below each other; return the boxes by name, and the lower end."""
    boxes: dict[str, Box] = {}
    y = top
    for row in rows:
        widest = (_WIDTH - 2 * _MARGIN - _GAP * (len(row) - 1)) / len(row)
        widths = [min(widest, _ROOM if node.lines else _MODULE) for node in row]
        placed = [_wrapped(node, width) for node, width in zip(row, widths, strict=True)]
        height = 34 + _LINE * max(len(node.lines) for node in placed)
        x = (_WIDTH - sum(widths) - _GAP * (len(row) - 1)) / 2
        for node, width in zip(placed, widths, strict=True):
            boxes[node.name] = Box(node, x, y, width, height)
            x += width + _GAP
        y += height + _ROW_GAP
    return boxes, y - _ROW_GAP


def _wrapped(node: Node, width: float) -> Node:
    text = ", ".join(node.lines)
    lines = textwrap.wrap(text, int((width - 20) / _LETTER), break_on_hyphens=False)
    return Node(node.name, tuple(lines))


def _arrows(boxes: Mapping[str, Box], edges: Edges) -> str:
    drawn = []
    passed: dict[float, int] = {}
    for name in sorted(edges):
        start = boxes[name]
        ends = sorted((boxes[below] for below in edges[name]), key=lambda box: (box.x, box.y))
        for number, end in enumerate(ends, 1):
            if end.y == start.y:
                right = end.x > start.x
                a, b = (start.x + start.width, end.x) if right else (start.x, end.x + end.width)
                drawn.append(_line((a, start.y + 14), (b, end.y + 14)))
            else:
                x = start.x + start.width * number / (len(ends) + 1)
                first, last = (x, start.y + start.height), (_landing(x, end), end.y)
                drawn.append(_line(first, *_around(first, last, boxes, passed), last))
    return "".join(drawn)


def _around(
    first: Point, last: Point, boxes: Mapping[str, Box], passed: dict[float, int]
) -> Iterator[Point]:
    """Yield the points by which a line from above passes the boxes between its ends."""
    between = [box for box in boxes.values() if first[1] < box.y and box.y + box.height < last[1]]
    for y in sorted({box.y for box in between}):
        row = [box for box in between if box.y == y]
        height = row[0].height
        x = first[0] + (last[0] - first[0]) * (y + height / 2 - first[1]) / (last[1] - first[1])
        for box in row:
            if box.x - 6 < x < box.x + box.width + 6:
                left = x < box.x + box.width / 2
                side = box.x if left else box.x + box.width
                passed[side] = passed.get(side, 0) + 1
                x = side + (-7 if left else 7) * passed[side]
        yield x, y - 4
        yield x, y + height + 4


def _landing(x: float, box: Box) -> float:
    """Return where an arrow from above meets a box: as straight down as the box allows."""
    return min(max(x, box.x + 0.15 * box.width), box.x + 0.85 * box.width)


def _line(*points: Point, width: float = 1.2) -> str:
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="#52606d" stroke-width="{width}" '
        'marker-end="url(#head)"/>\n'
    )


def _drawn(box: Box, fill: str) -> str:
    rows = [
        _rect(box.x, box.y, box.width, box.height, fill=fill, stroke="#52606d"),
        _text(box.x + 10, box.y + 20, box.node.name.removeprefix("simscaleai-"), bold=True),
    ]
    rows += [
        _text(box.x + 10, box.y + 21 + _LINE * number, line, size=12)
        for number, line in enumerate(box.node.lines, 1)
    ]
    return "\n".join(rows) + "\n"


def _rect(x: float, y: float, width: float, height: float, *, fill: str, stroke: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="5" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def _text(x: float, y: float, text: str, *, size: int = 13, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}"{weight} fill="#1f2933">'
        f"{escape(text)}</text>"
    )


def main(arguments: Sequence[str]) -> int:
    """Draw the picture, or with ``--check`` compare it with the file; return the exit status."""
    text = picture()
    if "--check" in arguments:
        if PICTURE.is_file() and PICTURE.read_text("utf-8") == text:
            return 0
        sys.stderr.write(f"{PICTURE} is not current: run python {Path(__file__).name}\n")
        return 1
    PICTURE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
