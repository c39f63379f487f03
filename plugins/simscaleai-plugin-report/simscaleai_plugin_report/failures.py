"""The folder of failed episodes, as ``simscale eval --failures`` wrote it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from simscaleai_plugin_report.files import read_object
from simscaleai_plugin_report.pictures import Pictures, Room, read_pictures

_FOLDER, _FILE, _EPISODES = "failures", "conditions.json", "failures.h5"
_TO_RECORD = 25  # episodes


@frozen(kw_only=True)
class Failures:
    """Failed episodes that were kept."""

    folder: Path
    """Where they are."""
    env: str
    """The environment."""
    seeds: list[int]
    """Seed of each episode that failed."""
    num_episodes: int
    """Episodes that were run to find them."""
    is_recorded: bool
    """Whether their trajectories are there."""
    pictures: Pictures
    """Their films and the contact sheet."""

    @property
    def like_command(self) -> str:
        """Return the command that records the expert where these episodes began."""
        words = ["simscale", "record", "--like", str(self.folder), "--episodes", str(_TO_RECORD)]
        return shlex.join([*words, "--output", str(self.folder.parent / "like_failures.h5")])


def read_failures(
    results: Mapping[str, Any], directory: Path, room: Room, problems: list[str]
) -> Failures | None:
    """Read the failed episodes of a run.

    Args:
        results: An evaluation's results; its ``failures`` names the folder.
        directory: The run's checkpoint directory; ``failures`` in it is looked at as well.
        room: What may be put into the page; it shrinks.
        problems: Gets a line if what is in the folder is broken.

    Returns:
        The failures, or None if there is no such folder.
    """
    named = results.get("failures")
    places = [Path(named)] if isinstance(named, str) else []
    places += [directory / place.name for place in places] + [directory / _FOLDER]
    folder = next((place for place in places if (place / _FILE).is_file()), None)
    found = None if folder is None else read_object(folder / _FILE, problems)
    if folder is None or found is None:
        return None
    seeds, successes = found.get("seeds"), found.get("successes")
    if not _is_list_of(int, seeds) or not _is_list_of(bool, successes):
        problems.append(
            f"{folder / _FILE} is broken: expected a list of seeds and one of successes. "
            "Evaluate again with --failures."
        )
        return None
    outcomes = zip(seeds or (), successes or (), strict=False)
    failed = [seed for seed, success in outcomes if not success]
    return Failures(
        folder=folder,
        env=str(found.get("env") or ""),
        seeds=failed,
        num_episodes=len(seeds or ()),
        is_recorded=(folder / _EPISODES).is_file(),
        pictures=_pictures(folder, failed, room, problems),
    )


def _pictures(folder: Path, failed: list[int], room: Room, problems: list[str]) -> Pictures:
    films = [(seed, folder / f"seed_{seed}.mp4") for seed in failed]
    videos = [
        {"file": str(film), "seed": seed, "success": False} for seed, film in films if film.exists()
    ]
    sheet = folder / "contact_sheet.png"
    listed: dict[str, Any] = {"videos": videos}
    if sheet.exists():
        listed["contact_sheet"] = str(sheet)
    return read_pictures(listed, folder, room, problems)


def _is_list_of(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)
