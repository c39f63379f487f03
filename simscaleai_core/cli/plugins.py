"""``simscale plugins list|info|doctor``."""

from __future__ import annotations

from typing import Any

from cyclopts import App, Parameter

from simscaleai_core.cli.output import print_facts, print_json, print_table
from simscaleai_core.host import Component, Host, import_target

app = App(
    name="plugins",
    help="Look at installed plugins and their faults.",
    default_parameter=Parameter(negative=()),
)


@app.command(name="list")
def list_(*, json: bool = False) -> int:
    """List installed plugins from their metadata alone; none is imported.

    Args:
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    records = Host().records
    if json:
        print_json({"plugins": [_facts(r) for r in records]})
    else:
        rows = [(r.name, r.distribution, r.version, r.state, r.reason) for r in records]
        print_table(rows, headers=("name", "distribution", "version", "state", "reason"))
    return 0


@app.command
def info(name: str, /, *, json: bool = False) -> int:
    """Show what one plugin offers, with the options of each component.

    Args:
        name: The plugin, or its distribution.
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    host = Host()
    record = host.record(name)
    components = [c for c in host.components if c.plugin == record.name]
    described: list[dict[str, Any]] = [
        {"id": c.id, "kind": c.kind, "summary": c.spec.summary, "options": _options(c)}
        for c in components
    ]
    summary = record.info.summary if record.info else ""
    facts = {**_facts(record), "summary": summary, "import_ms": round(record.import_ms, 1)}
    if json:
        print_json({**facts, "components": described})
        return 0
    print_facts(facts)
    for component in described:
        print_table(
            [(o["name"], o["type"], o["default"], o["doc"]) for o in component["options"]],
            headers=("option", "type", "default", "meaning"),
            title=f"{component['kind']} {component['id']}: {component['summary']}",
        )
    return 0


@app.command
def doctor(*, json: bool = False) -> int:
    """Load every plugin and name every fault, with what to do about it.

    Args:
        json: Print one JSON object and nothing else.

    Returns:
        0 if everything is sound, 1 if there is a fault.
    """
    host = Host()
    components = host.components
    faults = [
        {"plugin": r.name, "distribution": r.source, "state": r.state, "fault": _first(fault)}
        for r in host.records
        if r.state in {"failed", "incompatible"}
        for fault in (r.faults[:1] if "Traceback" in "".join(r.faults) else r.faults) or (r.reason,)
    ]
    ambiguous = _ambiguous(components)
    if json:
        print_json({"faults": faults, "ambiguous": ambiguous})
    else:
        rows = [(f["plugin"], f["distribution"], f["state"], f["fault"]) for f in faults]
        print_table(rows, headers=("plugin", "distribution", "state", "fault"))
        for name, ids in ambiguous.items():
            print_table([(name, ", ".join(ids))], headers=("ambiguous name", "choose one"))
        for fault in faults:
            print_table([(f"until it is mended: --no-plugin {fault['plugin']}",)])
        if not faults:
            print_table([(f"{len(host.records)} plugins, {len(components)} components, no fault",)])
    return 1 if faults else 0


def _facts(record: Any) -> dict[str, str]:
    names = ("name", "distribution", "version", "state", "reason", "target")
    return {name: getattr(record, name) for name in names}


def _options(component: Component) -> list[dict[str, str]]:
    if component.spec.options is None:
        return []
    import attrs

    from simscaleai_core.configio import field_docs

    cls = import_target(component, component.spec.options)
    docs = field_docs(cls)
    return [
        {
            "name": field.name,
            "type": str(getattr(field.type, "__name__", field.type)),
            "default": "required" if field.default is attrs.NOTHING else repr(field.default),
            "doc": docs.get(field.name, ""),
        }
        for field in attrs.fields(cls)
    ]


def _ambiguous(components: list[Component]) -> dict[str, list[str]]:
    by_name: dict[tuple[str, str], list[str]] = {}
    for component in components:
        by_name.setdefault((component.kind, component.spec.name), []).append(component.id)
    return {f"{kind} {name}": sorted(ids) for (kind, name), ids in by_name.items() if ids[1:]}


def _first(text: str) -> str:
    return text.splitlines()[0] if text else ""
