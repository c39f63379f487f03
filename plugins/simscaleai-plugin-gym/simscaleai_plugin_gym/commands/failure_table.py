"""What ``simscale eval --failures`` shows of what the failed episodes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simscaleai_core.cli.output import print_note, print_table
from simscaleai_plugin_gym.record.failures import CONDITIONS

_MAX_ROWS = 10
_HEADERS = ("", "failed", "successful", "failed greater", "p_value", "corrected")


def print_commonalities(results: Mapping[str, Any]) -> None:
    """Print what the failed episodes have in common.

    Args:
        results: With what `FailureFolder.write` returns.
    """
    rows = results["common"]
    if not results["n_failed"]:
        print_note(f"no episode failed: {results['failures']} holds {CONDITIONS} only")
    elif not rows:
        print_note("nothing tells failed and successful episodes apart: all failed, or began alike")
    else:
        shown = [_cells(row) for row in rows[:_MAX_ROWS]]
        print_table(shown, headers=_HEADERS, title="how episodes began (medians)")


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['median_failed']:.3f}",
        f"{row['median_successful']:.3f}",
        f"{row['failed_greater']:.0%}",
        f"{row['p_value']:.2g}",
        f"{row['p_value_corrected']:.2g}",
    ]
