"""Versions of what the content of a recording depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version

from packaging.requirements import Requirement

from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.catalog import find_declared
from simscaleai_plugin_gym.envs.construction import entry_module

_ALWAYS = ("simscaleai-plugin-gym", "gymnasium", "numpy")


def versions_of_env(env: str, host: Host | None = None) -> dict[str, str]:
    """Return the versions of the distributions that a recording in an environment depends on.

    Args:
        env: Name of the environment.
        host: Knows the plugins; those that are installed if None.

    Returns:
        Versions by distribution: of this plugin, Gymnasium and NumPy, of the distribution that
        brings the environment and of those that this one requires, such as its simulator.
    """
    names = {*_ALWAYS}
    for distribution in _distributions_of(env, host):
        names |= {distribution, *_requirements(distribution)}
    found = {name: _version(name) for name in sorted(names)}
    return {name: number for name, number in found.items() if number}


def _distributions_of(env: str, host: Host | None) -> list[str]:
    """Return the distributions that bring an environment; none for a module that is a file."""
    declared = find_declared(env, host)
    if declared is not None:
        return [declared.distribution.partition(" ")[0]]
    package = entry_module(env).partition(".")[0]
    return list(packages_distributions().get(package, ()))


def _requirements(distribution: str) -> list[str]:
    try:
        needed = [Requirement(text) for text in requires(distribution) or ()]
    except PackageNotFoundError:
        return []
    return [
        each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})
    ]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
