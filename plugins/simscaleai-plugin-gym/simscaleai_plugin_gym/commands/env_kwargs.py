"""Options of an environment on a command line: ``--env-kwargs.NAME VALUE``, nested by dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token


def _read(kind: object, tokens: Mapping[str, Any] | Sequence[Token]) -> dict[str, Any]:  # noqa: ARG001
    """Return the options that the tokens give, by name.

    Raises:
        ConfigError: If there is a value without a name.
    """
    from simscaleai_core.cli.configuration import parse_literal
    from simscaleai_core.errors import ConfigError

    if isinstance(tokens, Mapping):
        return {k.replace("-", "_"): _value(v, parse_literal) for k, v in tokens.items()}
    text = tokens[0].value
    table = parse_literal(text)
    if not isinstance(table, dict):
        raise ConfigError(
            f"env_kwargs: expected --env-kwargs.NAME VALUE, or a table, got {text!r}. Name the "
            "option."
        )
    return table


def _value(tokens: Any, parse: Any) -> Any:
    if isinstance(tokens, Mapping):
        return {k.replace("-", "_"): _value(v, parse) for k, v in tokens.items()}
    return parse(tokens[0].value)


EnvKwargs = Annotated[dict[str, Any] | None, Parameter(show_default=False, converter=_read)]
"""Type of a command's argument that takes them, such as ``--env-kwargs.randomize.mass 0.5,2``."""
