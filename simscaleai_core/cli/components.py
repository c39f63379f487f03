"""``simscale models``."""

from __future__ import annotations

from simscaleai_core.cli.output import print_json, print_table
from simscaleai_core.host.facade import Host


def models(*, json: bool = False) -> int:
    """List the installed models.

    Args:
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    found = Host().of_kind("model")
    if json:
        print_json({"models": [{"id": c.id, "summary": c.spec.summary} for c in found]})
    else:
        rows = [(c.id, c.spec.summary, c.distribution) for c in found]
        print_table(rows, headers=("model", "summary", "from"))
    return 0
