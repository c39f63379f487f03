"""A layout of the tests' own, one .npz file: a plugin that reads and writes it in one screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from simscaleai_core.data.source import Episode, EpisodeSource, Key
from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_core.errors import DataError
from simscaleai_core.plugin import DatasetSpec, PluginInfo, provides


class Made:
    """Demonstrations in memory.

    `arrays` has those of each episode by key, ``"actions"`` among them and ``"rewards"`` if there
    are any; frames are uint8 ``[T, H, W, C]``, depth is what `depth` names.
    """

    def __init__(
        self,
        arrays: Sequence[Mapping[str, Any]],
        *,
        episodes: Sequence[Mapping[str, Any]] = (),
        path: str | Path = "made.npz",
        depth: Sequence[str] = (),
        dimensions: Mapping[str, Sequence[str]] | None = None,
        **facts: Any,
    ) -> None:
        self.path, self._arrays = Path(path), arrays
        self.facts = facts
        named = dimensions or {}
        keys = {
            name: _key(name, array, is_depth=name in depth, dimensions=tuple(named.get(name, ())))
            for name, array in arrays[0].items()
            if name not in {"rewards", "timestamps"}
        }
        self.actions = keys.pop("actions")
        self.observations = list(keys.values())
        about = [*episodes, *[{}] * (len(arrays) - len(episodes))]
        self.episodes = [
            Episode(**{"name": f"demo_{n}", "length": len(each["actions"]), **about[n]})
            for n, each in enumerate(arrays)
        ]

    def __getattr__(self, name: str) -> Any:
        if name == "rewards" and "rewards" in self._arrays[0]:
            return lambda episode: self._arrays[episode]["rewards"]
        if name == "timestamps" and "timestamps" in self._arrays[0]:
            return lambda episode: self._arrays[episode]["timestamps"]
        if name in {"fps", "env"} and name in self.facts:
            return self.facts[name]
        raise AttributeError(name)

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        return self._arrays[episode][key][start:stop]


def _key(name: str, array: Any, *, is_depth: bool, dimensions: tuple[str, ...]) -> Key:
    step = array.shape[1:]
    if is_depth:
        return Key(name=name, shape=(1, *step), kind="depth", dtype=str(array.dtype))
    if array.dtype == np.uint8 and array.ndim == 4:
        return Key(name=name, shape=(step[2], step[0], step[1]), kind="image", dtype="uint8")
    return Key(name=name, shape=step, dtype=str(array.dtype), dimensions=dimensions)


def write(source: EpisodeSource, path: Path) -> None:
    """Write everything that there is."""
    keys = [*source.observations, source.actions]
    arrays = {
        f"{number}/{key.name}": source.read(number, key.name, 0, episode.length)
        for number, episode in enumerate(source.episodes)
        for key in keys
    }
    if hasattr(source, "rewards"):
        arrays |= {f"{n}/rewards": source.rewards(n) for n in range(len(source.episodes))}
    about = {
        "episodes": [
            attrs.asdict(e) | {"filter_keys": sorted(e.filter_keys)} for e in source.episodes
        ],
        "depth": [key.name for key in keys if key.kind == "depth"],
        "dimensions": {key.name: key.dimensions for key in keys},
        "facts": {n: getattr(source, n) for n in ("fps", "env") if getattr(source, n, None)},
    }
    with path.open("wb") as file:
        np.savez(file, about=json.dumps(about), **arrays)


def write_numbers(source: EpisodeSource, path: Path) -> None:
    """Write what a layout can hold that knows nothing but float32 numbers."""
    keys = [k for k in (*source.observations, source.actions) if k.kind == "low-dimensional"]
    arrays = [
        {k.name: source.read(n, k.name, 0, e.length).astype(np.float32) for k in keys}
        for n, e in enumerate(source.episodes)
    ]
    write(Made(arrays, path=path), path)


def write_half(source: EpisodeSource, path: Path) -> None:
    """Fail in the middle, as on a full disk."""
    path.write_bytes(b"half")
    raise DataError("the disk is full: expected room, got none. Make room.", path=path)


def write_few(source: EpisodeSource, path: Path) -> None:
    """Forget all but the first episode, as a faulty writer might."""
    keys = [k.name for k in (*source.observations, source.actions)]
    first = {key: source.read(0, key, 0, source.episodes[0].length) for key in keys}
    write(Made([first], path=path), path)


def write_folder(source: EpisodeSource, path: Path) -> None:
    """Write a folder with a file in it."""
    path.mkdir()
    write(source, path / "data.npz")


def read(path: str | Path, **_: Any) -> Made:
    """Open a file, or a folder with one."""
    path = Path(path, "data.npz") if Path(path).is_dir() else path
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no .npz file: expected one, got {error}", path=path) from error
    about = json.loads(str(arrays.pop("about")))
    by_episode: list[dict[str, Any]] = [{} for _ in about["episodes"]]
    for name, array in arrays.items():
        number, _, key = name.partition("/")
        by_episode[int(number)][key] = array
    for each in about["episodes"]:
        each["instructions"] = tuple(each["instructions"])
        each["filter_keys"] = frozenset(each["filter_keys"])
    return Made(
        by_episode,
        episodes=about["episodes"],
        path=path,
        depth=about["depth"],
        dimensions=about["dimensions"],
        **about["facts"],
    )


def reads(path: Path) -> bool:
    """Return whether a path is such a file."""
    return path.is_file() and path.suffix == ".npz"


def reads_folder(path: Path) -> bool:
    """Return whether a path is such a folder."""
    return (path / "data.npz").is_file()


class NpzDataset(WindowedDataset):
    """Windows of such a file."""

    def __init__(self, data_path: str, **windows: Any) -> None:
        super().__init__(read(data_path), **windows)


PLUGIN = PluginInfo(summary="A layout of the tests' own")

simscale_register_datasets = provides(
    DatasetSpec(
        name="npz",
        target="npz_layout:NpzDataset",
        source="npz_layout:read",
        reads="npz_layout:reads",
        writer="npz_layout:write",
    ),
    DatasetSpec(
        name="npz-folder",
        target="npz_layout:NpzDataset",
        source="npz_layout:read",
        reads="npz_layout:reads_folder",
        writer="npz_layout:write_folder",
    ),
    *(
        DatasetSpec(
            name=name.replace("_", "-"),
            target="npz_layout:NpzDataset",
            source="npz_layout:read",
            writer=f"npz_layout:{name}",
        )
        for name in ("write_numbers", "write_half", "write_few")
    ),
    DatasetSpec(
        name="npz-both",
        target="npz_layout:NpzDataset",
        source="npz_layout:read",
        reads="npz_layout:reads_folder",
        writer="npz_layout:write",
    ),
    DatasetSpec(name="npz-write-only", target="npz_layout:NpzDataset", writer="npz_layout:write"),
    DatasetSpec(name="npz-read-only", target="npz_layout:NpzDataset", source="npz_layout:read"),
)
