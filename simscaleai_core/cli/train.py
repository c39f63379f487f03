"""``simscale train``: fields of `TrainConfig` and options of the named plugins as flags."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import attrs
from cyclopts import Group, Parameter

from simscaleai_core.config import TrainConfig
from simscaleai_core.configio import build_config, field_docs, parse_literal, read_toml
from simscaleai_core.errors import ConfigError
from simscaleai_core.host import Component, Host, import_target, select_plugins

_SHORT = {
    "model_name": "--model",
    "dataset_path": "--dataset",
    "resume_from": "--resume",
    "plugins": "--plugin",
    "loggers": "--logger",
    "eval_fns": "--eval-fn",
    "extensions": "--extension",
}
_APPENDED = ("loggers", "eval_fns", "extensions", "plugins")
_HELP = """Train a policy.

An empty --dataset trains on the dummy dataset. Flags override --config."""


def train_command(tokens: Sequence[str]) -> Callable[..., int]:
    """Build the command, with the options of the plugins and components that the arguments name.

    Args:
        tokens: Arguments after ``train``.

    Returns:
        A function whose signature cyclopts turns into flags.
    """
    table = read_toml(Path(path)) if (path := _last(tokens, "--config")) else {}
    in_file = table.get("plugins", [])
    named = [*_values(tokens, "--plugin", "--plugins"), *(in_file if _is_names(in_file) else [])]
    host = Host(select_plugins(named))
    components = _in_play(host, tokens, table)

    own = list(_option_parameters(components))
    owners = {parameter.name: owner for parameter, owner in own}

    def train(**given: Any) -> int:
        given = {k: v for k, v in given.items() if v is not None}
        as_json, path = given.pop("json", False), given.pop("config", None)
        owned = {owners[k]: given.pop(k) for k in list(given) if k in owners}
        flags = _flag_table(table, given, owned)
        return _train(host, table if path else {}, flags, as_json=as_json)

    parameters = [*_own_parameters(), *_config_parameters(), *(p for p, _ in own)]
    train.__doc__ = _HELP
    signature = inspect.Signature(parameters, return_annotation=int)
    train.__signature__ = signature  # type: ignore[attr-defined]
    train.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
    return train


def _train(host: Host, table: Mapping[str, Any], flags: Mapping[str, Any], *, as_json: bool) -> int:
    from simscaleai_core.assembly import train_from_config
    from simscaleai_core.cli.output import print_facts, print_json

    config = build_config(table, flags)
    trainer, metrics = train_from_config(config, host, given={*table, *flags})
    summary = {**metrics, "checkpoint": str(trainer.final_checkpoint)}
    if int(os.environ.get("RANK", "0")) > 0:
        return 0  # rank 0 speaks for all
    if as_json:
        print_json({k: _finite(v) for k, v in summary.items()})
    else:
        print_facts(summary, title="trained")
    return 0


def _flag_table(
    table: Mapping[str, Any], given: Mapping[str, Any], owned: Mapping[tuple[str, str], Any]
) -> dict[str, Any]:
    """Return the flags as a table of the configuration; `owned` is by (component, option)."""
    flags: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        if isinstance(value, dict):
            flags[name] = {k.replace("-", "_"): parse_literal(v) for k, v in value.items()}
        else:
            flags[name] = value
    for (component, option), value in owned.items():
        options.setdefault(component, {})[option] = value
    for name in _APPENDED:
        if name in flags:
            before = table.get(name, getattr(TrainConfig(), name))
            added = [part for item in flags[name] for part in item.split(",") if part]
            flags[name] = list(dict.fromkeys([*before, *added]))
    if options:
        flags["options"] = options
    return flags


def _own_parameters() -> Iterator[inspect.Parameter]:
    texts = {
        "config": (Path, "TOML file with fields of the configuration; flags override it."),
        "json": (bool, "Print one JSON object to standard output and nothing else."),
    }
    for name, (kind, text) in texts.items():
        yield _parameter(name, kind, Parameter(name=f"--{name}", help=text, negative=""))


def _config_parameters() -> Iterator[inspect.Parameter]:
    docs, hints = field_docs(TrainConfig), get_type_hints(TrainConfig)
    group = Group("Configuration")
    defaults = TrainConfig()
    for field in attrs.fields(TrainConfig):
        if field.name == "options":
            continue  # shown as --NAME.option
        flag = f"--{field.name.replace('_', '-')}"
        names = [_SHORT[field.name], flag] if field.name in _SHORT else [flag]
        yield _parameter(
            field.name,
            _flag_type(hints[field.name]),
            Parameter(
                name=names,
                help=docs[field.name],
                group=group,
                show_default=_shown(getattr(defaults, field.name)),
                negative=_negative(flag, hints[field.name]),
            ),
        )


def _option_parameters(
    components: Sequence[Component],
) -> Iterator[tuple[inspect.Parameter, tuple[str, str]]]:
    """Yield each option's parameter, and which option of which component it is."""
    for component in components:
        if component.spec.options is None:
            continue
        cls = import_target(component, component.spec.options)
        docs, hints = field_docs(cls), get_type_hints(cls)
        short = component.spec.name
        group = Group(f"Options of the {component.kind.replace('_', ' ')} {component.id}")
        for field in attrs.fields(cls):
            flag = f"--{short.replace('_', '-')}.{field.name.replace('_', '-')}"
            default = None if field.default is attrs.NOTHING else field.default
            shown = Parameter(
                name=flag,
                help=docs.get(field.name, ""),
                group=group,
                show_default=_shown(default),
                negative=_negative(flag, hints[field.name]),
            )
            unique = f"{short.replace('-', '_')}__{field.name}"
            yield _parameter(unique, _flag_type(hints[field.name]), shown), (short, field.name)


def _parameter(name: str, kind: Any, parameter: Parameter) -> inspect.Parameter:
    wanted = [Parameter(converter=_strict_integer), parameter] if kind is int else [parameter]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, *wanted],
    )


def _strict_integer(kind: Any, tokens: Sequence[Any]) -> int:
    """Read an integer; cyclopts itself would round 1.5 to 2."""
    del kind
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected int, got {text!r}") from None


def _flag_type(hint: Any) -> Any:
    """Return the type of a flag for the type of a field."""
    members = [m for m in get_args(hint) if m is not type(None)]
    if type(None) in get_args(hint):
        return _flag_type(members[0])
    origin = get_origin(hint)
    if origin is tuple:
        return list[members[0]]  # type: ignore[valid-type]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, str]
    return hint


def _negative(flag: str, hint: Any) -> str:
    """Return the flag that switches a switch off; other flags have none."""
    owner, dot, name = flag.removeprefix("--").rpartition(".")
    return f"--{owner}{dot}no-{name}" if hint is bool else ""


def _shown(default: Any) -> Callable[[Any], str]:
    if isinstance(default, (tuple, list)):
        text = ", ".join(map(str, default)) or "none"
    else:
        text = "none" if default in (None, "") or default == {} else str(default)
    return lambda _: text


def _in_play(host: Host, tokens: Sequence[str], table: Mapping[str, Any]) -> list[Component]:
    """Return the components of required plugins, and those named for a slot."""
    names = {
        "model": _values(tokens, "--model", "--model-name") or [table.get("model_name", "")],
        "logger": _values(tokens, "--logger", "--loggers"),
        "eval_function": _values(tokens, "--eval-fn", "--eval-fns"),
        "extension": _values(tokens, "--extension", "--extensions"),
        "dataset": _values(tokens, "--dataset-name"),
        "precision": _values(tokens, "--precision"),
        "strategy": _values(tokens, "--strategy"),
    }
    if _values(tokens, "--env"):
        names["eval_function"].append("closed_loop")
    required = {host.canonical(n) for n in host.selection.required}
    found = [
        c
        for c in host.components
        if c.plugin in required or {c.id, c.spec.name} & set(names.get(c.kind, ()))
    ]
    by_name: dict[str, Component] = {}
    for component in found:
        by_name.setdefault(component.spec.name, component)
    return list(by_name.values())


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
    raise ConfigError(f"field 'plugins': expected a list of names, got {value!r}")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
