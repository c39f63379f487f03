"""The flags of ``simscale train``: fields of `TrainConfig` and options of what a run names.

They are described here without the command line's library, so that ``train --help`` need not load
it; `train` makes them into a command.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from simscaleai_core.cli.configuration import field_docs, read_toml
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError, UnknownComponentError
from simscaleai_core.host.defaults import MANY_FIELDS, ONE_FIELDS
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import flag_of, import_target
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import KINDS

SUMMARY = """Train a policy.

An empty --dataset trains on the dummy dataset. Flags override --config."""

_SHORT = {
    "model_name": "--model",
    "dataset_path": "--dataset",
    "resume_from": "--resume",
    "plugins": "--plugin",
    "loggers": "--logger",
    "eval_fns": "--eval-fn",
    "extensions": "--extension",
    "transforms": "--transform",
    "adapters": "--adapter",
    "init_statistics": "--init-from.statistics",
    "init_partial": "--init-from.partial",
    "quiet": "-q",
}
QUIET = "Show no progress and no notes: only results, warnings and errors."
"""What ``--quiet`` is for."""
_ALWAYS_THERE = ("optimizer", "schedule", "train_step")
_OWN = {
    "config": (Path, "TOML file with fields of the configuration; flags override it."),
    "json": (bool, "Print one JSON object to standard output and nothing else."),
    "quiet": (bool, QUIET),
    "recommended": (
        bool,
        "Take what the model recommends where nothing is given; `simscale models NAME` shows it.",
    ),
}


@attrs.frozen(kw_only=True)
class Flag:
    """One flag of ``train``."""

    key: str
    """Name of the parameter that it fills; unique."""
    names: tuple[str, ...]
    """What a user may write, the preferred one first."""
    kind: Any
    """Type of its value."""
    text: str
    """What it is for."""
    default: str | None = None
    """Its default as help shows it, if any."""
    negative: str = ""
    """What switches it off, if anything."""
    group: str = ""
    """Heading that it stands under; empty for the general one."""
    option: tuple[str, str] | None = None
    """Component and option that it sets; None for a field of the configuration."""


@attrs.frozen(kw_only=True)
class Choice:
    """What the arguments of ``train`` name before they are parsed."""

    host: Host
    """Host with the plugins that are asked for."""
    table: dict[str, Any]
    """The configuration file's content, over that of the run to be resumed."""
    resumed: dict[str, Any]
    """The configuration of the run to be resumed; empty if there is none."""
    flags: tuple[Flag, ...]
    """All flags, with the options of the components in play."""


def read_choice(tokens: Sequence[str]) -> Choice:
    """Find what the arguments name, and the flags that follow from it.

    Args:
        tokens: Arguments after ``train``.

    Returns:
        The host, the configuration that is given besides, and the flags.

    Raises:
        SimScaleError: If the file cannot be read, a plugin that is asked for cannot be loaded, or
            a component that is named is not there.
    """  # noqa: DOC501 - of kinds of SimScaleError
    resumed, sources = _resumed_run(tokens)
    table = resumed | (read_toml(Path(path)) if (path := _last(tokens, "--config")) else {})
    in_file = table.get("plugins", [])
    named = [*_values(tokens, "--plugin", "--plugins"), *(in_file if _is_names(in_file) else [])]
    host = Host(select_plugins(named))
    try:
        components = _in_play(host, tokens, table)
    except UnknownComponentError as error:
        if error.name not in sources:
            raise
        from simscaleai_core.host.registry import needed_error

        raise needed_error(resumed["resume_from"], error, sources[error.name]) from error
    flags = [*_own_flags(), *_config_flags(), *option_flags(components)]
    return Choice(host=host, table=table, resumed=resumed, flags=tuple(flags))


def _resumed_run(tokens: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the checkpoint says that ``--resume`` names, if it names a file.

    Its run's configuration; and what each plugin, and each component of one, came with.
    """
    reference = _last(tokens, "--resume") or _last(tokens, "--resume-from")
    if reference is None or reference == "auto" or _is_help(tokens):
        return {}, {}
    from simscaleai_core.host.registry import load_checkpoint

    known, tree = attrs.fields_dict(TrainConfig), load_checkpoint(reference)
    found = {k: v for k, v in tree["config"].items() if k in known and v is not None}
    sources: dict[str, str] = dict(tree["facts"].get("plugins", {}))
    for used in tree.get("settings", {}).values():
        for name in used if isinstance(used, list) else [used]:
            plugin, _, short = str(name).partition("/")
            if short and plugin in sources:
                sources |= dict.fromkeys((name, short), sources[plugin])
    place = {"resume_from": reference, "checkpoint_dir": str(Path(reference).parent)}
    return {**found, **place}, sources


def _is_help(tokens: Sequence[str]) -> bool:
    return "--help" in tokens or "-h" in tokens


def _own_flags() -> Iterator[Flag]:
    for name, (kind, text) in _OWN.items():
        short = (_SHORT[name],) if name in _SHORT else ()
        yield Flag(key=name, names=(f"--{name}", *short), kind=kind, text=text)


def _config_flags() -> Iterator[Flag]:
    docs, hints = field_docs(TrainConfig), get_type_hints(TrainConfig)
    defaults = TrainConfig()
    for field in attrs.fields(TrainConfig):
        if field.name == "options":
            continue  # shown as --NAME.option
        flag = f"--{field.name.replace('_', '-')}"
        yield Flag(
            key=field.name,
            names=(_SHORT[field.name], flag) if field.name in _SHORT else (flag,),
            kind=list[str] if field.name == "weights" else _flag_type(hints[field.name]),
            text=docs[field.name],
            default=_shown(getattr(defaults, field.name)),
            negative=_negative(flag, hints[field.name]),
            group="Configuration",
        )


def option_flags(components: Sequence[Component]) -> Iterator[Flag]:
    """Yield a flag ``--NAME.option`` for each option of some components."""
    for component in components:
        if component.spec.options is None:
            continue
        cls = import_target(component, component.spec.options)
        docs, hints = field_docs(cls), get_type_hints(cls)
        short = component.spec.name
        for field in attrs.fields(cls):
            flag = f"--{short.replace('_', '-')}.{field.name.replace('_', '-')}"
            yield Flag(
                key=f"{short.replace('-', '_')}__{field.name}",
                names=(flag,),
                kind=_flag_type(hints[field.name]),
                text=docs.get(field.name, ""),
                default=_shown(None if field.default is attrs.NOTHING else field.default),
                negative=_negative(flag, hints[field.name]),
                group=f"Options of the {component.kind.replace('_', ' ')} {component.id}",
                option=(short, field.name),
            )


def _flag_type(hint: Any) -> Any:
    """Return the type of a flag for the type of a field; of several values or one, a list."""
    members = [m for m in get_args(hint) if m is not type(None)]
    if type(None) in get_args(hint):
        return _flag_type(members[0])
    origin = get_origin(hint)
    if any(get_origin(member) is tuple for member in members):
        return list[members[0]]  # type: ignore[valid-type]
    if origin is tuple:
        return list[members[0]]  # type: ignore[valid-type]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, str]
    return hint


def _negative(flag: str, hint: Any) -> str:
    """Return the flag that switches a switch off; other flags have none."""
    owner, dot, name = flag.removeprefix("--").rpartition(".")
    return f"--{owner}{dot}no-{name}" if hint is bool else ""


def _shown(default: Any) -> str:
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    if isinstance(default, (tuple, list)):
        text = ", ".join(map(str, default)) or "none"
    else:
        text = "none" if default in (None, "") or default == {} else str(default)
    return text


def _in_play(host: Host, tokens: Sequence[str], table: Mapping[str, Any]) -> list[Component]:
    """Return the components of required plugins, and those that a field names.

    A name of none is refused here: its options would be unknown flags.
    """
    names = {kind: set(_named(tokens, table, kind)) for kind in KINDS}
    known = {(c.kind, name) for c in host.components for name in (c.id, c.spec.name)}
    for kind in () if _is_help(tokens) else names.keys() - {"env"}:
        for name in sorted(names[kind]):
            if (kind, name) not in known:
                host.component(kind, name)
    if _values(tokens, "--env") or table.get("env"):
        names["eval_function"].add("gym/closed_loop")
    required = {host.record(n).name for n in host.selection.required}
    found = [
        c for c in host.components if c.plugin in required or {c.id, c.spec.name} & names[c.kind]
    ]
    by_name: dict[str, Component] = {}
    for component in [*found, *_default_model(host, names["model"])]:
        by_name.setdefault(component.spec.name, component)
    if not _is_help(tokens):
        _refuse_options_of_others(host, tokens, by_name)
    return list(by_name.values())


def _default_model(host: Host, named: Collection[str]) -> list[Component]:
    """Return the model that a run has if nothing names one, and no plugin selects one."""
    if named or (host.selection.required and host.selected("model")):
        return []
    default = TrainConfig().model_name
    return [c for c in host.of_kind("model") if c.id == f"{default}/{default}"]


def _refuse_options_of_others(
    host: Host, tokens: Sequence[str], in_play: Mapping[str, Component]
) -> None:
    """Refuse an option of a component that is installed and that the run does not use.

    Raises:
        ConfigError: If there is one.
    """
    used = {name.replace("_", "-") for name in in_play}
    for token in tokens:
        owner, dot, _ = token.removeprefix("--").partition(".")
        if not token.startswith("--") or not dot or owner in used:
            continue
        for component in host.components:
            if component.spec.name.replace("_", "-") == owner and component.spec.options:
                kind, flag = component.kind.replace("_", " "), flag_of(component.kind)
                raise ConfigError(
                    f"{token.partition('=')[0]} is an option of the {kind} {component.id!r}, which "
                    f"this run does not use. Add {flag} {component.spec.name}, or leave it out."
                )


def _named(tokens: Sequence[str], table: Mapping[str, Any], kind: str) -> list[str]:
    """Return the components of a kind that the arguments name, or else the table or the default."""
    field = MANY_FIELDS.get(kind) or ONE_FIELDS[kind]
    given = _values(tokens, f"--{field.replace('_', '-')}", _SHORT.get(field, ""))
    found = table.get(field, getattr(TrainConfig(), field) if kind in _ALWAYS_THERE else None)
    others = found if isinstance(found, (list, tuple)) else [found]
    is_open = kind in MANY_FIELDS or not given
    return [*given, *(n for n in others if isinstance(n, str) and is_open)]


def _values(tokens: Sequence[str], *flags: str) -> list[str]:
    """Return the values that the arguments give to a flag, before they are parsed."""
    values: list[str] = []
    for place, token in enumerate(tokens):
        name, has_value, value = token.partition("=")
        if name in flags:
            follows = tokens[place + 1 : place + 2]
            values += [value] if has_value else [v for v in follows if not v.startswith("--")]
    return [part for value in values for part in value.split(",") if part]


def _last(tokens: Sequence[str], flag: str) -> str | None:
    found = _values(tokens, flag)
    return found[-1] if found else None


def _is_names(value: object) -> bool:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return True
    raise ConfigError(f"field 'plugins': expected a list of names, got {value!r}.")
