"""The plugin API's version says what changed since the last release.

``plugin_api.json`` is the API as released; write it anew with a release:
``python tests/contracts/test_plugin_api.py``.
"""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from simscaleai_core.host.validation import hook_specs
from simscaleai_core.plugin import KINDS, PLUGIN_API_VERSION, PluginInfo

RELEASED = Path(__file__).with_name("plugin_api.json")


def present_api() -> dict[str, Any]:
    """Return hooks with their arguments, and records with their fields; required ones have '!'."""
    records = {cls.__name__: cls for cls in (PluginInfo, *KINDS.values())}
    return {
        "version": PLUGIN_API_VERSION,
        "hooks": {n: list(inspect.signature(f).parameters) for n, f in hook_specs().items()},
        "records": {
            name: [f.name + "!" * (f.default is attrs.NOTHING) for f in attrs.fields(cls)]
            for name, cls in records.items()
        },
    }


def version_demanded(old: dict[str, Any], new: dict[str, Any]) -> tuple[int, int]:
    """Return the least version for the new API: removals are major, additions minor."""
    major, minor = map(int, old["version"].split("."))
    is_breaking = is_growing = False
    for part in ("hooks", "records"):
        for name in {*old[part], *new[part]}:
            before, after = set(old[part].get(name, ())), set(new[part].get(name, ()))
            added = after - before
            is_breaking |= bool(before - after) or name not in new[part]
            is_breaking |= name in old[part] and any(field.endswith("!") for field in added)
            is_growing |= bool(added) or name not in old[part]
    if is_breaking:
        return major + 1, 0
    return (major, minor + 1) if is_growing else (major, minor)


def test_the_version_covers_what_changed() -> None:
    released, present = json.loads(RELEASED.read_text()), present_api()
    demanded = version_demanded(released, present)
    assert tuple(map(int, PLUGIN_API_VERSION.split("."))) >= demanded, (
        f"hooks or records differ from the released {released['version']}: "
        f"expected PLUGIN_API_VERSION of at least {demanded[0]}.{demanded[1]}"
    )


def _changed(part: str, name: str, members: list[str] | None) -> dict[str, Any]:
    api = copy.deepcopy(json.loads(RELEASED.read_text()))
    if members is None:
        del api[part][name]
    else:
        api[part][name] = members
    return dict(api)


@pytest.mark.parametrize(
    ("part", "name", "members", "step"),
    [
        ("hooks", "simscale_on_new_event", ["run"], "minor"),
        ("hooks", "simscale_on_run_start", ["run", "more"], "minor"),
        ("hooks", "simscale_on_run_start", [], "major"),
        ("hooks", "simscale_on_run_start", None, "major"),
        ("records", "ModelSpec", ["name!", "target!", "summary", "options", "more"], "minor"),
        ("records", "ModelSpec", ["name!", "target!", "summary", "options", "more!"], "major"),
        ("records", "ModelSpec", ["name!", "target!"], "major"),
        ("records", "NewSpec", ["name!"], "minor"),
    ],
)
def test_each_change_demands_its_step(
    part: str, name: str, members: list[str] | None, step: str
) -> None:
    released = json.loads(RELEASED.read_text())
    major, minor = map(int, released["version"].split("."))
    wanted = (major + 1, 0) if step == "major" else (major, minor + 1)
    assert version_demanded(released, _changed(part, name, members)) == wanted


if __name__ == "__main__":
    RELEASED.write_text(json.dumps(present_api(), indent=1) + "\n")
