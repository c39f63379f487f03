"""Components of the project's own plugins: the only ones that are suggested for installation."""

from __future__ import annotations

from simscaleai_core.cli.known_commands import COMMANDS
from simscaleai_core.errors import UnknownComponentError
from simscaleai_core.host.entry_points import GROUP, normalized, offers

COMPONENTS = {
    "model": {"bc": "act bc bc-chunk bc-gmm bc-rnn diffusion flow", "vla": "vla"},
    "dataset": {"hdf5": "hdf5 robomimic", "lerobot": "lerobot", "zarr": "zarr"},
    "env": {"sim": "pick_language pick_place push reach reach_language"},
    "precision": {"amp": "amp"},
    "strategy": {"ddp": "ddp", "fsdp": "fsdp"},
    "logger": {"tensorboard": "tensorboard", "wandb": "wandb"},
    "checkpoint_backend": {"dcp": "dcp", "safetensors": "safetensors"},
    "eval_function": {"gym": "closed_loop"},
    "extension": {"extensions": "best-k compile early-stopping ema freeze profiler throughput"},
    "adapter": {"extensions": "lora"},
    "executor": {"gym": "local", "ray": "ray"},
}
"""Names of components by kind and plugin; a name that a user or a file gives is never suggested."""


_PREFIX = "simscaleai-plugin-"


def own_plugin(kind: str, name: str) -> str:
    """Return the plugin of the project that brings a component, named in short or by id, or ''.

    A plugin itself is of the kind ``plugin``.
    """
    if kind == "plugin":
        plugin = normalized(name).removeprefix(_PREFIX)
        known = {plugin for plugins in COMPONENTS.values() for plugin in plugins}
        distributions = {command.distribution for command in COMMANDS.values()}
        return plugin if plugin in known or f"{_PREFIX}{plugin}" in distributions else ""
    owner, _, short = name.rpartition("/")
    found = (p for p, names in COMPONENTS.get(kind, {}).items() if short in names.split())
    return next((plugin for plugin in found if owner in {"", plugin}), "")


def install_hint(plugin: str) -> str:
    """Return what to install for one of the project's plugins; nothing if it is installed."""
    distribution = f"{_PREFIX}{plugin}"
    if not plugin or distribution in {offer.distribution for offer in offers(GROUP)}:
        return ""
    return f"{distribution}, which is not installed, brings it: pip install {distribution}"


def hint_for(error: BaseException | None) -> str:
    """Return what to install for the component that an error, or its cause, did not find."""
    while error is not None and not isinstance(error, UnknownComponentError):
        error = error.__cause__
    return "" if error is None else install_hint(own_plugin(error.kind, error.name))
