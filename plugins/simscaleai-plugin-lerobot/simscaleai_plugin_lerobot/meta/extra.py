"""``meta/simscaleai.json``: what our writer keeps that LeRobot's layout has no place for.

Other readers pass it over, and no data set of others has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from simscaleai_core.data.location import Location
from simscaleai_plugin_lerobot.meta.info import INTACT, read_json

EXTRA = Path("meta", "simscaleai.json")


@frozen(kw_only=True)
class Extra:
    """What the file says; empty if there is none."""

    env: str | None = None
    """Id of the environment that the data was recorded in."""
    keys: Mapping[str, str] = field(factory=dict)
    """Names of keys by feature: LeRobot's names have no ``/``."""
    filter_keys: Mapping[str, Sequence[int]] | None = None
    """Numbers of the episodes of each named part of the data; None if the splits say it."""
    tasks_are_alternatives: bool = False
    """Whether several tasks of an episode are other words for the same."""


def read_extra(root: Path) -> Extra:
    """Read the file, if there is one.

    Args:
        root: The folder of the data set.

    Returns:
        What it says.

    Raises:
        DataError: If it is damaged.
    """
    path = root / EXTRA
    if not path.is_file():
        return Extra()
    table = read_json(path)
    try:
        return Extra(
            env=None if table["env"] is None else str(table["env"]),
            keys={str(name): str(key) for name, key in table["keys"].items()},
            filter_keys={str(k): [int(n) for n in v] for k, v in table["filter_keys"].items()},
            tasks_are_alternatives=bool(table["tasks_are_alternatives"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Location(path=path).error(
            "env, keys, filter_keys and tasks_are_alternatives", f"{type(error).__name__}: {error}",
            INTACT,
        ) from error  # fmt: skip
