"""The command ``simscale envs``; light until it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_core.host.facade import Host


def envs(name: str | None = None, /, *, json: bool = False) -> int:
    """List the environments that can be recorded in and evaluated in, or what one can vary.

    Args:
        name: An environment, also a Gymnasium id: show what `simscale eval --vary` can vary of it.
        json: Print one JSON object instead of a table.

    Returns:
        Exit status.
    """
    from simscaleai_core.cli.output import print_json, print_note, print_table
    from simscaleai_core.host.facade import Host
    from simscaleai_plugin_gym.envs.catalog import env_rows, missing_tasks

    host = Host()
    if name is not None:
        return _show(name, host, as_json=json)
    rows = env_rows(host)
    if json:
        print_json({"envs": rows})
        return 0
    if rows:
        headers = list(rows[0])
        print_table([list(row.values()) for row in rows], headers=headers, title="environments")
    else:
        print_note("no plugin declares an environment; any Gymnasium id works")
    missing = missing_tasks(host)
    if missing:
        print_note(missing)
    return 0


def _show(name: str, host: Host, *, as_json: bool) -> int:
    """Print what is known of one environment and what can be varied of it."""
    from simscaleai_core.cli.output import print_facts, print_json, print_table
    from simscaleai_plugin_gym.envs.catalog import env_rows

    varied = _varied(name, host)
    known: dict[str, Any] = next((r for r in env_rows(host) if r["name"] == name), {"name": name})
    if as_json:
        print_json({**known, "variations": varied})
        return 0
    print_facts(known, title="environment")
    rows = [(option, each["default"], each["meaning"]) for option, each in varied.items()]
    print_table(rows, headers=("option", "default", "meaning"), title="can be varied")
    return 0


def _varied(name: str, host: Host) -> dict[str, dict[str, Any]]:
    """Return meaning and default of what can be varied, the environment's own first."""
    import attrs

    from simscaleai_core.cli.configuration import field_docs
    from simscaleai_plugin_gym.envs.variations import variations_of
    from simscaleai_plugin_gym.rollout.disturbances import Disturbances

    own = {option: attrs.asdict(each) for option, each in variations_of(name, host).items()}
    texts = field_docs(Disturbances)
    of_all = {
        each.name: {"meaning": _first_sentence(texts[each.name]), "default": each.default}
        for each in attrs.fields(Disturbances)
    }
    return own | of_all


def _first_sentence(text: str) -> str:
    sentence = text.split(". ", maxsplit=1)[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]
