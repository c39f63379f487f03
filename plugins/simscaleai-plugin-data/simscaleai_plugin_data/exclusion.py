"""The file of episodes to leave out, which ``simscale data check --exclude FILE`` writes.

Training takes it as the dataset option ``exclude_from``. It is JSON, to be read and changed by
hand::

    {
      "exclude": {
        "/data/reach.h5": {                     the file or folder that is checked, as a whole path
          "episode_7": ["non-finite"],          name of the episode: codes of its findings
          "episode_12": ["duplicate-episode"]
        }
      }
    }

A reader needs the names only; a list of names in place of the inner table means the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from simscaleai_plugin_data.findings import Finding

_OF_ANOTHER = {"split-leak"}  # it is gone once the duplicates are left out


def excluded(findings: Iterable[Finding]) -> dict[str, dict[str, list[str]]]:
    """Return the episodes with an error or a warning of their own: path, name, codes.

    Args:
        findings: What was found.

    Returns:
        The table, in the order of the findings.
    """
    table: dict[str, dict[str, list[str]]] = {}
    for found in findings:
        if found.episode is None or found.severity == "info" or found.code in _OF_ANOTHER:
            continue
        codes = table.setdefault(str(found.path.resolve()), {}).setdefault(found.episode, [])
        if found.code not in codes:
            codes.append(found.code)
    return table


def write_excluded(findings: Iterable[Finding], path: Path) -> int:
    """Write the episodes to leave out.

    Args:
        findings: What was found.
        path: The file to write; an old one is replaced.

    Returns:
        Number of episodes.
    """
    table = excluded(findings)
    path.write_text(json.dumps({"exclude": table}, indent=2) + "\n", encoding="utf-8")
    return sum(len(names) for names in table.values())
