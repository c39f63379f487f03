"""What plugins declare of environments: by short name, full id or Gymnasium id."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target, not_loaded

if TYPE_CHECKING:
    from simscaleai_core.host.records import Component
    from simscaleai_core.plugin import EnvSpec

Expert = Callable[[Any], Any]

TASKS_DISTRIBUTION = "simscaleai-plugin-sim"
"""Distribution that brings this project's own tasks."""


def spec_of(declared: Component) -> EnvSpec:
    """Return the declaration of an environment's component."""
    return cast("EnvSpec", declared.spec)


def find_declared(name: str, host: Host | None = None) -> Component | None:
    """Return the environment that a plugin declares under a name.

    Args:
        name: Short name, full id ``plugin/name`` or Gymnasium id.
        host: Knows the plugins; those that are installed if None.

    Returns:
        The component, or None if no plugin declares it.

    Raises:
        UnknownComponentError: If several plugins declare that short name.
    """
    if ":" in name:  # module:EnvId, which is Gymnasium's
        return None
    host = host or Host()
    offered = host.of_kind("env")
    by_env_id = next((each for each in offered if name == spec_of(each).env_id), None)
    if by_env_id is not None:
        return by_env_id
    is_declared = any(name in {each.id, each.spec.name} for each in offered)
    return host.component("env", name) if is_declared else None


def has_native_batch(declared: Component | None) -> bool:
    """Return whether an environment brings a batch of its own, to run several at once.

    Args:
        declared: The environment's component; None for one that no plugin declares.

    Raises:
        PluginError: If importing its module does not register its Gymnasium id.
    """
    if declared is None or spec_of(declared).env_id is None:
        return False
    import gymnasium

    import_target(declared)
    env_id = str(spec_of(declared).env_id)
    if env_id not in gymnasium.registry:
        module = declared.spec.target.partition(":")[0]
        raise PluginError(
            f"environment {declared.id!r} ({declared.distribution}) declares a Gymnasium id that "
            f"is not registered: expected {env_id!r} after importing {module}. Register it there.",
            plugin=declared.plugin,
            distribution=declared.distribution,
        )
    return gymnasium.registry[env_id].vector_entry_point is not None


def find_expert(name: str, host: Host | None = None) -> Expert:
    """Return the scripted expert of an environment.

    Args:
        name: Name of an environment that a plugin declares an expert for.
        host: Knows the plugins; those that are installed if None.

    Returns:
        A function of a batched observation (each key `[N, ...]`) to actions `[N, A]`.

    Raises:
        ConfigError: If there is no such environment, or it has no expert here.
    """  # noqa: DOC501 - built by unknown_env
    host = host or Host()
    declared = find_declared(name, host)
    if declared is not None and spec_of(declared).expert is not None:
        expert: Expert = import_target(declared, spec_of(declared).expert)
        return expert
    import gymnasium

    if declared is None and ":" not in name and name not in gymnasium.registry:
        raise unknown_env(name, gymnasium.registry, host)
    having = [each for each in host.of_kind("env") if spec_of(each).expert is not None]
    raise ConfigError(
        f"environment {name!r} has no scripted expert. Environments with one: "
        f"{', '.join(sorted(_names(having))) or 'none'}."
    )


def image_options(
    declared: Component | None,
    keys: Sequence[str],
    size: tuple[int, int] | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options with which an environment shows the images that a policy needs.

    Args:
        declared: The environment's component; None for one that no plugin declares.
        keys: Observation keys of the policy's images.
        size: Height and width of its images [pixels], or None if it does not say.
        given: Options that the user chose; they win.

    Returns:
        All options of the environment.
    """
    if declared is None or spec_of(declared).image_options is None:
        return dict(given)
    options = import_target(declared, spec_of(declared).image_options)
    return {**options(keys, size, given), **given}


def env_rows(host: Host | None = None) -> list[dict[str, str]]:
    """Return one row of plain text per declared environment, for listings.

    Args:
        host: Knows the plugins; those that are installed if None.

    Returns:
        Rows with ``name``, ``gymnasium_id``, ``expert`` and ``summary``.
    """
    declared = (host or Host()).of_kind("env")
    return [
        {
            "name": name,
            "gymnasium_id": spec_of(each).env_id or "",
            "expert": "yes" if spec_of(each).expert else "",
            "summary": each.spec.summary,
        }
        for name, each in zip(_names(declared), declared, strict=True)
    ]


def missing_tasks(host: Host | None = None) -> str:
    """Return a sentence on how to install this project's own tasks; empty if they are there.

    Args:
        host: Knows the plugins; those that are installed if None.
    """
    if any(record.distribution == TASKS_DISTRIBUTION for record in (host or Host()).records):
        return ""
    return (
        f"{TASKS_DISTRIBUTION}, which is not installed, brings tasks with experts: "
        f"pip install {TASKS_DISTRIBUTION}."
    )


def unknown_env(name: str, gymnasium_ids: Iterable[str], host: Host | None = None) -> ConfigError:
    """Return the error for a name that neither a plugin nor Gymnasium knows.

    Args:
        name: The name.
        gymnasium_ids: Ids that Gymnasium knows.
        host: Knows the plugins; those that are installed if None.

    Returns:
        An error with the known names, and the one that may be meant.
    """
    host = host or Host()
    declared = host.of_kind("env")
    aliases = [alias for each in declared for alias in (each.id, each.spec.name)]
    close = difflib.get_close_matches(name, [*aliases, *gymnasium_ids], n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    missing = missing_tasks(host)
    broken = not_loaded([record for record in host.records if record.state != "blocked"])
    unloaded = "".join(f"\n  {line}" for line in broken)
    return ConfigError(
        f"unknown environment {name!r}. Installed: {', '.join(sorted(_names(declared))) or 'none'};"
        " any Gymnasium id such as 'CartPole-v1' or 'module:EnvId-v0' works too."
        f"{hint}{' ' if missing else ''}{missing}{unloaded}"
    )


def _names(declared: Sequence[Component]) -> list[str]:
    """Return the shortest name of each component that means no other."""
    count = Counter(each.spec.name for each in declared)
    return [each.spec.name if count[each.spec.name] == 1 else each.id for each in declared]
