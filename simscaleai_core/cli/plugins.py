"""``simscale plugins list|info|doctor``; plugins may add subcommands."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from cyclopts import App, Parameter

from simscaleai_core.cli.output import print_facts, print_json, print_table, print_text
from simscaleai_core.host.discovery import discover
from simscaleai_core.host.selection import select_plugins

if TYPE_CHECKING:
    from simscaleai_core.host.records import Component

app = App(
    name="plugins",
    help="Look at installed plugins and their faults.",
    default_parameter=Parameter(negative=()),
)
app.command(
    "simscaleai_core.cli.doctor:doctor",
    name="doctor",
    help="Load every plugin and name every fault, with the command that fixes it.",
)


@app.command(name="list")
def list_(*, json: bool = False) -> int:
    """List installed plugins from their metadata alone; none is imported.

    Args:
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    records = discover(select_plugins())
    if json:
        print_json({"plugins": [_facts(r) for r in records]})
    else:
        rows = [(r.name, r.distribution, r.version, r.state, r.reason) for r in records]
        print_table(rows, headers=("name", "distribution", "version", "state", "reason"))
    return 0


@app.command
def info(name: str, /, *, schema: bool = False, json: bool = False) -> int:
    """Show what one plugin offers: components, their options, and the hooks that they listen to.

    Args:
        name: The plugin, or its distribution.
        schema: Print the options of its components as JSON Schema and nothing else.
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    from simscaleai_core.host.facade import Host

    host = Host()
    record = host.record(name)
    components = [c for c in host.components if c.plugin == record.name]
    if schema:
        print_json({c.id: _schema(c) for c in components if c.spec.options})
        return 0
    described = [_described(c) for c in components]
    facts = {
        **_facts(record),
        "summary": record.info.summary if record.info else "",
        "import_ms": round(record.import_ms, 1),
        "heavy_imports": ", ".join(record.heavy) or "none",
        "faults": "; ".join(record.faults[:1]) or "none",
    }
    if json:
        print_json({**facts, "components": described})
        return 0
    print_facts(facts)
    for component in described:
        print_text(f"\n{component['kind']} {component['id']}: {component['summary']}")
        if component["listens_to"]:
            print_text(f"  listens to {', '.join(component['listens_to'])}")
        rows = [(o["name"], o["type"], o["default"], o["doc"]) for o in component["options"]]
        if rows:
            print_table(rows, headers=("option", "type", "default", "meaning"))
    return 0


def _described(component: Component) -> dict[str, Any]:
    return {
        "id": component.id,
        "kind": component.kind,
        "summary": component.spec.summary,
        "options": _options(component),
        "listens_to": _listens_to(component),
    }


def _listens_to(component: Component) -> list[str]:
    """Return the events that a component listens to, in the order in which a run fires them."""
    from simscaleai_core.host.lookup import import_target
    from simscaleai_core.host.validation import hook_specs, implementations

    heard = dict(implementations(dict(inspect.getmembers_static(import_target(component)))))
    return [name for name in hook_specs() if name in heard]


def _schema(component: Component) -> dict[str, Any]:
    from simscaleai_core.cli.schema import DIALECT, options_schema
    from simscaleai_core.host.lookup import import_target

    cls = import_target(component, component.spec.options)
    return {"$schema": DIALECT, **options_schema(cls, title=component.id)}


def _facts(record: Any) -> dict[str, str]:
    names = ("name", "distribution", "version", "state", "reason", "target")
    return {name: getattr(record, name) for name in names}


def _options(component: Component) -> list[dict[str, str]]:
    if component.spec.options is None:
        return []
    import attrs

    from simscaleai_core.cli.configuration import field_docs
    from simscaleai_core.host.lookup import import_target

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
