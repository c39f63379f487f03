"""What domain randomisation is asked for: physics and looks that differ from episode to episode."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import Attribute, field, frozen

from simscaleai_core.errors import ConfigError

Range = tuple[float, float]
MAX_DELAY = 100
"""Longest delay of an action [steps]."""


def _range_of(value: Any) -> Any:
    """Return a range as a pair; text is ``"low,high"``, or ``"none"`` as on a command line."""
    if isinstance(value, str):
        if value.strip().lower() == "none":
            return None
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            return value
    return tuple(value) if isinstance(value, list) else value


def _number_of(value: Any) -> Any:
    return 0.0 if _range_of(value) is None else value


def _range(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or not _is_range(*value):
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected (low, high) with "
            f"0 < low <= high, or None, got {value!r}"
        )


def _is_range(*ends: Any) -> bool:
    if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
        return False
    low, high = ends
    return bool(0.0 < low <= high < math.inf)


def _steps(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and not _is_delay(*(value if isinstance(value, tuple) else (value,))):
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected (low, high), whole numbers with "
            f"0 <= low <= high <= {MAX_DELAY}, or None, got {value!r}"
        )


def _is_delay(*ends: Any) -> bool:
    if not all(isinstance(end, int | float) and float(end).is_integer() for end in ends):
        return False
    return len(ends) == 2 and bool(0 <= ends[0] <= ends[1] <= MAX_DELAY)


def _largest(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected a number of at least 0, "
            f"got {value!r}"
        )


@frozen(kw_only=True)
class DomainRandomization:
    """What differs from episode to episode, and by how much; every number is drawn uniformly.

    The ranges are factors on the nominal value; None leaves it as it is. As text they are
    ``"low,high"`` and ``"none"``.

    Raises:
        ConfigError: If a range or a number is out of range.

    Example:
        >>> from simscaleai_plugin_sim.envs import make_push
        >>> env = make_push(randomize=DomainRandomization(mass=(0.5, 2.0), light=None))
        >>> env.close()
    """

    friction: Range | None = field(default=(0.8, 1.2), converter=_range_of, validator=_range)
    """Factor on the sliding friction of fingers, objects and table, one for all [unitless]."""
    mass: Range | None = field(default=(0.7, 1.4), converter=_range_of, validator=_range)
    """Factor on the mass and inertia of each object [unitless]."""
    gains: Range | None = field(default=(0.8, 1.2), converter=_range_of, validator=_range)
    """Factor on stiffness and damping of the servo of each joint [unitless]."""
    delay: Range | None = field(default=None, converter=_range_of, validator=_steps)
    """Control steps after which actions are executed, the same in all of an episode [steps]."""
    light: Range | None = field(default=(0.6, 1.3), converter=_range_of, validator=_range)
    """Factor on the brightness of all lights [unitless]; only images show it."""
    camera_m: float = field(default=0.02, converter=_number_of, validator=_largest)
    """Largest shift of each camera along each axis [m]; only images show it."""
    camera_rad: float = field(default=0.03, converter=_number_of, validator=_largest)
    """Largest turn of each camera about each of its axes [rad]; only images show it."""


PRESETS = {"default": DomainRandomization()}
"""Randomisations by name."""
_NOTHING = DomainRandomization(
    friction=None, mass=None, gains=None, light=None, camera_m=0.0, camera_rad=0.0
)

RandomizationLike = str | Mapping[str, Any] | DomainRandomization | None
"""What an environment takes as ``randomize``."""


def as_randomization(
    value: RandomizationLike, factors: Mapping[str, float]
) -> DomainRandomization | None:
    """Return what differs from episode to episode, and by how much.

    Args:
        value: A randomisation, its name, or its fields by name, of which the missing ones have
            their defaults; None or ``"none"`` for nothing.
        factors: Fixed factors by name: ``friction``, ``mass``, ``gains``, ``light``; what is drawn
            is multiplied by them.

    Returns:
        The randomisation, with ranges of no width where only a factor is given; None if the
        environment is to be as it is.

    Raises:
        ConfigError: If there is none of that name, it has no such field, or a number is out of
            range.
    """
    config = _named(value)
    given = {name: factor for name, factor in factors.items() if factor != 1.0}
    if not given:
        return config
    config = _NOTHING if config is None else config
    return attrs.evolve(config, **{k: _scaled(k, getattr(config, k), f) for k, f in given.items()})


def _named(value: RandomizationLike) -> DomainRandomization | None:
    """Return a randomisation as it was given.

    Raises:
        ConfigError: If there is none of that name, or it has no such field.
    """
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return None
    if isinstance(value, DomainRandomization):
        return value
    names = [field.name for field in attrs.fields(DomainRandomization)]
    if isinstance(value, Mapping):
        if not (unknown := [name for name in value if name not in names]):
            return DomainRandomization(**value)
        close = difflib.get_close_matches(str(unknown[0]), names, n=1, cutoff=0.6)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"randomize: expected factors of {', '.join(sorted(names))}, got {unknown[0]!r}.{hint}"
        )
    if not isinstance(value, str) or value not in PRESETS:
        raise ConfigError(
            f"randomize: expected factors by name ({', '.join(sorted(names))}), or one of "
            f"{', '.join(sorted(PRESETS))}, none, got {value!r}"
        )
    return PRESETS[value]


def _scaled(name: str, limits: Range | None, factor: Any) -> Range:
    """Return a range, or no range, times a fixed factor.

    Raises:
        ConfigError: If the factor is no number above 0.
    """
    if not _is_range(factor, factor):
        raise ConfigError(f"{name}: expected a factor above 0, got {factor!r}")
    low, high = (1.0, 1.0) if limits is None else limits
    return factor * low, factor * high
