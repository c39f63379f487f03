"""``simscale train``: what the flags say becomes a configuration and a run."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

from attrs import fields
from cyclopts import Group, Parameter

from simscaleai_core.cli.configuration import build_config, parse_literal
from simscaleai_core.cli.flags import SUMMARY, Choice, Flag, read_choice
from simscaleai_core.cli.output import be_quiet
from simscaleai_core.cli.terminal import is_first_rank
from simscaleai_core.config import TrainConfig
from simscaleai_core.host.facade import Host

_APPENDED = ("loggers", "eval_fns", "extensions", "transforms", "adapters", "plugins")


def train_command(tokens: Sequence[str]) -> Callable[..., int]:
    """Build the command, with the options of the plugins and components that the arguments name.

    Args:
        tokens: Arguments after ``train``.

    Returns:
        A function whose signature cyclopts turns into flags.
    """
    choice = read_choice(tokens)
    owners = {flag.key: flag.option for flag in choice.flags if flag.option}

    def train(**given: Any) -> int:
        given = {k: v for k, v in given.items() if v is not None}
        as_json, _ = given.pop("json", False), given.pop("config", None)
        be_quiet(given.pop("quiet", False))
        is_recommended = given.pop("recommended", False)
        owned = {owners[k]: given.pop(k) for k in list(given) if k in owners}
        flags = _flag_table(choice.table, given, owned)
        return _train(choice, flags, as_json=as_json, is_recommended=is_recommended)

    groups = {flag.group: Group(flag.group) for flag in choice.flags if flag.group}
    parameters = [parameter_of(flag, groups.get(flag.group)) for flag in choice.flags]
    train.__doc__ = SUMMARY
    signature = inspect.Signature(parameters, return_annotation=int)
    train.__signature__ = signature  # type: ignore[attr-defined]
    train.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
    return train


def parameter_of(flag: Flag, group: Group | None) -> inspect.Parameter:
    """Return the keyword parameter that cyclopts makes a flag from."""
    grouped: dict[str, Any] = {} if group is None else {"group": group}
    shown = Parameter(
        name=list(flag.names),
        help=flag.text,
        **grouped,
        show_default=None if flag.default is None else (lambda _: flag.default),
        negative=flag.negative,
    )
    wanted = [Parameter(converter=_strict_integer), shown] if flag.kind is int else [shown]
    return inspect.Parameter(
        flag.key,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[flag.kind | None, *wanted],
    )


def _train(choice: Choice, flags: Mapping[str, Any], *, as_json: bool, is_recommended: bool) -> int:
    from simscaleai_core.cli.from_config import train_from_config
    from simscaleai_core.cli.output import print_facts, print_json

    config, given = build_config(choice.table, flags), {*choice.table, *flags}
    if is_recommended:
        table = _recommended(config, choice.host, given)
        config, given = build_config(table, choice.table, flags), given | set(table)
    if choice.resumed:
        _tell_changes(build_config(choice.resumed), config)
    # whoever makes a host of its own, here or in a process that is started, finds them too
    os.environ["SIMSCALE_PLUGIN"] = ",".join(choice.host.selection.required)
    trainer, metrics = train_from_config(config, choice.host, given=given)
    summary = {**metrics, "checkpoint": str(trainer.final_checkpoint)}
    if not is_first_rank():
        return 0
    if as_json:
        print_json({k: _finite(v) for k, v in summary.items()})
    else:
        print_facts(summary, title="trained")
    return 0


def _recommended(config: TrainConfig, host: Host, given: Collection[str]) -> dict[str, Any]:
    from simscaleai_core.cli.output import print_note
    from simscaleai_core.cli.recommended import as_text, recommended_table

    table = recommended_table(config, host, given)
    left = {name: value for name, value in table.items() if name not in given}
    print_note(f"recommended settings: {as_text(left) or 'all were given'}")
    return table


def _tell_changes(before: TrainConfig, now: TrainConfig) -> None:
    """Say which settings of a resumed run are other ones than its own."""
    from simscaleai_core.cli.output import print_note

    pairs = {f.name: (getattr(before, f.name), getattr(now, f.name)) for f in fields(TrainConfig)}
    changes = [
        f"{name}={new!r} (was {old!r})"
        for name, (old, new) in pairs.items()
        if old != new and name != "resume_from" and not str(old).endswith(f"/{new}")
    ]
    what = f"but for {', '.join(changes)}" if changes else "unchanged"
    print_note(f"continuing {now.resume_from} with its own configuration, {what}")


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
    if "weights" in flags:
        texts = [part for item in flags["weights"] for part in item.split(",") if part]
        flags["weights"] = [parse_literal(text) for text in texts]
    for (component, option), value in owned.items():
        options.setdefault(component, {})[option] = value
    for name in _APPENDED:
        if name in flags:
            before = table.get(name, getattr(TrainConfig(), name))
            added = [part for item in flags[name] for part in item.split(",") if part]
            flags[name] = [*before, *(n for n in added if n not in before)]
    if options:
        flags["options"] = options
    return flags


def _strict_integer(kind: Any, tokens: Sequence[Any]) -> int:
    """Read an integer; cyclopts itself would round 1.5 to 2."""
    del kind
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected int, got {text!r}") from None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
