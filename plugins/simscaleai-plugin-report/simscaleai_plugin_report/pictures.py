"""Pictures and films of an evaluation as ``data:`` URIs, as far as there is room for them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, frozen
from PIL import Image
from simscaleai_plugin_data.view.frames import jpeg_of

MAX_BYTES = 7 * 10**6
"""Bytes of all pictures and films of a page, as text."""

_MAX_SIDE = 1600  # of the contact sheet [pixels]


@define
class Room:
    """What is left of a page's size for pictures and films."""

    left: int = MAX_BYTES
    """What may still be put in, as text [bytes]."""

    def uri(self, kind: str, size: int, content: bytes | Path) -> str | None:
        """Return a ``data:`` URI and take its size from the room, or None if there is too little.

        Args:
            kind: Media type, such as ``image/jpeg``.
            size: Size of the content [bytes].
            content: The content, or the file that holds it.
        """
        taken = 4 * (size + 2) // 3 + 100
        if taken > self.left:
            return None
        self.left -= taken
        held = content if isinstance(content, bytes) else content.read_bytes()
        return f"data:{kind};base64,{base64.b64encode(held).decode()}"


@frozen(kw_only=True)
class Film:
    """The film of one episode."""

    path: str
    """Its file."""
    seed: str
    """Seed of the episode."""
    success: bool
    """Whether it succeeded."""
    uri: str | None
    """The film as a ``data:`` URI; None if it is too large for the page."""


@frozen(kw_only=True)
class Pictures:
    """What an evaluation with ``--video`` left."""

    contact_sheet: str | None
    """The contact sheet as a ``data:`` URI, if there is one."""
    films: tuple[Film, ...]
    """The films."""


def read_pictures(
    results: Mapping[str, Any], directory: Path, room: Room, problems: list[str]
) -> Pictures:
    """Read the contact sheet, then the films as long as there is room.

    Args:
        results: An evaluation's results.
        directory: The run's checkpoint directory; files are looked for there as well.
        room: What may be put into the page; it shrinks.
        problems: Gets a line for each file that is missing or broken.

    Returns:
        The pictures.
    """
    sheet = results.get("contact_sheet")
    found = _sheet(_place(sheet, directory), room, problems) if isinstance(sheet, str) else None
    videos = results.get("videos")
    listed = [v for v in videos if isinstance(v, dict)] if isinstance(videos, list) else []
    listed.sort(key=lambda video: video.get("success") is True)  # failures first
    return Pictures(contact_sheet=found, films=tuple(_films(listed, directory, room, problems)))


def _films(
    videos: list[dict[str, Any]], directory: Path, room: Room, problems: list[str]
) -> Iterator[Film]:
    for video in videos:
        path = _place(str(video.get("file")), directory)
        if not _is_film(path):
            problems.append(f"{path} is no film: expected a file in mp4. Evaluate with --video.")
            continue
        uri = room.uri("video/mp4", path.stat().st_size, path)
        yield Film(
            path=str(path),
            seed=str(video.get("seed")),
            success=video.get("success") is True,
            uri=uri,
        )


def _is_film(path: Path) -> bool:
    """Return whether a file is what it is named as; another of the user's is not to be shared."""
    try:
        if not path.is_file():  # such as a pipe, at which one would wait
            return False
        with path.open("rb") as file:
            return file.read(8)[4:] == b"ftyp"
    except OSError:
        return False


def _sheet(path: Path, room: Room, problems: list[str]) -> str | None:
    if not path.is_file():
        problems.append(f"there is no {path}: the contact sheet is not shown.")
        return None
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        problems.append(f"{path} cannot be shown: {error}. Evaluate again with --video.")
        return None
    image.thumbnail((_MAX_SIDE, 4 * _MAX_SIDE))
    file = jpeg_of(image)
    return room.uri("image/jpeg", len(file), file)


def _place(name: str, directory: Path) -> Path:
    """Return where a file is: where it was written, or in the run's directory if that was moved."""
    path = Path(name)
    places = [path, directory / path.parent.name / path.name, directory / path.name]
    return next((place for place in places if place.is_file()), path)
