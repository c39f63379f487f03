"""The failures of an evaluation, as ``simscale eval --failures DIR`` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from simscaleai_core.errors import ConfigError

CONDITIONS = "conditions.json"
"""File of an evaluation's seeds, outcomes and initial conditions."""
FORMAT = 1
"""Its version."""


@frozen(kw_only=True)
class Failures:
    """How the episodes began that failed."""

    folder: Path
    """Where they are described."""
    env: str
    """Name of the environment."""
    env_kwargs: Mapping[str, Any]
    """What it was built with."""
    checkpoint: Path | None
    """Checkpoint of the policy that failed, if that is known."""
    conditions: Sequence[Mapping[str, float]]
    """Initial condition of each failed episode."""


def read_failures(folder: Path) -> Failures:
    """Read what an evaluation says of its failures.

    Args:
        folder: The folder that it wrote.

    Returns:
        Those episodes that failed.

    Raises:
        ConfigError: If that is not there or of another format, or no episode failed.
    """
    path = folder / CONDITIONS
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"like {str(folder)!r}: expected a folder of failures, got {reason} @ {CONDITIONS}. "
            f"Write one with 'simscale eval CHECKPOINT --failures {folder}'."
        ) from error
    if not isinstance(table, Mapping) or table.get("format") != FORMAT:
        found = table.get("format") if isinstance(table, Mapping) else type(table).__name__
        raise ConfigError(f"{path}: expected format {FORMAT}, got {found!r}. Evaluate again.")
    try:
        failures = Failures(
            folder=folder,
            env=str(table["env"]),
            env_kwargs=dict(table["env_kwargs"]),
            checkpoint=Path(table["checkpoint"]) if table.get("checkpoint") else None,
            conditions=[
                {name: float(value) for name, value in condition.items()}
                for condition, is_success in zip(
                    table["initial_conditions"], table["successes"], strict=True
                )
                if not is_success
            ],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path}: expected seeds, successes and initial conditions of as many episodes, got "
            f"{type(error).__name__}: {error}. Evaluate again."
        ) from error
    if not failures.conditions:
        raise ConfigError(
            f"like {str(folder)!r}: expected at least one failed episode, got none of "
            f"{len(table['successes'])}. Evaluate more episodes, or other seeds."
        )
    return failures
