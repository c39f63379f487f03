"""Options of this plugin's components and the checks of numbers and paths that users give.

Light, because options are also the command line's help.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import and_, ge, in_, le, optional

from simscaleai_core.errors import ConfigError
from simscaleai_core.plugin import HARMLESS, REPORTED

ENV_TIMEOUT_S = 60.0
"""Time that an environment may take to be made, for one reset and for one step [s]."""
VECTORIZATIONS = ("native", "sync", "async")
"""Ways of running several environments: in one batch of their own, in turn, in processes."""

MAX_EPISODES = 1_000_000
MAX_SEED = 2**62
MAX_NUM_ENVS = 65_536
MAX_IMAGES = 8192
MAX_STEPS = 10**9
MAX_FRAMES = 1000
MIN_TIMEOUT_S = 0.001
MAX_TIMEOUT_S = 86_400.0

_COUNTS: Mapping[str, tuple[int, int]] = {
    "episodes": (1, MAX_EPISODES),
    "seed": (0, MAX_SEED),
    "policy_seed": (0, MAX_SEED),
    "num_envs": (1, MAX_NUM_ENVS),
    "workers": (1, 1024),
    "threads": (1, 1024),
    "images": (1, MAX_IMAGES),
    "max_steps": (1, MAX_STEPS),
    "max_attempts": (1, 10 * MAX_EPISODES),
    "execute": (1, MAX_STEPS),
    "video_episodes": (1, MAX_EPISODES),
}
_REALS: Mapping[str, tuple[float, float]] = {
    "noise": (0.0, 1e6),
    "ensemble": (-1e6, 1e6),
    "env_timeout_s": (MIN_TIMEOUT_S, MAX_TIMEOUT_S),
}
_MAX_NAME = 255  # bytes of a file's name, on every file system that is in use
_OWN = {"name", "num_envs", "vectorization", "host", "env_timeout_s"}


def _literals(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of an environment with what a command line gave as text read as it means."""
    from simscaleai_core.cli.configuration import parse_literal

    return {
        name.replace("-", "_"): parse_literal(value) if isinstance(value, str) else value
        for name, value in given.items()
    }


def _own_names(instance: object, attribute: Attribute[Any], value: Mapping[str, Any]) -> None:  # noqa: ARG001
    check_env_kwargs(value)


@frozen(kw_only=True)
class ClosedLoopOptions:
    """How the closed-loop evaluation during training is run."""

    episodes: int = field(default=50, validator=and_(ge(1), le(MAX_EPISODES)), metadata=REPORTED)
    """Episodes per evaluation, over all ranks."""
    seed: int = field(default=20_000, validator=and_(ge(0), le(MAX_SEED)), metadata=REPORTED)
    """Seed of the first episode; every evaluation runs the same episodes."""
    num_envs: int = field(default=32, validator=and_(ge(1), le(MAX_NUM_ENVS)), metadata=HARMLESS)
    """Environments that run side by side on each rank."""
    vectorization: str | None = field(
        default=None, validator=optional(in_(VECTORIZATIONS)), metadata=HARMLESS
    )
    """How they run: native (one batch), sync (in turn) or async (in processes); native where a
    plugin declares a batch and sync otherwise if not given."""
    max_steps: int | None = field(
        default=None, validator=optional(and_(ge(1), le(MAX_STEPS))), metadata=REPORTED
    )
    """Longest episode [steps]; needed where the environment has no limit of its own."""
    env_timeout_s: float = field(
        default=ENV_TIMEOUT_S,
        validator=and_(ge(MIN_TIMEOUT_S), le(MAX_TIMEOUT_S)),
        metadata=HARMLESS,
    )
    """Time that the environment may take to be made, for one reset and for one step [s]; then the
    run ends with an error."""
    images: int | None = field(
        default=None, validator=optional(and_(ge(1), le(MAX_IMAGES))), metadata=REPORTED
    )
    """Side of the square camera images [pixels]; an environment with ``image_options`` takes it
    from the policy."""
    env_kwargs: Mapping[str, Any] = field(
        factory=dict, converter=_literals, validator=_own_names, metadata=REPORTED
    )
    """Further options of the environment, such as --closed_loop.env-kwargs.friction 0.8."""
    frames: int = field(default=0, validator=and_(ge(0), le(MAX_FRAMES)), metadata=HARMLESS)
    """Frames of the first episode to hand to the loggers as one strip; 0 draws nothing."""
    video: bool = field(default=False, metadata=HARMLESS)
    """Whether to hand a video of the first episode to the loggers."""
    success_map: bool = field(default=False, metadata=HARMLESS)
    """Whether to hand a picture of the success over two quantities of the initial conditions to the
    loggers; with several ranks that of the first one's episodes."""


def check_ranges(values: Mapping[str, Any]) -> None:
    """Check the numbers of a command, all at once.

    Args:
        values: Numbers by name; None for one that was left out.

    Raises:
        ConfigError: If any is out of range.
    """
    problems = [
        f"{name}: expected {wanted}, got {value!r}"
        for name, value in values.items()
        if value is not None and (wanted := _unmet(name, value))
    ]
    if problems:
        raise ConfigError(*problems)


def _unmet(name: str, value: Any) -> str:
    """Return what a number should have been; nothing if it is right."""
    low, high = _COUNTS[name] if name in _COUNTS else _REALS[name]
    if name in _COUNTS and (not isinstance(value, int) or isinstance(value, bool)):
        return "an integer"
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return "a number"
    if value < low:
        return f"at least {low:g}"
    return f"at most {high:,}" if value > high else ""


def check_env_kwargs(options: Mapping[str, Any]) -> None:
    """Check the names of an environment's options.

    Args:
        options: Options by name.

    Raises:
        ConfigError: If one is an argument of ours.
    """
    taken = sorted(_OWN & set(options))
    if taken:
        raise ConfigError(
            f"env_kwargs: expected options of the environment, got {', '.join(map(repr, taken))}, "
            "which say how it is run. Use the command's own options for them."
        )


def check_output(name: str, path: Path, *, is_folder: bool = False) -> None:
    """Check where results are to go, before the work is done whose results they are.

    Args:
        name: Name of the option.
        path: The file or folder; it need not be there, nor the folders above it.
        is_folder: Whether it is a folder.

    Raises:
        ConfigError: If it cannot be written.
    """
    wanted = "a folder" if is_folder else "a file name"
    problem = ""
    try:
        if path.exists() and path.is_dir() != is_folder:
            problem = "got a file" if is_folder else "got a directory"
        path.lstat()
        problem = problem or _refusal(path)
    except FileNotFoundError:
        above = next(each for each in path.absolute().parents if each.exists())
        if problem := _refusal(above):
            wanted = "a folder that can be written"
        if any(len(os.fsencode(part)) > _MAX_NAME for part in path.parts):
            problem = "got a name that is too long"
    except NotADirectoryError as error:
        wanted, problem = "a folder that can be written", f"got {error.strerror}"
    except OSError as error:
        problem = f"got {error.strerror}"
    except ValueError as error:  # a null character
        problem = f"got {error}"
    if problem:
        raise ConfigError(f"{name} {str(path)!r}: expected {wanted}, {problem}")


def _refusal(path: Path) -> str:
    """Return why the system lets nobody write there, which is tried; nothing if it does.

    Nothing changes: a folder gets a nameless file, and a file is opened and closed.
    """
    from tempfile import TemporaryFile

    try:
        if path.is_dir():
            TemporaryFile(dir=path).close()
        elif path.is_file():  # to open a pipe would wait for its reader
            path.open("ab").close()
    except OSError as error:
        return f"got {str(path)!r}, which cannot be written: {error.strerror}"
    return ""
