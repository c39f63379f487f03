"""What differs between a run and the one that wrote its checkpoint, and between its ranks.

Every setting has a class: another value is refused, reported, or harmless. Options of components
are refused unless their options class says otherwise: ``field(default=4, metadata=HARMLESS)`` or
``REPORTED`` of `simscaleai_core.plugin`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict

from simscaleai_core.contracts import DataSpec, StateDict
from simscaleai_core.errors import ConfigError
from simscaleai_core.run.state import Run

if TYPE_CHECKING:
    from simscaleai_core.config import TrainConfig

REFUSED = (
    "lr", "weight_decay", "warmup_steps", "grad_clip", "batch_size", "accumulate",
    "seed", "eval_fraction",
)  # fmt: skip
"""Configuration that must not change on resume unless the user says so."""

REPORTED = ("max_steps", "backend", "eval_every", "extensions")
"""Configuration that may change on resume, with a warning."""

HARMLESS = (
    # compared by what they lead to: the policy, its data, the precision and the ranks in effect
    "model_name", "model_kwargs", "dataset_path", "dataset_name", "dataset_kwargs", "options",
    "use_amp", "amp_dtype", "precision", "device", "distributed", "strategy", "plugins",
    "optimizer", "schedule", "train_step", "sampler", "transforms", "adapters", "weights",
    # training takes the same steps whatever they are
    "num_workers", "threads", "checkpoint_dir", "checkpoint_backend", "save_every", "keep_last",
    "resume_from", "init_from", "init_statistics", "init_partial", "allow_drift", "log_every",
    "loggers", "use_wandb", "wandb_project", "wandb_run_name", "env", "eval_fns", "max_skipped",
)  # fmt: skip
"""Configuration that may change on resume without a word."""

_AT_FIRST: Mapping[str, Any] = {
    "optimizer": "builtin/adamw", "schedule": "builtin/cosine",
    "train_step": "builtin/supervised", "sampler": None, "transforms": [], "adapters": [],
}  # fmt: skip
"""What runs had before any of it could be chosen."""

_IN_EFFECT = ("world_size", "threads", "device", "torch", "precision", "order", "plugins")


def drift(run: Run, tree: StateDict) -> tuple[list[str], list[str]]:
    """Return in words what differs from a checkpoint: configuration, data, options, and effects.

    First what makes the resumed run another one than was begun, then what may make it not bit-exact
    or changes what is measured.
    """
    config, before = config_table(run.config), settings_of(tree) | _named(tree["policy"])
    refused = differences({n: config[n] for n in REFUSED}, tree["config"])
    reported: list[str] = []
    if tree["data"]:
        now = about_data(run.data_spec)
        refused += [f"the data's {text}" for text in differences(now, tree["data"])]
    used = {name.rpartition(".")[0] for name in before}  # what had fewer options then
    new = [n for n in run.defaults if n not in before and n.rpartition(".")[0] in used]
    before |= {name: run.defaults[name] for name in new}
    now = {**run.settings, **_named(about_policy(run)), **{n: run.settings[n] for n in new}}
    for name, value in now.items():
        kind = run.on_resume.get(name, "refused")
        if kind != "harmless":
            texts = differences({name: value}, before)
            (refused if kind == "refused" else reported).extend(texts)
    reported += differences({n: config[n] for n in REPORTED}, tree["config"])
    reported += differences({n: run.facts.get(n) for n in _IN_EFFECT}, tree["facts"])
    return refused, reported


def settings_of(tree: StateDict) -> dict[str, Any]:
    """Return the components and options that a checkpoint says its training depended on."""
    return {**_AT_FIRST, **tree.get("settings", {})}


def check_ranks_agree(run: Run) -> None:
    """Refuse ranks that differ from rank 0 in configuration, data or plugins; all is named."""
    compared = ("policy", "data", "precision", "torch", "plugins")
    mine = {**config_table(run.config), **{name: run.facts.get(name) for name in compared}}
    first, *others = run.strategy.gather(mine)
    problems = [
        f"rank {rank} has {name}={theirs[name]!r}, rank 0 has {first[name]!r}"
        for rank, theirs in enumerate(others, start=1)
        for name in theirs
        if theirs[name] != first[name]
    ]
    if problems:
        raise ConfigError(*problems)


def config_table(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as plain containers, fit for a checkpoint or a TOML file."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def about_policy(run: Run) -> dict[str, Any]:
    """Return what builds the policy again."""
    kind = run.policy_class
    return {
        "component": run.component,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "hparams": getattr(run.policy, "hparams", None),
        "adapters": run.adapters,
    }


def about_data(data: DataSpec | None) -> dict[str, Any]:
    """Return what the data says of itself, without its numbers, statistics and instructions."""
    left_out = {"statistics", "instructions", "numbers", "sources"}
    return asdict(data, filter=lambda field, _: field.name not in left_out) if data else {}


def _named(policy: Mapping[str, Any]) -> dict[str, Any]:
    owner = policy.get("component") or "policy"
    return {f"{owner}.{name}": value for name, value in (policy.get("hparams") or {}).items()}


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Say in words what differs; what an older version did not write down is not compared."""
    return [
        f"{name.rpartition('/')[2]} was {_shown(before[name])}, is {_shown(value)}"
        for name, value in now.items()
        if name in before and _plain(before[name]) != _plain(value)
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 60 else _SHORT.repr(value)


def _plain(value: Any) -> Any:
    """Return a value as any backend gives it back: tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
