"""``simscale models``."""

from __future__ import annotations

from simscaleai_core.cli.output import print_facts, print_json, print_table
from simscaleai_core.cli.recommended import as_text, spec_of
from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component


def models(name: str | None = None, /, *, json: bool = False) -> int:
    """List the installed models, or show the settings that one of them recommends.

    Args:
        name: A model; all are listed if none is named.
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    host = Host()
    if name is not None:
        _show(host.component("model", name), as_json=json)
        return 0
    found = host.of_kind("model")
    if json:
        print_json({"models": [{"id": c.id, "summary": c.spec.summary} for c in found]})
    else:
        rows = [(c.id, c.spec.summary, c.distribution) for c in found]
        print_table(rows, headers=("model", "summary", "from"))
    return 0


def _show(model: Component, *, as_json: bool) -> None:
    spec = spec_of(model)
    facts = {"summary": spec.summary, "from": model.distribution}
    if as_json:
        about = {"recommended": dict(spec.recommended), "reached": spec.reached or None}
        print_json({"id": model.id, **facts, **about})
        return
    settings = as_text(spec.recommended) or "nothing; --recommended is refused"
    print_facts(
        {**facts, "recommended": settings, "reached": spec.reached or "not said"}, title=model.id
    )
