"""A page taken apart: its elements, their attributes and texts."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from attrs import define, field

_EMPTY = {"meta", "link", "img", "rect", "line", "polyline", "br", "wbr"}


@define
class Element:
    """One element, with all that is in it."""

    tag: str
    attributes: dict[str, str | None]
    inner: list[Element] = field(factory=list, repr=False)
    pieces: list[str] = field(factory=list, repr=False)

    @property
    def text(self) -> str:
        """Its text and that of all in it, spaces made one."""
        return " ".join("".join(self.pieces).split())

    def all(self, tag: str, kind: str = "") -> list[Element]:
        """Return the elements in it, in order."""
        return [e for e in self.inner if e.tag == tag and (not kind or kind in e.kinds)]

    def one(self, tag: str, kind: str = "") -> Element:
        """Return the only such element."""
        (found,) = self.all(tag, kind)
        return found

    @property
    def kinds(self) -> list[str]:
        """Its classes."""
        return (self.attributes.get("class") or "").split()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("page", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        for each in self._open:
            each.inner.append(element)
        if tag not in _EMPTY:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in _EMPTY:
            return
        opened = self._open.pop().tag
        if opened != tag:
            raise ValueError(f"</{tag}> closes <{opened}>")

    def handle_data(self, data: str) -> None:
        for each in self._open:
            each.pieces.append(data)


def elements_of(path: Path) -> Element:
    """Return a page as one element; every element in it must be closed."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    return parser.root
