"""Why an environment could not be made, in one line."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simscaleai_core.errors import ConfigError

_OLD_MUJOCO = ("gymnasium_robotics", "metaworld", "robosuite")
"""Packages whose checks of joint types fail from mujoco 3.12 on."""


def unmade(name: str, options: Mapping[str, Any], error: Exception) -> ConfigError:
    """Return the error for an environment whose construction failed.

    Args:
        name: Name of the environment.
        options: What it was given.
        error: What its construction raised.

    Returns:
        An error that says why, and what to do if the reason is known.
    """
    given = f" with {dict(options)!r}" if options and isinstance(error, TypeError) else ""
    return ConfigError(f"environment {name!r}{given} cannot be made: {_reason(error)}")


def _reason(error: Exception) -> str:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    packages = [p for p in _OLD_MUJOCO if any(f"{os.sep}{p}{os.sep}" in file for file in files)]
    kind = type(error).__name__
    if packages and isinstance(error, AssertionError | AttributeError):
        return (
            f"{packages[0]} fails with the installed mujoco {version('mujoco')} ({kind} in "
            f"{Path(files[-1]).name}). Install 'mujoco<3.12' in a virtual environment for it."
        )
    return str(error) or f"{kind} in {Path(files[-1]).name if files else 'its constructor'}"
