"""``meta/info.json``: version, rate, where the files are, and the features of a timestep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from simscaleai_core.data.location import Location, quoted
from simscaleai_plugin_lerobot.detect import INFO, VERSIONS

INTACT = "Copy the folder again, whole"


@frozen(kw_only=True)
class Feature:
    """One entry of ``features``."""

    name: str
    """Its name, and that of its column."""
    dtype: str
    """Number type, or ``"image"``, ``"video"``, ``"string"``, ``"language"``."""
    shape: tuple[int, ...]
    """Shape of one timestep, as stored."""
    names: tuple[str, ...] = ()
    """Names of its dimensions, or of its axes if it is a frame; nested ones in a row."""
    details: Mapping[str, Any] = field(factory=dict)
    """What else is known of a video or image."""

    @property
    def is_camera(self) -> bool:
        """Whether it is stored as images or video."""
        return self.dtype in {"image", "video"}

    @property
    def is_depth(self) -> bool:
        """Whether its frames are distances."""
        return bool(self.details.get("is_depth_map") or self.details.get("video.is_depth_map"))


@frozen(kw_only=True)
class Info:
    """A sound ``meta/info.json``."""

    root: Path
    """The folder of the data set."""
    version: str
    """Version of the layout, such as ``"v3.0"``."""
    fps: float
    """Timesteps per second [Hz]."""
    features: Mapping[str, Feature]
    """The features by name."""
    data_path: str
    """Template of the path of a parquet file."""
    video_path: str
    """Template of the path of a video; ``""`` if there is none."""
    chunk_size: int
    """Episodes a folder, in v2."""
    num_episodes: int | None
    """Episodes, if it says how many."""
    splits: Mapping[str, str]
    """Ranges of episodes by name, such as ``{"train": "0:80"}``."""

    @property
    def has_shared_files(self) -> bool:
        """Whether a file holds several episodes: v3, as opposed to v2."""
        return self.version.startswith("v3")

    @property
    def location(self) -> Location:
        """Return where it is, for messages."""
        return Location(path=self.root / INFO)

    def data_file(self, **indices: int) -> Path:
        """Return the path of a parquet file from the indices in its template."""
        return self._file(self.data_path, "data_path", indices)

    def video_file(self, key: str, **indices: int) -> Path:
        """Return the path of a video of a camera from the indices in its template."""
        return self._file(self.video_path, "video_path", {"video_key": key, **indices})

    def _file(self, template: str, name: str, indices: Mapping[str, int | str]) -> Path:
        try:
            return self.root / template.format(**indices)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise self.location.at(key=name).error(
                f"a template of {', '.join(sorted(indices))}", repr(template), "Correct it"
            ) from error


def read_info(root: Path) -> Info:
    """Read and check ``meta/info.json``.

    Args:
        root: The folder of the data set.

    Returns:
        What it says.

    Raises:
        DataError: If it is missing, damaged, of an unknown version, or incomplete.
    """
    location = Location(path=root / INFO)
    table = read_json(root / INFO)
    version = table.get("codebase_version")
    if not isinstance(version, str) or not version.startswith(VERSIONS):
        raise location.error(
            "codebase_version v2.x or v3.x", repr(version), "Convert the data set with lerobot",
            fact="unknown layout",
        )  # fmt: skip
    fps = table.get("fps")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < float("inf"):
        raise location.at(key="fps").error("timesteps per second > 0", repr(fps), "Correct it")
    features = table.get("features")
    if not isinstance(features, dict) or not features:
        found = quoted(str(features))
        raise location.at(key="features").error("a table of features", found, INTACT)
    data_path = table.get("data_path")
    if not isinstance(data_path, str):
        raise location.at(key="data_path").error("a template of a path", repr(data_path), INTACT)
    count = table.get("total_episodes")
    splits = table.get("splits")
    return Info(
        root=root,
        version=version,
        fps=float(fps),
        features={name: _feature(name, entry, location) for name, entry in features.items()},
        data_path=data_path,
        video_path=str(table.get("video_path") or ""),
        chunk_size=max(1, table["chunks_size"]) if _is_count(table.get("chunks_size")) else 1000,
        num_episodes=count if _is_count(count) else None,
        splits={str(k): str(v) for k, v in splits.items()} if isinstance(splits, dict) else {},
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file.

    Raises:
        DataError: If it is missing or holds no table.
    """
    location = Location(path=path)
    try:
        table = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise location.error("a LeRobot data set", "no such file", INTACT) from error
    except (OSError, ValueError, RecursionError) as error:
        raise location.error("JSON", str(error) or type(error).__name__, INTACT) from error
    if not isinstance(table, dict):
        raise location.error("a table", type(table).__name__, INTACT)
    return table


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _feature(name: str, entry: object, location: Location) -> Feature:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    sizes: list[Any] = shape if isinstance(shape, list) else [None]
    if not isinstance(entry, dict) or not all(_is_count(size) and size for size in sizes):
        found, wanted = quoted(str(entry)), "a table with dtype and shape"
        raise location.at(key=name).error(wanted, found, "Correct this entry of features")
    details = {**_table(entry.get("video_info")), **_table(entry.get("info"))}
    names = tuple(_flat(entry.get("names")))
    return Feature(
        name=name,
        dtype=str(entry.get("dtype")),
        shape=tuple(sizes) or (1,),
        names=names,
        details=details,
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _flat(names: object) -> Iterable[str]:
    """Yield names in a row; v2 nests them: ``{"motors": ["waist", ...]}``."""
    if isinstance(names, dict):
        names = list(names.values())
    if isinstance(names, list):
        for entry in names:
            yield from _flat(entry)
    elif names is not None:
        yield str(names)


def split_of(info: Info, count: int) -> list[frozenset[str]]:
    """Return the names of the splits of each episode.

    Args:
        info: The data set.
        count: Episodes.

    Returns:
        Names by position `[count]`.

    Raises:
        DataError: If a split is no range.
    """
    found: list[set[str]] = [set() for _ in range(count)]
    for name, text in info.splits.items():
        begin, _, end = text.partition(":")
        if not (begin.isdigit() and end.isdigit()):
            raise info.location.at(key="splits").error(
                "ranges such as '0:80'", f"{text!r} for {name!r}", "Correct it"
            )
        for names in found[int(begin) : int(end)]:
            names.add(name)
    return [frozenset(names) for names in found]
