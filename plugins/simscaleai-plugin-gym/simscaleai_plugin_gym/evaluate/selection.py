"""Seeds on which a policy is looked at, apart from those on which it is reported.

What is recorded near the failures of some seeds makes the policy better on these seeds than
elsewhere, so a success rate on them says too much.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simscaleai_core.errors import ConfigError

REPORTING_SEED = 10_000
"""First seed of an evaluation, if nobody says."""
SELECTION_SEED = 50_000
"""First seed of an evaluation that looks for failures, if nobody says."""
REPORTING_SEEDS = range(REPORTING_SEED, 20_000)
"""Seeds that are kept for reports."""


def check_selection_seeds(seeds: Sequence[int], *, checkpoint: Path | None) -> None:
    """Check that no report uses these seeds.

    Args:
        seeds: Seeds whose episodes are to decide what is recorded.
        checkpoint: A checkpoint; no results file in its folder may have used them. None looks at
            no file.

    Raises:
        ConfigError: If one is kept for reports, or a results file has it.
    """
    kept = [seed for seed in seeds if seed in REPORTING_SEEDS]
    if kept:
        raise ConfigError(
            f"seeds of failures: expected none from {REPORTING_SEEDS[0]} to {REPORTING_SEEDS[-1]}, "
            f"which are kept for reports, got {kept[0]}. Choose others with --seed, such as --seed "
            f"{SELECTION_SEED}."
        )
    wanted = set(seeds)
    for path in [] if checkpoint is None else sorted(checkpoint.absolute().parent.glob("*.json")):
        used = wanted & _reported_seeds(path)
        if used:
            raise ConfigError(
                f"seeds of failures: expected none that a report has used, got {min(used)} @ "
                f"{path.name}. Choose others with --seed."
            )


def _reported_seeds(path: Path) -> set[int]:
    """Return the seeds of a file of results; none if it is none, or was about failures."""
    try:
        results = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):  # another program's file
        return set()
    if not isinstance(results, Mapping) or "failures" in results or "common" in results:
        return set()
    seeds = results.get("seeds")
    if not isinstance(seeds, list) or not any(map(_has_outcomes, _parts(results))):
        return set()
    return {seed for seed in seeds if isinstance(seed, int)}


def _parts(results: Mapping[str, Any]) -> list[Any]:
    """Return the results of one policy, of each of two, or of each cell of a sweep."""
    cells = results.get("cells")
    return [
        results, results.get("first"), *(cells if isinstance(cells, list) else [])
    ]  # fmt: skip


def _has_outcomes(part: Any) -> bool:
    return isinstance(part, Mapping) and "successes" in part
